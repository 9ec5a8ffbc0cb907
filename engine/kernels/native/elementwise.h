// Loops over floats that every instruction set shares: each products_*.cpp compiles them with its own flags.
#pragma once
#include <cmath>
#include <cstdint>
#include <initializer_list>

#include "half.h"
#include "products.h"

namespace edgemoe {
namespace {

// a * b + c: in one step where the processor has one, and never by the compiler's choice, so that sums do not depend on how it inlines.
inline float multiply_add(float a, float b, float c) {
#if defined(__FMA__)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

// exp(x) to about 2 units in the last place: 2^n by the exponent's bits, 2^f by a polynomial; written so that compilers vectorize it.
inline float exp_fast(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  const float shifted = multiply_add(x, 1.44269504f, 12582912.0f);  // 1.5 * 2^23: rounds to an integer, kept in the low bits
  const float n = shifted - 12582912.0f;
  const float r = multiply_add(n, -1.42860677e-6f, multiply_add(n, -0.693145752f, x));
  float p = 1.98756915e-4f;
  for (const float c : {1.39819995e-3f, 8.33345190e-3f, 4.16657957e-2f, 1.66666657e-1f, 0.5f}) p = multiply_add(p, r, c);
  p = multiply_add(p * r, r, r) + 1.0f;
  return p * float_of_bits((bits_of_float(shifted) << 23) + 0x3f800000u);
}

inline float silu(float x) { return x / (1.0f + exp_fast(-x)); }
inline float gelu(float x) { return 0.5f * x * (1.0f + std::erf(x * 0.70710678f)); }
inline float gelu_tanh(float x) { return 0.5f * x * (1.0f + std::tanh(0.79788456f * (x + 0.044715f * x * x * x))); }
inline float relu(float x) { return x > 0.0f ? x : 0.0f; }

template <class F>
inline void gate_with(F activation, const float* gate, const float* up, int step, float* out, int n) {
  if (up == nullptr) {
    for (int i = 0; i < n; ++i) out[i] = activation(gate[i]);
  } else if (step == 1) {
    for (int i = 0; i < n; ++i) out[i] = activation(gate[i]) * up[i];
  } else {
    for (int i = 0; i < n; ++i) out[i] = activation(gate[i * step]) * up[i * step];
  }
}

void gate_any(Activation kind, const float* gate, const float* up, int step, float* out, int n) {
  switch (kind) {
    case SILU: return gate_with([](float x) { return silu(x); }, gate, up, step, out, n);
    case GELU: return gate_with([](float x) { return gelu(x); }, gate, up, step, out, n);
    case GELU_TANH: return gate_with([](float x) { return gelu_tanh(x); }, gate, up, step, out, n);
    case RELU: return gate_with([](float x) { return relu(x); }, gate, up, step, out, n);
    case RELU2: return gate_with([](float x) { return relu(x) * relu(x); }, gate, up, step, out, n);
  }
}

// Sums in eight lanes, so that compilers may use registers without being allowed to reorder.
inline float dot_floats(const float* a, const float* b, int n) {
  float lanes[16] = {};
  int i = 0;
  for (; i + 16 <= n; i += 16)
    for (int j = 0; j < 16; ++j) lanes[j] = multiply_add(a[i + j], b[i + j], lanes[j]);
  float sum = 0.0f;
  for (; i < n; ++i) sum = multiply_add(a[i], b[i], sum);
  for (int half = 8; half > 0; half /= 2)
    for (int j = 0; j < half; ++j) lanes[j] += lanes[j + half];
  return sum + lanes[0];
}

void rms_norm_any(const float* x, const float* weight, float eps, float* out, int n) {
  const float scale = 1.0f / std::sqrt(dot_floats(x, x, n) / float(n) + eps);
  for (int i = 0; i < n; ++i) out[i] = weight[i] * (x[i] * scale);
}

void add_scaled_any(float* y, const float* x, float scale, int n) {
  for (int i = 0; i < n; ++i) y[i] = multiply_add(scale, x[i], y[i]);
}

void scale_any(float* y, float scale, int n) {
  for (int i = 0; i < n; ++i) y[i] *= scale;
}

// `powers(scores, less, n)` turns scores into exp(score - less) and returns their sum.
template <class Powers>
inline void attend_with(Powers powers, const float* q, const float* keys, const float* values, int length, int dim, float scale,
                        float* scores, float* out) {
  float largest = -INFINITY;
  for (int j = 0; j < length; ++j) {
    scores[j] = scale * dot_floats(q, keys + int64_t(j) * dim, dim);
    largest = scores[j] > largest ? scores[j] : largest;
  }
  const float total = powers(scores, largest, length);
  for (int i = 0; i < dim; ++i) out[i] = 0.0f;
  for (int j = 0; j < length; ++j) add_scaled_any(out, values + int64_t(j) * dim, scores[j], dim);
  scale_any(out, 1.0f / total, dim);
}

inline float bias_of(const Matrix& w, int row) {
  if (w.bias == nullptr) return 0.0f;
  if (w.bias_kind == F32) return static_cast<const float*>(w.bias)[row];
  const uint16_t bits = static_cast<const uint16_t*>(w.bias)[row];
  return w.bias_kind == BF16 ? from_bfloat(bits) : from_half(bits);
}

}  // namespace
}  // namespace edgemoe
