// AVX2, FMA and F16C. R rows and T tokens at a time share what they read; each of their R * T sums stays in one register.
#include "products.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
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

// The scales of a row as floats, one for each group of 64 columns.
inline void expand_scales(const uint16_t* half, int groups, int repeat, float* out) {
  if (repeat == 1) {
    int g = 0;
    for (; g + 8 <= groups; g += 8)
      _mm256_storeu_ps(out + g, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(half + g))));
    if (g + 4 <= groups) {
      _mm_storeu_ps(out + g, _mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(half + g))));
      g += 4;
    }
    for (; g < groups; ++g) out[g] = _cvtsh_ss(half[g]);
  } else {
    for (int g = 0; g < groups; ++g) out[g] = _cvtsh_ss(half[g / repeat]);
  }
}

// Products of the weights' and the activations' scales; returns, in lanes yet to be summed, what the codes' center takes from the row's
// sum: minus center * sum of weight scales * sums of activations.
inline __m256 combine_scales(const float* weight, const float* scale, const float* sum, int groups, float center, float* out) {
  __m256 taken = _mm256_setzero_ps();
  int g = 0;
  for (; g + 8 <= groups; g += 8) {
    const __m256 w = _mm256_loadu_ps(weight + g);
    _mm256_storeu_ps(out + g, _mm256_mul_ps(w, _mm256_loadu_ps(scale + g)));
    taken = _mm256_fmadd_ps(w, _mm256_loadu_ps(sum + g), taken);
  }
  __m128 rest = _mm_setzero_ps();
  if (g + 4 <= groups) {
    const __m128 w = _mm_loadu_ps(weight + g);
    _mm_storeu_ps(out + g, _mm_mul_ps(w, _mm_loadu_ps(scale + g)));
    rest = _mm_mul_ps(w, _mm_loadu_ps(sum + g));
    g += 4;
  }
  for (; g < groups; ++g) {
    out[g] = weight[g] * scale[g];
    rest = _mm_add_ss(rest, _mm_set_ss(weight[g] * sum[g]));
  }
  taken = _mm256_add_ps(taken, _mm256_insertf128_ps(_mm256_setzero_ps(), rest, 0));
  return _mm256_mul_ps(taken, _mm256_set1_ps(-center));
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

// What the sums of R rows and T tokens are made of, beside the weights.
template <class X, int R, int T>
struct Terms {
  const X* x[T];
  const float* scales[R][T];
};

template <int R, int T>
inline void add_group(const Terms<int8_t, R, T>& terms, __m256 (&acc)[R][T], int r, int g, __m256i low, __m256i high) {
  for (int t = 0; t < T; ++t) {
    const __m256i* codes = reinterpret_cast<const __m256i*>(terms.x[t] + g * kGroup);
    const __m256 dot = dot_group(low, high, _mm256_loadu_si256(codes), _mm256_loadu_si256(codes + 1));
    acc[r][t] = _mm256_fmadd_ps(dot, _mm256_broadcast_ss(terms.scales[r][t] + g), acc[r][t]);
  }
}

template <class Code, int I, int R, int T>
inline void add_groups(const Terms<int8_t, R, T>& terms, __m256 (&acc)[R][T], const Code* code, int g) {
  for (int r = 0; r < R; ++r) {
    __m256i low, high;
    code[r].template pair<I>(low, high);
    add_group<R, T>(terms, acc, r, g + I, low, high);
  }
  if constexpr ((I + 1) * kGroup < Code::kColumns) add_groups<Code, I + 1, R, T>(terms, acc, code, g);
}

// Rows are short streams that the processor's own prefetching meets too late: asks for the same place of the next tile's rows.
template <int R>
inline void fetch_ahead(const uint8_t* const (&row)[R], int64_t row_bytes, int at) {
  for (int r = 0; r < R; ++r) _mm_prefetch(reinterpret_cast<const char*>(row[r] + R * row_bytes + at), _MM_HINT_T0);
}

template <class Code, int R, int T>
inline void dot_codes(const Matrix& w, const uint8_t* const (&row)[R], const Terms<int8_t, R, T>& terms, __m256 (&sums)[R][T]) {
  constexpr int kGroups = Code::kColumns / kGroup;
  const int blocks = w.padded / Code::kColumns, done = blocks * Code::kColumns, padded = w.padded;
  const int64_t bytes = row_bytes(w);
  __m256 acc[R][T];
  for (int r = 0; r < R; ++r)
    for (int t = 0; t < T; ++t) acc[r][t] = sums[r][t];
  for (int b = 0; b < blocks; ++b) {
    fetch_ahead<R>(row, bytes, int(bytes * b / blocks));
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
      add_group<R, T>(terms, acc, r, g, _mm256_load_si256(codes), _mm256_load_si256(codes + 1));
    }
  }
  for (int r = 0; r < R; ++r)
    for (int t = 0; t < T; ++t) sums[r][t] = acc[r][t];
}

// --- 8 bits --------------------------------------------------------------------------------------------------------

struct Code8 {
  static constexpr int kBits = 8;
};

template <int R, int T>
inline void dot_bytes(const Matrix& w, const uint8_t* const (&row)[R], const Terms<int16_t, R, T>& terms, __m256 (&sums)[R][T]) {
  const int groups = w.padded / kGroup;
  __m256 acc[R][T];
  for (int r = 0; r < R; ++r)
    for (int t = 0; t < T; ++t) acc[r][t] = sums[r][t];
  for (int g = 0; g < groups; ++g) {
    fetch_ahead<R>(row, w.padded, g * kGroup);
    __m256i dot[R][T];
    for (int i = 0; i < 4; ++i) {
      const int at = g * kGroup + 16 * i;
      for (int r = 0; r < R; ++r) {
        const __m256i codes = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row[r] + at)));
        for (int t = 0; t < T; ++t) {
          const __m256i part = _mm256_madd_epi16(codes, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(terms.x[t] + at)));
          dot[r][t] = i == 0 ? part : _mm256_add_epi32(dot[r][t], part);
        }
      }
    }
    for (int r = 0; r < R; ++r)
      for (int t = 0; t < T; ++t)
        acc[r][t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[r][t]), _mm256_broadcast_ss(terms.scales[r][t] + g), acc[r][t]);
  }
  for (int r = 0; r < R; ++r)
    for (int t = 0; t < T; ++t) sums[r][t] = acc[r][t];
}

// --- a tile of quantized rows --------------------------------------------------------------------------------------

template <class Code, int R, int T>
void quantized_tile(const Matrix& w, const Activations& x, float* y, int64_t stride, int row, int token, float* scratch) {
  constexpr bool wide = Code::kBits == 8;
  const int groups = w.padded / kGroup;
  const float* x_scale = wide ? x.scale16 : x.scale8;
  const float* x_sum = wide ? x.sum16 : x.sum8;
  Terms<std::conditional_t<wide, int16_t, int8_t>, R, T> terms;
  __m256 acc[R][T];
  const uint8_t* rows[R];
  float total[R][T];
  for (int r = 0; r < R; ++r) {
    rows[r] = w.codes + (row + r) * row_bytes(w);
    float* weight = scratch + (R * T) * groups;
    expand_scales(w.scales + int64_t(row + r) * (w.padded / w.group), groups, w.group / kGroup, weight);
    for (int t = 0; t < T; ++t) {
      float* combined = scratch + (r * T + t) * groups;
      const int64_t at = int64_t(token + t) * x.groups;
      acc[r][t] = combine_scales(weight, x_scale + at, x_sum + at, groups, w.center, combined);
      terms.scales[r][t] = combined;
    }
  }
  for (int t = 0; t < T; ++t) {
    const int64_t at = int64_t(token + t) * x.groups * kGroup;
    if constexpr (wide) {
      terms.x[t] = x.q16 + at;
    } else {
      terms.x[t] = x.q8 + at;
    }
  }
  if constexpr (wide) {
    dot_bytes<R, T>(w, rows, terms, acc);
  } else {
    dot_codes<Code, R, T>(w, rows, terms, acc);
  }
  store_sums<R, T>(acc, total);
  for (int r = 0; r < R; ++r)
    for (int t = 0; t < T; ++t) y[(token + t) * stride + row + r] = w.unit * total[r][t] + bias_of(w, row + r);
}

// --- plain weights -------------------------------------------------------------------------------------------------

template <Kind K>
inline __m256 load_eight(const uint8_t* values, int index) {
  if constexpr (K == F32) return _mm256_loadu_ps(reinterpret_cast<const float*>(values) + index);
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(values + 2 * index));
  if constexpr (K == F16) return _mm256_cvtph_ps(bits);
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

template <Kind K>
inline float load_one(const uint8_t* values, int index) {
  if constexpr (K == F32) return reinterpret_cast<const float*>(values)[index];
  const uint16_t bits = reinterpret_cast<const uint16_t*>(values)[index];
  return K == BF16 ? from_bfloat(bits) : from_half(bits);
}

template <Kind K, int R, int T>
void plain_tile(const Matrix& w, const Activations& x, float* y, int64_t stride, int row, int token, float*) {
  const uint8_t* rows[R];
  const float* xs[T];
  __m256 acc[R][T];
  float total[R][T];
  for (int r = 0; r < R; ++r) rows[r] = w.codes + (row + r) * row_bytes(w);
  for (int t = 0; t < T; ++t) xs[t] = x.values + (token + t) * x.stride;
  for (int r = 0; r < R; ++r)
    for (int t = 0; t < T; ++t) acc[r][t] = _mm256_setzero_ps();
  int c = 0;
  for (; c + 8 <= w.columns; c += 8) {
    if (c % 32 == 0) fetch_ahead<R>(rows, row_bytes(w), c * (K == F32 ? 4 : 2));
    for (int r = 0; r < R; ++r) {
      const __m256 weight = load_eight<K>(rows[r], c);
      for (int t = 0; t < T; ++t) acc[r][t] = _mm256_fmadd_ps(weight, _mm256_loadu_ps(xs[t] + c), acc[r][t]);
    }
  }
  store_sums<R, T>(acc, total);
  for (; c < w.columns; ++c)
    for (int r = 0; r < R; ++r) {
      const float weight = load_one<K>(rows[r], c);
      for (int t = 0; t < T; ++t) total[r][t] = multiply_add(weight, xs[t][c], total[r][t]);
    }
  for (int r = 0; r < R; ++r)
    for (int t = 0; t < T; ++t) y[(token + t) * stride + row + r] = total[r][t] + bias_of(w, row + r);
}

// --- all rows of all tokens, in tiles ------------------------------------------------------------------------------

constexpr int kMostGroups = 512;

using Tile = void (*)(const Matrix&, const Activations&, float*, int64_t, int, int, float*);

struct Tiles {
  Tile rows4, rows2_tokens4, one, tokens4;  // 4 x 1, 2 x 4, 1 x 1 and 1 x 4
};

template <class Code>
constexpr Tiles quantized_tiles() {
  return {quantized_tile<Code, 4, 1>, quantized_tile<Code, 2, 4>, quantized_tile<Code, 1, 1>, quantized_tile<Code, 1, 4>};
}

template <Kind K>
constexpr Tiles plain_tiles() {
  return {plain_tile<K, 4, 1>, plain_tile<K, 2, 4>, plain_tile<K, 1, 1>, plain_tile<K, 1, 4>};
}

void tiled(const Tiles& tiles, const Matrix& w, const Activations& x, float* y, int64_t stride, int begin, int end) {
  float s[9 * kMostGroups];  // of each sum of a tile the scales, and of one row its own
  int token = 0;
  for (; token + 4 <= x.tokens; token += 4) {
    int row = begin;
    for (; row + 2 <= end; row += 2) tiles.rows2_tokens4(w, x, y, stride, row, token, s);
    for (; row < end; ++row) tiles.tokens4(w, x, y, stride, row, token, s);
  }
  for (; token < x.tokens; ++token) {
    int row = begin;
    for (; row + 4 <= end; row += 4) tiles.rows4(w, x, y, stride, row, token, s);
    for (; row < end; ++row) tiles.one(w, x, y, stride, row, token, s);
  }
}

void rows_avx2(const Matrix& w, const Activations& x, float* y, int64_t stride, int begin, int end) {
  const bool regular = w.padded % kGroup == 0 && w.group != 0 && w.group % kGroup == 0 && w.padded <= kMostGroups * kGroup;
  if (is_quantized(w) && !regular) return portable_products().rows(w, x, y, stride, begin, end);
  switch (w.kind) {
    case Q2: return tiled(quantized_tiles<Code2>(), w, x, y, stride, begin, end);
    case Q3: return tiled(quantized_tiles<Code3>(), w, x, y, stride, begin, end);
    case Q4: return tiled(quantized_tiles<Code4>(), w, x, y, stride, begin, end);
    case Q8: return tiled(quantized_tiles<Code8>(), w, x, y, stride, begin, end);
    case BF16: return tiled(plain_tiles<BF16>(), w, x, y, stride, begin, end);
    case F16: return tiled(plain_tiles<F16>(), w, x, y, stride, begin, end);
    default: return tiled(plain_tiles<F32>(), w, x, y, stride, begin, end);
  }
}

// --- activations ---------------------------------------------------------------------------------------------------

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

// elementwise.h's exp_fast, eight at a time.
inline __m256 exp_eight(__m256 x) {
  x = _mm256_min_ps(_mm256_max_ps(x, _mm256_set1_ps(-87.0f)), _mm256_set1_ps(88.0f));
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

const Products* avx2_products() {
  static const Products products = {"AVX2",       rows_avx2,  quantize8_avx2, quantize16_avx2, gate_avx2,
                                    rms_norm_any, attend_avx2, add_scaled_any, scale_any, powers_avx2};
  return &products;
}

}  // namespace edgemoe

#else

namespace edgemoe {
const Products* avx2_products() { return nullptr; }
}  // namespace edgemoe

#endif
