// 16-bit floats to 32-bit ones, by arithmetic alone.
#pragma once
#include <cstdint>
#include <cstring>

namespace edgemoe {

static inline float float_of_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

static inline uint32_t bits_of_float(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

static inline float from_bfloat(uint16_t b) { return float_of_bits(uint32_t(b) << 16); }

static inline float from_half(uint16_t h) {
  const uint32_t sign = uint32_t(h & 0x8000) << 16, rest = h & 0x7fff;
  if (rest >= 0x7c00) return float_of_bits(sign | 0x7f800000 | (rest & 0x3ff) << 13);
  // Shifted into place, exponent and fraction are a float 2^112 too small; subnormal halves come out right as well.
  const float value = float_of_bits(rest << 13) * float_of_bits(uint32_t(254 - 15) << 23);
  return float_of_bits(bits_of_float(value) | sign);
}

}  // namespace edgemoe
