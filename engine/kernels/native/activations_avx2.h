// AVX2: activations made ready for products, and what lies between products. Included by products_avx2.cpp alone, which has the flags.
#pragma once
#include <immintrin.h>

#include "elementwise.h"
#include "quantized_avx2.h"

namespace edgemoe {
namespace {

struct GroupScale {
  float inverse, scale;
};

// Of a group of 64 floats; see products_portable.cpp for what is too small or not finite.
inline GroupScale group_scale(const float* x, float top) {
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  __m256 largest = _mm256_setzero_ps(), unordered = _mm256_setzero_ps();
  for (int i = 0; i < kGroup; i += 8) {
    const __m256 v = _mm256_loadu_ps(x + i);
    largest = _mm256_max_ps(largest, _mm256_and_ps(v, magnitude));
    unordered = _mm256_or_ps(unordered, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  }
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(largest), _mm256_extractf128_ps(largest, 1));
  four = _mm_max_ps(four, _mm_movehl_ps(four, four));
  const float most = _mm_cvtss_f32(_mm_max_ss(four, _mm_shuffle_ps(four, four, 1)));
  if (_mm256_movemask_ps(unordered) != 0 || most > 3.40282347e38f) return {0.0f, NAN};
  return most > 1e-30f ? GroupScale{top / most, most / top} : GroupScale{0.0f, 0.0f};
}

inline __m256i rounded_eight(const float* x, __m256 inverse) { return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), inverse)); }

inline int sum_of(__m256i lanes) {
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
}

inline void store_codes(int8_t* out, const __m256i (&v)[4]) {
  const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_permutevar8x32_epi32(bytes, order));
}

inline void store_codes(int16_t* out, const __m256i (&v)[4]) {
  for (int i = 0; i < 4; i += 2)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 8 * i), _mm256_permute4x64_epi64(_mm256_packs_epi32(v[i], v[i + 1]), 0xd8));
}

template <class Code>
void quantize(const float* x, int columns, float top, Code* codes, float* scales, float* sums) {
  for (int g = 0, start = 0; g < groups_of(columns); ++g, start += kGroup) {
    alignas(32) float last[kGroup] = {};
    const float* values = x + start;
    if (columns - start < kGroup) {
      for (int i = 0; i < columns - start; ++i) last[i] = values[i];
      values = last;
    }
    const GroupScale found = group_scale(values, top);
    const __m256 inverse = _mm256_set1_ps(found.inverse);
    __m256i total = _mm256_setzero_si256();
    for (int i = 0; i < kGroup; i += 32) {
      __m256i v[4];
      for (int j = 0; j < 4; ++j) {
        v[j] = found.inverse > 0.0f ? rounded_eight(values + i + 8 * j, inverse) : _mm256_setzero_si256();
        total = _mm256_add_epi32(total, v[j]);
      }
      store_codes(codes + start + i, v);
    }
    scales[g] = found.scale;
    sums[g] = found.scale * float(sum_of(total));
  }
}

void quantize8_avx2(const float* x, int columns, int8_t* codes, float* scales, float* sums) {
  quantize(x, columns, 127.0f, codes, scales, sums);
}

void quantize16_avx2(const float* x, int columns, int16_t* codes, float* scales, float* sums) {
  quantize(x, columns, 32767.0f, codes, scales, sums);
}

// --- exponentials --------------------------------------------------------------------------------------------------

// elementwise.h's exp_fast, eight at a time; minimum and maximum give their second operand where one is not a number.
inline __m256 exp_eight(__m256 x) {
  x = _mm256_min_ps(_mm256_set1_ps(88.0f), _mm256_max_ps(_mm256_set1_ps(-87.0f), x));
  const __m256 magic = _mm256_set1_ps(12582912.0f);
  const __m256 shifted = _mm256_fmadd_ps(x, _mm256_set1_ps(1.44269504f), magic);
  const __m256 n = _mm256_sub_ps(shifted, magic);
  const __m256 r = _mm256_fmadd_ps(n, _mm256_set1_ps(-1.42860677e-6f), _mm256_fmadd_ps(n, _mm256_set1_ps(-0.693145752f), x));
  __m256 p = _mm256_set1_ps(1.98756915e-4f);
  for (const float c : {1.39819995e-3f, 8.33345190e-3f, 4.16657957e-2f, 1.66666657e-1f, 0.5f}) p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(c));
  p = _mm256_add_ps(_mm256_fmadd_ps(_mm256_mul_ps(p, r), r, r), _mm256_set1_ps(1.0f));
  const __m256i exponent = _mm256_add_epi32(_mm256_slli_epi32(_mm256_castps_si256(shifted), 23), _mm256_set1_epi32(0x3f800000));
  return _mm256_mul_ps(p, _mm256_castsi256_ps(exponent));
}

float powers_avx2(const float* x, float less, int n, float* out) {
  const __m256 taken = _mm256_set1_ps(less), zero = _mm256_setzero_ps();
  __m256 sum = zero;
  int i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256 power = exp_eight(_mm256_sub_ps(_mm256_loadu_ps(x + i), taken));
    if (out != nullptr) _mm256_storeu_ps(out + i, power);
    sum = _mm256_add_ps(sum, power);
  }
  float rest = 0.0f;
  for (; i < n; ++i) {
    const float power = exp_fast(x[i] - less);
    if (out != nullptr) out[i] = power;
    rest += power;
  }
  return _mm_cvtss_f32(sum_lanes(sum, zero, zero, zero)) + rest;
}

void gate_avx2(Activation kind, const float* gate, const float* up, int step, float* out, int n) {
  int i = 0;
  if (kind == SILU && step == 1 && up != nullptr)
    for (; i + 8 <= n; i += 8) {
      const __m256 x = _mm256_loadu_ps(gate + i), one = _mm256_set1_ps(1.0f);
      const __m256 power = exp_eight(_mm256_sub_ps(_mm256_setzero_ps(), x));
      _mm256_storeu_ps(out + i, _mm256_mul_ps(_mm256_div_ps(x, _mm256_add_ps(one, power)), _mm256_loadu_ps(up + i)));
    }
  gate_any(kind, gate + i * step, up == nullptr ? nullptr : up + i * step, step, out + i, n - i);
}

void attend_avx2(const float* q, const float* keys, const float* values, int length, int dim, float scale, float* scores, float* out) {
  attend_with([](float* x, float less, int n) { return powers_avx2(x, less, n, x); }, q, keys, values, length, dim, scale, scores, out);
}

}  // namespace
}  // namespace edgemoe
