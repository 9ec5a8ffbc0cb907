// The three loops that learned predictors live in, by the widest instructions the processor has. Sums are made in one fixed order.
#pragma once
#include <cstdint>

namespace edgemoe {

struct Vectors {
  void (*add)(float* y, const float* x, float a, int n);             // y += a x
  float (*dot)(const float* x, const float* y, int n);               // n a multiple of 8
  void (*learn)(float* w, float* seen, const float* x, float g, float rate, int n);  // Adagrad: seen += (g x)^2, w -= rate g x / sqrt(seen)
};

const Vectors& vectors();

}  // namespace edgemoe
