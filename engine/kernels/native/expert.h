// One expert from the bytes of its record, in place: up (gate and up together), activation, down.
#pragma once
#include "linear.h"

namespace edgemoe {

// Where a matrix lies in a record; offsets in bytes, -1 for what there is not. Mirrored by engine/kernels/library.py.
struct Place {
  int64_t codes, scales, unit, bias;
  int32_t rows, columns, padded, group;
  float center;
  int32_t kind, bias_kind;
  int32_t outliers;  // how many, 0: none
  int64_t outlier_counts, outlier_columns, outlier_values;
};

// Every record of one width. `gated`: the up projection's rows are gate and up, one after the other, or alternating (`interleaved`).
struct ExpertLayout {
  Place up, down;
  int32_t bits, gated, interleaved, activation;
};

inline Matrix matrix_at(const uint8_t* record, const Place& p) {
  Matrix m{};
  m.codes = record + p.codes;
  m.scales = p.scales < 0 ? nullptr : reinterpret_cast<const uint16_t*>(record + p.scales);
  m.bias = p.bias < 0 ? nullptr : record + p.bias;
  m.kind = p.kind;
  m.bias_kind = p.bias_kind;
  m.rows = p.rows;
  m.columns = p.columns;
  m.padded = p.padded;
  m.group = p.group;
  m.unit = p.scales < 0 ? 1.0f : *reinterpret_cast<const float*>(record + p.unit);
  m.center = p.center;
  if (p.outliers > 0) {
    m.outliers = p.outliers;
    m.outlier_counts = record + p.outlier_counts;
    m.outlier_columns = reinterpret_cast<const uint16_t*>(record + p.outlier_columns);
    m.outlier_values = reinterpret_cast<const uint16_t*>(record + p.outlier_values);
  }
  return m;
}

// An expert under way on its tokens; kept from call to call for its memory.
struct ExpertWork {
  Matrix up, down;
  std::vector<float> hidden, gated;
  Prepared ready;  // `gated`, as the down projection wants it
  std::atomic<int64_t> spent{0};

  void begin(const uint8_t* record, const ExpertLayout& l, int tokens) {
    up = matrix_at(record, l.up);
    down = matrix_at(record, l.down);
    hidden.resize(size_t(tokens) * up.rows);
    gated.resize(size_t(tokens) * down.columns);
    spent = 0;
  }

  void activate(const Products& products, const ExpertLayout& l, int tokens) {
    const int n = down.columns;
    for (int t = 0; t < tokens; ++t) {
      const float* h = hidden.data() + size_t(t) * up.rows;
      const float* other = !l.gated ? nullptr : l.interleaved ? h + 1 : h + n;
      products.gate(Activation(l.activation), h, other, l.gated && l.interleaved ? 2 : 1, gated.data() + size_t(t) * n, n);
    }
    ready.set(gated.data(), tokens, n, n);
  }
};

// y[t, :] = expert(x[t])
inline void run_expert(const Means& c, ExpertWork& work, const uint8_t* record, const ExpertLayout& l, Prepared& x, int tokens, float* y,
                       int64_t stride) {
  work.begin(record, l, tokens);
  linear(c, work.up, x, work.hidden.data(), work.up.rows);
  work.activate(*c.products, l, tokens);
  linear(c, work.down, work.ready, y, stride);
}

}  // namespace edgemoe
