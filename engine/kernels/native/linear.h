// Matrix products over the pool: activations made ready once, rows handed out in chunks.
#pragma once
#include <atomic>
#include <vector>

#include "outliers.h"
#include "pool.h"
#include "products.h"
#include "recording/clock.h"

namespace edgemoe {

// What one thread at a time computes with: the products, the pool, and memory that is kept from call to call.
struct Means {
  const Products* products;
  Pool* pool;
};

// Activations in the forms that the weights met so far asked for; made when first asked for.
class Prepared {
 public:
  // x: [tokens, columns], `stride` floats from token to token.
  void set(const float* x, int tokens, int columns, int64_t stride) {
    a_ = {};
    a_.tokens = tokens;
    a_.columns = columns;
    a_.groups = groups_of(columns);
    a_.values = x;
    a_.stride = stride;
  }

  const Activations& for_kind(const Products& products, int kind) {
    if (kind == Q8 && a_.q16 == nullptr) {
      a_.q16 = fill(products.quantize16, codes16_, scale16_, sum16_);
      a_.scale16 = scale16_.data();
      a_.sum16 = sum16_.data();
    } else if (kind < Q8 && a_.q8 == nullptr) {
      a_.q8 = fill(products.quantize8, codes8_, scale8_, sum8_);
      a_.scale8 = scale8_.data();
      a_.sum8 = sum8_.data();
    }
    return a_;
  }

 private:
  template <class Code>
  const Code* fill(void (*quantize)(const float*, int, Code*, float*, float*), std::vector<Code>& codes, std::vector<float>& scales,
                   std::vector<float>& sums) {
    const size_t groups = size_t(a_.groups);
    codes.resize(a_.tokens * groups * kGroup);
    scales.resize(a_.tokens * groups);
    sums.resize(a_.tokens * groups);
    for (int t = 0; t < a_.tokens; ++t)
      quantize(a_.values + t * a_.stride, a_.columns, codes.data() + t * groups * kGroup, scales.data() + t * groups, sums.data() + t * groups);
    return codes.data();
  }

  Activations a_{};
  std::vector<int8_t> codes8_;
  std::vector<int16_t> codes16_;
  std::vector<float> scale8_, sum8_, scale16_, sum16_;
};

// One product: y[t, :] = W x[t] + bias, y with `stride` floats a token. `spent` gathers ns of all threads, where it is asked for.
struct Product {
  const Matrix* w;
  const Activations* x;
  float* y;
  int64_t stride;
  std::atomic<int64_t>* spent = nullptr;
};

// Rows a thread takes at a time: enough bytes that what it fetches ahead is mostly its own, few enough that threads end together. A multiple
// of 8.
inline int chunk_rows(const Matrix& w) {
  const int64_t rows = (int64_t(128) << 10) / (row_bytes(w) + 1);
  return int(rows < 8 ? 8 : rows & ~int64_t(7));
}

// All these products, their rows handed out in one go.
inline void multiply(const Means& c, const Product* list, int count) {
  auto rows = [&](const Product& p, int begin, int end) {
    const int64_t began = p.spent != nullptr ? now_ns() : 0;
    c.products->rows(*p.w, *p.x, p.y, p.stride, begin, end);
    if (p.w->outliers > 0) add_outliers(*c.products, *p.w, *p.x, p.y, p.stride, begin, end);
    if (p.spent != nullptr) p.spent->fetch_add(now_ns() - began, std::memory_order_relaxed);
  };
  if (c.pool->threads() == 1) {
    for (int i = 0; i < count; ++i) rows(list[i], 0, list[i].w->rows);
    return;
  }
  struct Piece {
    const Product* product;
    int begin, end;
  };
  static thread_local std::vector<Piece> pieces;
  pieces.clear();
  for (int i = 0; i < count; ++i) {
    const int n = list[i].w->rows, chunk = chunk_rows(*list[i].w);
    for (int begin = 0; begin < n; begin += chunk) pieces.push_back({list + i, begin, begin + chunk < n ? begin + chunk : n});
  }
  const Piece* piece = pieces.data();
  c.pool->run(int(pieces.size()), 1, [&](int begin, int end) {
    for (int i = begin; i < end; ++i) rows(*piece[i].product, piece[i].begin, piece[i].end);
  });
}

inline void linear(const Means& c, const Matrix& w, Prepared& x, float* y, int64_t stride) {
  const Product product = {&w, &x.for_kind(*c.products, w.kind), y, stride};
  multiply(c, &product, 1);
}

}  // namespace edgemoe
