// Plain C++ for any processor, and for the shapes that the others leave out.
#include <algorithm>
#include <cmath>

#include "codes.h"
#include "elementwise.h"

namespace edgemoe {
namespace {

// One row for one token. Weight groups need not be activation groups: the sum is made over the stretches that share both.
template <class Code>
float quantized_row(const Matrix& w, int row, const uint8_t* codes, const Code* x, const float* x_scale) {
  const uint16_t* scales = w.scales + int64_t(row) * (w.padded / w.group);
  float sum = 0.0f;
  for (int c = 0; c < w.columns;) {
    const int end = std::min({(c / w.group + 1) * w.group, (c / kGroup + 1) * kGroup, w.columns});
    const float scale = from_half(scales[c / w.group]) * x_scale[c / kGroup];
    int64_t dot = 0, codes_sum = 0;
    for (; c < end; ++c) {
      dot += int32_t(codes[c]) * x[c];
      codes_sum += x[c];
    }
    sum += scale * (float(dot) - w.center * float(codes_sum));
  }
  return sum * w.unit;
}

float plain_value(const Matrix& w, int64_t index) {
  if (w.kind == F32) return reinterpret_cast<const float*>(w.codes)[index];
  const uint16_t bits = reinterpret_cast<const uint16_t*>(w.codes)[index];
  return w.kind == BF16 ? from_bfloat(bits) : from_half(bits);
}

void quantized_rows(const Matrix& w, const Activations& x, float* y, int64_t stride, int begin, int end) {
  const int64_t width = int64_t(x.groups) * kGroup;
  uint8_t* codes = new uint8_t[w.padded];
  for (int row = begin; row < end; ++row) {
    unpack_row(w.codes + row * row_bytes(w), w.kind, w.padded, 0, w.padded, codes);
    for (int t = 0; t < x.tokens; ++t) {
      const float sum = w.kind == Q8 ? quantized_row(w, row, codes, x.q16 + t * width, x.scale16 + t * x.groups)
                                     : quantized_row(w, row, codes, x.q8 + t * width, x.scale8 + t * x.groups);
      y[t * stride + row] = sum + bias_of(w, row);
    }
  }
  delete[] codes;
}

void plain_rows(const Matrix& w, const Activations& x, float* y, int64_t stride, int begin, int end) {
  float* values = new float[w.columns];
  for (int row = begin; row < end; ++row) {
    for (int c = 0; c < w.columns; ++c) values[c] = plain_value(w, int64_t(row) * w.columns + c);
    for (int t = 0; t < x.tokens; ++t) y[t * stride + row] = dot_floats(values, x.values + t * x.stride, w.columns) + bias_of(w, row);
  }
  delete[] values;
}

void rows_any(const Matrix& w, const Activations& x, float* y, int64_t stride, int begin, int end) {
  (is_quantized(w) ? quantized_rows : plain_rows)(w, x, y, stride, begin, end);
}

void gather_any(const uint16_t* values, const uint16_t* columns, int n, const float* x, int size, float* terms) {
  for (int i = 0; i < n; ++i) terms[i] = columns[i] < size ? from_half(values[i]) * x[columns[i]] : 0.0f;
}

// Codes within [-top, top] against the group's largest value. A group too small to divide by counts as zero; one that is not
// finite makes its products not finite, as it would unquantized.
template <class Code>
void quantize(const float* x, int columns, float top, Code* codes, float* scales, float* sums) {
  for (int g = 0, start = 0; g < groups_of(columns); ++g, start += kGroup) {
    const int n = std::max(0, std::min(kGroup, columns - start));
    float largest = 0.0f;
    bool finite = true;
    for (int i = 0; i < n; ++i) {
      largest = std::max(largest, std::fabs(x[start + i]));
      finite &= std::isfinite(x[start + i]);
    }
    const float inverse = finite && largest > 1e-30f ? top / largest : 0.0f;
    int64_t sum = 0;
    for (int i = 0; i < kGroup; ++i) {
      const Code code = i < n && inverse > 0.0f ? Code(std::nearbyint(x[start + i] * inverse)) : Code(0);
      codes[start + i] = code;
      sum += code;
    }
    scales[g] = finite ? (inverse > 0.0f ? largest / top : 0.0f) : NAN;
    sums[g] = scales[g] * float(sum);
  }
}

void quantize8_any(const float* x, int columns, int8_t* codes, float* scales, float* sums) {
  quantize(x, columns, 127.0f, codes, scales, sums);
}

void quantize16_any(const float* x, int columns, int16_t* codes, float* scales, float* sums) {
  quantize(x, columns, 32767.0f, codes, scales, sums);
}

float powers_any(const float* x, float less, int n, float* out) {
  float sum = 0.0f;
  for (int i = 0; i < n; ++i) {
    const float power = exp_fast(x[i] - less);
    if (out != nullptr) out[i] = power;
    sum += power;
  }
  return sum;
}

void attend_any(const float* q, const float* keys, const float* values, int length, int dim, float scale, float* scores, float* out) {
  attend_with([](float* x, float less, int n) { return powers_any(x, less, n, x); }, q, keys, values, length, dim, scale, scores, out);
}

}  // namespace

const Products& portable_products() {
  static const Products products = {"portable C++", rows_any,   gather_any,     quantize8_any, quantize16_any, gate_any,
                                    rms_norm_any,   attend_any, add_scaled_any, scale_any,     powers_any};
  return products;
}

}  // namespace edgemoe
