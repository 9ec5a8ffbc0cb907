// AVX2: a tile of a quantized matrix's rows and of tokens, which share what they read; each of their R * T sums stays in one register.
// Included by products_avx2.cpp alone, which has the flags.
#pragma once
#include <immintrin.h>

#include <type_traits>

#include "codes.h"
#include "elementwise.h"

namespace edgemoe {
namespace {

// The sums of the eight lanes of four registers. Each lane tree is the same whichever place a register takes.
inline __m128 sum_lanes(__m256 a, __m256 b, __m256 c, __m256 d) {
  const __m256 sums = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
  return _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1));
}

template <int R, int T>
inline void store_sums(const __m256 (&acc)[R][T], float (&out)[R][T]) {
  const __m256 zero = _mm256_setzero_ps();
  float* flat = &out[0][0];
  const __m256* a = &acc[0][0];
  for (int i = 0; i < R * T; i += 4) {
    float four[4];
    _mm_storeu_ps(four, sum_lanes(a[i], i + 1 < R * T ? a[i + 1] : zero, i + 2 < R * T ? a[i + 2] : zero, i + 3 < R * T ? a[i + 3] : zero));
    for (int j = 0; j < 4 && i + j < R * T; ++j) flat[i + j] = four[j];
  }
}

// --- scales --------------------------------------------------------------------------------------------------------

constexpr int kMostGroups = 512;
// Between the scales of two sums in scratch: known when compiling, and no power of two, lest all meet in one set of the cache.
constexpr int kStride = kMostGroups + 16;

inline __m256i first_lanes(int n) { return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)); }

inline __m256 load_some(const float* values, int n) {
  return n == 8 ? _mm256_loadu_ps(values) : _mm256_maskload_ps(values, first_lanes(n));
}

// The scales of `n` groups of 64 columns from group g on, of a row whose own groups are `repeat` times as wide; zeros after them.
inline __m256 load_scales(const uint16_t* half, int repeat, int g, int n) {
  if (repeat == 1 && n == 8) return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(half + g)));
  alignas(16) uint16_t some[8] = {};
  for (int i = 0; i < n; ++i) some[i] = half[(g + i) / repeat];
  return _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(some)));
}

// Of one row and T tokens: `out[t]` products of the weights' and the activations' scales, and in lanes yet to be summed what the codes'
// center takes from the sum: minus center * sum of weight scales * sums of activations.
template <int T>
inline void combine_scales(const Matrix& w, int row, const float* const (&scale)[T], const float* const (&sum)[T], float* out,
                           __m256* taken) {
  const int groups = w.padded / kGroup, own = w.padded / w.group, repeat = w.group / kGroup;
  const uint16_t* half = w.scales + int64_t(row) * own;
  for (int t = 0; t < T; ++t) taken[t] = _mm256_setzero_ps();
  for (int g = 0; g < groups; g += 8) {
    const int n = groups - g < 8 ? groups - g : 8;
    const __m256 weight = load_scales(half, repeat, g, n);
    for (int t = 0; t < T; ++t) {
      _mm256_storeu_ps(out + t * kStride + g, _mm256_mul_ps(weight, load_some(scale[t] + g, n)));
      taken[t] = _mm256_fmadd_ps(weight, load_some(sum[t] + g, n), taken[t]);
    }
  }
  for (int t = 0; t < T; ++t) taken[t] = _mm256_mul_ps(taken[t], _mm256_set1_ps(-w.center));
}

// Asks for what the tile after this needs, in the order of addresses: that is what the processor's own prefetching then runs ahead of.
inline void fetch(const void* from, int bytes) {
  for (int i = 0; i < bytes; i += 64) _mm_prefetch(static_cast<const char*>(from) + i, _MM_HINT_T0);
}

// --- 2, 3 and 4 bits -----------------------------------------------------------------------------------------------

// A code turns a block of its packed bytes into registers of 32 codes: pair i holds the 64 columns of group i.
struct Code4 {
  static constexpr int kBits = 4, kColumns = 64;
  __m256i raw;
  Code4(const uint8_t* row, int, int block) : raw(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + 32 * block))) {}
  template <int I>
  void pair(__m256i& low, __m256i& high) const {
    const __m256i mask = _mm256_set1_epi8(15);
    low = _mm256_and_si256(raw, mask);
    high = _mm256_and_si256(_mm256_srli_epi16(raw, 4), mask);
  }
};

struct Code2 {
  static constexpr int kBits = 2, kColumns = 128;
  __m256i raw;
  Code2(const uint8_t* row, int, int block) : raw(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + 32 * block))) {}
  template <int I>
  void pair(__m256i& low, __m256i& high) const {
    const __m256i mask = _mm256_set1_epi8(3);
    low = _mm256_and_si256(_mm256_srli_epi16(raw, 4 * I), mask);
    high = _mm256_and_si256(_mm256_srli_epi16(raw, 4 * I + 2), mask);
  }
};

struct Code3 {
  static constexpr int kBits = 3, kColumns = 256;
  __m256i raw[2], top;
  Code3(const uint8_t* row, int padded, int block) {
    const __m256i* low = reinterpret_cast<const __m256i*>(row + 64 * block);
    raw[0] = _mm256_loadu_si256(low);
    raw[1] = _mm256_loadu_si256(low + 1);
    top = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + padded / 4 + 32 * block));
  }
  template <int I>
  void pair(__m256i& low, __m256i& high) const {
    low = _mm256_or_si256(two<2 * I>(), third<2 * I>());
    high = _mm256_or_si256(two<2 * I + 1>(), third<2 * I + 1>());
  }
  template <int P>
  __m256i two() const {
    return _mm256_and_si256(_mm256_srli_epi16(raw[P / 4], 2 * (P % 4)), _mm256_set1_epi8(3));
  }
  template <int P>
  __m256i third() const {
    const __m256i moved = P < 2 ? _mm256_slli_epi16(top, P < 2 ? 2 - P : 0) : _mm256_srli_epi16(top, P < 2 ? 0 : P - 2);
    return _mm256_and_si256(moved, _mm256_set1_epi8(4));
  }
};

inline __m256 dot_group(__m256i low, __m256i high, __m256i x_low, __m256i x_high) {
  const __m256i pairs = _mm256_add_epi16(_mm256_maddubs_epi16(low, x_low), _mm256_maddubs_epi16(high, x_high));
  return _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

// What the sums of R rows and T tokens are made of, beside the weights: codes of the activations, and combined scales [R, T] of `kStride`.
template <class X, int T>
struct Terms {
  const X* x[T];
  const float* scales;
};

template <int T>
inline void add_group(const Terms<int8_t, T>& terms, __m256* acc, int r, int g, __m256i low, __m256i high) {
  for (int t = 0; t < T; ++t) {
    const __m256i* codes = reinterpret_cast<const __m256i*>(terms.x[t] + g * kGroup);
    const __m256 dot = dot_group(low, high, _mm256_loadu_si256(codes), _mm256_loadu_si256(codes + 1));
    acc[t] = _mm256_fmadd_ps(dot, _mm256_broadcast_ss(terms.scales + (r * T + t) * kStride + g), acc[t]);
  }
}

template <class Code, int I, int R, int T>
inline void add_groups(const Terms<int8_t, T>& terms, __m256 (&acc)[R][T], const Code* code, int g) {
  for (int r = 0; r < R; ++r) {
    __m256i low, high;
    code[r].template pair<I>(low, high);
    add_group<T>(terms, acc[r], r, g + I, low, high);
  }
  if constexpr ((I + 1) * kGroup < Code::kColumns) add_groups<Code, I + 1, R, T>(terms, acc, code, g);
}

template <class Code, int R, int T>
inline void dot_codes(const Matrix& w, const uint8_t* const (&row)[R], const Terms<int8_t, T>& terms, __m256 (&sums)[R][T]) {
  constexpr int kGroups = Code::kColumns / kGroup, kStep = Code::kColumns * Code::kBits / 8;
  const int blocks = w.padded / Code::kColumns, done = blocks * Code::kColumns, padded = w.padded;
  const uint8_t* next = row[0] + R * row_bytes(w);
  __m256 acc[R][T];  // not `sums`, which the compiler would keep in memory
  for (int r = 0; r < R; ++r)
    for (int t = 0; t < T; ++t) acc[r][t] = sums[r][t];
  for (int b = 0; b < blocks; ++b) {
    fetch(next + R * kStep * b, R * kStep);
    if constexpr (R == 4) {
      const Code code[4] = {{row[0], padded, b}, {row[1], padded, b}, {row[2], padded, b}, {row[3], padded, b}};
      add_groups<Code, 0, R, T>(terms, acc, code, b * kGroups);
    } else if constexpr (R == 2) {
      const Code code[2] = {{row[0], padded, b}, {row[1], padded, b}};
      add_groups<Code, 0, R, T>(terms, acc, code, b * kGroups);
    } else {
      const Code code[1] = {{row[0], padded, b}};
      add_groups<Code, 0, R, T>(terms, acc, code, b * kGroups);
    }
  }
  for (int r = 0; done < padded && r < R; ++r) {  // the short block at the end
    alignas(32) uint8_t rest[256];
    unpack_row(row[r], Code::kBits, padded, done, padded, rest);
    for (int g = done / kGroup; g < padded / kGroup; ++g) {
      const __m256i* codes = reinterpret_cast<const __m256i*>(rest + g * kGroup - done);
      add_group<T>(terms, acc[r], r, g, _mm256_load_si256(codes), _mm256_load_si256(codes + 1));
    }
  }
  for (int r = 0; r < R; ++r)
    for (int t = 0; t < T; ++t) sums[r][t] = acc[r][t];
}

// --- 8 bits --------------------------------------------------------------------------------------------------------

struct Code8 {
  static constexpr int kBits = 8;
};

// 32 codes of the activations in the order in which `unpack` leaves those of the weights: columns 0-7, 16-23 and 8-15, 24-31.
inline void load_unpacked(const int16_t* x, __m256i& low, __m256i& high) {
  const __m128i* v = reinterpret_cast<const __m128i*>(x);
  low = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(v)), _mm_loadu_si128(v + 2), 1);
  high = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(v + 1)), _mm_loadu_si128(v + 3), 1);
}

template <int R, int T>
inline void dot_bytes(const Matrix& w, const uint8_t* const (&row)[R], const Terms<int16_t, T>& terms, __m256 (&sums)[R][T]) {
  const int groups = w.padded / kGroup;
  const uint8_t* next = row[0] + int64_t(R) * w.padded;
  const __m256i zero = _mm256_setzero_si256();
  __m256 acc[R][T];
  for (int r = 0; r < R; ++r)
    for (int t = 0; t < T; ++t) acc[r][t] = sums[r][t];
  for (int g = 0; g < groups; ++g) {
    fetch(next + R * kGroup * g, R * kGroup);
    __m256i dot[R][T];
    for (int at = g * kGroup; at < (g + 1) * kGroup; at += 32) {
      __m256i low[T], high[T];
      for (int t = 0; t < T; ++t) load_unpacked(terms.x[t] + at, low[t], high[t]);
      for (int r = 0; r < R; ++r) {
        const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row[r] + at));
        const __m256i first = _mm256_unpacklo_epi8(codes, zero), second = _mm256_unpackhi_epi8(codes, zero);
        for (int t = 0; t < T; ++t) {
          const __m256i part = _mm256_add_epi32(_mm256_madd_epi16(first, low[t]), _mm256_madd_epi16(second, high[t]));
          dot[r][t] = at == g * kGroup ? part : _mm256_add_epi32(dot[r][t], part);
        }
      }
    }
    for (int r = 0; r < R; ++r)
      for (int t = 0; t < T; ++t) {
        const __m256 scale = _mm256_broadcast_ss(terms.scales + (r * T + t) * kStride + g);
        acc[r][t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[r][t]), scale, acc[r][t]);
      }
  }
  for (int r = 0; r < R; ++r)
    for (int t = 0; t < T; ++t) sums[r][t] = acc[r][t];
}

// --- a tile of quantized rows --------------------------------------------------------------------------------------

template <class Code, int R, int T>
void quantized_tile(const Matrix& w, const Activations& x, float* y, int64_t stride, int row, int token, float* scratch) {
  constexpr bool wide = Code::kBits == 8;
  const int own = w.padded / w.group;
  Terms<std::conditional_t<wide, int16_t, int8_t>, T> terms;
  const float *scale[T], *sum[T];
  for (int t = 0; t < T; ++t) {
    const int64_t at = int64_t(token + t) * x.groups;
    scale[t] = (wide ? x.scale16 : x.scale8) + at;
    sum[t] = (wide ? x.sum16 : x.sum8) + at;
    if constexpr (wide) {
      terms.x[t] = x.q16 + at * kGroup;
    } else {
      terms.x[t] = x.q8 + at * kGroup;
    }
  }
  terms.scales = scratch;
  const uint8_t* rows[R];
  __m256 acc[R][T];
  fetch(w.scales + int64_t(row + R) * own, R * own * int(sizeof(uint16_t)));
  for (int r = 0; r < R; ++r) {
    rows[r] = w.codes + (row + r) * row_bytes(w);
    combine_scales<T>(w, row + r, scale, sum, scratch + r * T * kStride, acc[r]);
  }
  if constexpr (wide) {
    dot_bytes<R, T>(w, rows, terms, acc);
  } else {
    dot_codes<Code, R, T>(w, rows, terms, acc);
  }
  float total[R][T];
  store_sums<R, T>(acc, total);
  for (int r = 0; r < R; ++r)
    for (int t = 0; t < T; ++t) y[(token + t) * stride + row + r] = w.unit * total[r][t] + bias_of(w, row + r);
}

}  // namespace
}  // namespace edgemoe
