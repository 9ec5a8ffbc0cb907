// Loops over the experts of a layer that the compiler turns into vector instructions, the widest the machine has.
//
// Element by element without reductions reordered or multiplications fused: results are the same on every machine.
#pragma once
#include <cstdint>
#include <cstring>

// A library is resolved before the sanitizer of threads is ready, which ends it.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__)
#define EDGEMOE_WIDEST __attribute__((target_clones("avx2", "default")))
#else
#define EDGEMOE_WIDEST
#endif

namespace edgemoe {

inline float from_bits(int32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline int32_t to_bits(float value) {
  int32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

// 1 / (1 + e^-x), to 1e-5 or so; never 0 or 1.
inline float sigmoid(float x) {
  const float clamped = x > 15.f ? 15.f : x < -15.f ? -15.f : x;
  const float t = clamped * -1.442695041f, shifted = t + 12582912.f;  // 1.5 * 2^23: the fraction is rounded away
  const float f = t - (shifted - 12582912.f);
  const float power = 1.f + f * (0.6931472f + f * (0.2402265f + f * (0.0555041f + f * (0.0096181f + f * 0.0013333f))));
  return 1.f / (1.f + power * from_bits(int32_t(uint32_t(to_bits(shifted)) << 23) + (127 << 23)));
}

// The logarithm of a positive x, to 1e-4 or so.
inline float logarithm(float x) {
  const int32_t bits = to_bits(x);
  const float m = from_bits((bits & 0x7fffff) | (127 << 23)) - 1.f;  // 0 to 1
  const float curve = m * (0.9991150f + m * (-0.4899597f + m * (0.2856751f + m * (-0.1330566f + m * 0.0313718f))));
  return 0.6931472f * float((bits >> 23) - 127) + curve;
}

}  // namespace edgemoe
