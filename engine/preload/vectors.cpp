#include "preload/vectors.h"

#include <cmath>

namespace edgemoe {

namespace {

#define EDGEMOE_LOOPS(suffix, target)                                                                          \
  target void add_##suffix(float* __restrict y, const float* __restrict x, float a, int n) {                  \
    for (int i = 0; i < n; ++i) y[i] += a * x[i];                                                              \
  }                                                                                                            \
  target float dot_##suffix(const float* __restrict x, const float* __restrict y, int n) {                    \
    float sums[8] = {};                                                                                        \
    for (int i = 0; i < n; i += 8)                                                                             \
      for (int lane = 0; lane < 8; ++lane) sums[lane] += x[i + lane] * y[i + lane];                            \
    return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));          \
  }                                                                                                            \
  target void learn_##suffix(float* __restrict w, float* __restrict seen, const float* __restrict x, float g, float rate, int n) { \
    for (int i = 0; i < n; ++i) {                                                                              \
      const float step = g * x[i];                                                                             \
      seen[i] += step * step;                                                                                  \
      w[i] -= rate * step / std::sqrt(seen[i]);                                                                \
    }                                                                                                          \
  }                                                                                                            \
  constexpr Vectors suffix{add_##suffix, dot_##suffix, learn_##suffix};

EDGEMOE_LOOPS(plain, )
#if defined(__x86_64__) && defined(__GNUC__)
EDGEMOE_LOOPS(avx2, __attribute__((target("avx2"))))
#endif

}  // namespace

const Vectors& vectors() {
#if defined(__x86_64__) && defined(__GNUC__)
  static const bool wide = __builtin_cpu_supports("avx2");
  if (wide) return avx2;
#endif
  return plain;
}

}  // namespace edgemoe
