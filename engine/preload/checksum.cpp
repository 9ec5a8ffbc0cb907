#include "preload/checksum.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define EDGEMOE_AVX2
#include <immintrin.h>
#endif

namespace edgemoe {

namespace {

constexpr uint64_t kPrime32[] = {0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D};
constexpr uint64_t kPrime64[] = {0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5};
constexpr int kStripe = 64, kLanes = 8, kSecret = 192, kStripesPerBlock = (kSecret - kStripe) / 8, kBlock = kStripe * kStripesPerBlock;

constexpr uint8_t kSecretBytes[kSecret] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c, 0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb,
    0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f, 0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c, 0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb,
    0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3, 0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d, 0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31,
    0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64, 0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e, 0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc,
    0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce, 0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e};

inline uint64_t word(const uint8_t* at) {  // little-endian, as every platform this runs on
  uint64_t value;
  std::memcpy(&value, at, 8);
  return value;
}

// Takes in so many stripes of data, each with the secret from 8 bytes further on.
using Accumulate = void (*)(uint64_t* sums, const uint8_t* stripe, const uint8_t* secret, int64_t stripes);

void accumulate_plain(uint64_t* sums, const uint8_t* stripe, const uint8_t* secret, int64_t stripes) {
  for (; stripes > 0; --stripes, stripe += kStripe, secret += 8)
    for (int i = 0; i < kLanes; ++i) {
      const uint64_t value = word(stripe + 8 * i), key = value ^ word(secret + 8 * i);
      sums[i ^ 1] += value;
      sums[i] += (key & 0xFFFFFFFF) * (key >> 32);
    }
}

#ifdef EDGEMOE_AVX2
__attribute__((target("avx2"))) inline __m256i add(__m256i sum, const uint8_t* stripe, const uint8_t* secret) {
  const __m256i value = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(stripe));
  const __m256i key = _mm256_xor_si256(value, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(secret)));
  const __m256i product = _mm256_mul_epu32(key, _mm256_srli_epi64(key, 32));  // of halves: what compilers do not find in the loop above
  return _mm256_add_epi64(sum, _mm256_add_epi64(product, _mm256_shuffle_epi32(value, 0x4e)));
}

__attribute__((target("avx2"))) void accumulate_avx2(uint64_t* sums, const uint8_t* stripe, const uint8_t* secret, int64_t stripes) {
  __m256i* at = reinterpret_cast<__m256i*>(sums);
  __m256i low = _mm256_loadu_si256(at), high = _mm256_loadu_si256(at + 1);
  for (; stripes > 0; --stripes, stripe += kStripe, secret += 8) {
    low = add(low, stripe, secret);
    high = add(high, stripe + 32, secret + 32);
  }
  _mm256_storeu_si256(at, low);
  _mm256_storeu_si256(at + 1, high);
}
#endif

Accumulate best() {
#ifdef EDGEMOE_AVX2
  if (__builtin_cpu_supports("avx2")) return accumulate_avx2;
#endif
  return accumulate_plain;
}

inline void scramble(uint64_t* sums) {
  for (int i = 0; i < kLanes; ++i) sums[i] = (sums[i] ^ (sums[i] >> 47) ^ word(kSecretBytes + kSecret - kStripe + 8 * i)) * kPrime32[0];
}

inline uint64_t folded(uint64_t a, uint64_t b) {
  const unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
  return uint64_t(product) ^ uint64_t(product >> 64);
}

}  // namespace

uint64_t checksum(const uint8_t* data, int64_t bytes, bool widest) {
  static const Accumulate widest_there_is = best();
  const Accumulate accumulate = widest ? widest_there_is : accumulate_plain;
  uint64_t sums[kLanes] = {kPrime32[2], kPrime64[0], kPrime64[1], kPrime64[2], kPrime64[3], kPrime32[1], kPrime64[4], kPrime32[0]};
  const int64_t blocks = (bytes - 1) / kBlock;
  const uint8_t* at = data;
  for (int64_t block = 0; block < blocks; ++block, at += kBlock) {
    accumulate(sums, at, kSecretBytes, kStripesPerBlock);
    scramble(sums);
  }
  accumulate(sums, at, kSecretBytes, (bytes - 1 - blocks * kBlock) / kStripe);
  accumulate(sums, data + bytes - kStripe, kSecretBytes + kSecret - kStripe - 7, 1);
  uint64_t hash = uint64_t(bytes) * kPrime64[0];
  for (int i = 0; i < 4; ++i)
    hash += folded(sums[2 * i] ^ word(kSecretBytes + 11 + 16 * i), sums[2 * i + 1] ^ word(kSecretBytes + 11 + 16 * i + 8));
  hash = (hash ^ (hash >> 37)) * 0x165667919E3779F9;
  return hash ^ (hash >> 32);
}

}  // namespace edgemoe
