// What an instruction set must provide; one file products_*.cpp each.
#pragma once
#include "matrix.h"

namespace edgemoe {

enum Activation : int32_t { SILU = 0, GELU = 1, GELU_TANH = 2, RELU = 3, RELU2 = 4 };

struct Products {
  const char* name;
  // y[t, row] = W[row] . x[t] + bias[row] for rows [begin, end) of all tokens; y has `stride` floats a token.
  // The sum of one row for one token is made in the same order whatever `begin`, `end` and T are.
  void (*rows)(const Matrix& w, const Activations& x, float* y, int64_t stride, int begin, int end);
  // terms[i] = half values[i] * x[columns[i]]; 0 where there is no such column in x[size].
  void (*gather)(const uint16_t* values, const uint16_t* columns, int n, const float* x, int size, float* terms);
  void (*quantize8)(const float* x, int columns, int8_t* codes, float* scales, float* sums);
  void (*quantize16)(const float* x, int columns, int16_t* codes, float* scales, float* sums);
  // out[i] = activation(gate[i * step]) * up[i * step]; `up` null: the activation alone.
  void (*gate)(Activation kind, const float* gate, const float* up, int step, float* out, int n);
  void (*rms_norm)(const float* x, const float* weight, float eps, float* out, int n);
  // One query head over the keys and values [length, dim] of its key-value head; `scores` is scratch [length].
  void (*attend)(const float* q, const float* keys, const float* values, int length, int dim, float scale, float* scores, float* out);
  void (*add_scaled)(float* y, const float* x, float scale, int n);  // y += scale * x
  void (*scale)(float* y, float scale, int n);
  float (*powers)(const float* x, float less, int n, float* out);  // out[i] = exp(x[i] - less), unless null; returns their sum
};

const Products& portable_products();
const Products* avx2_products();  // null where it was not compiled

// The best that this processor runs, or the one of that name; null where there is none.
const Products* products_named(const char* name);

}  // namespace edgemoe
