// AVX2, FMA and F16C: products of all rows of all tokens, in tiles.
#include "products.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "activations_avx2.h"
#include "quantized_avx2.h"

namespace edgemoe {
namespace {

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
  constexpr int kSize = K == F32 ? 4 : 2;
  const uint8_t* next = rows[0] + R * row_bytes(w);
  int c = 0;
  for (; c + 8 <= w.columns; c += 8) {
    if (c % 32 == 0) fetch(next + R * kSize * c, R * kSize * 32);
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
  float s[8 * kStride];  // of each sum of a tile its scales
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

// Eight columns at a time; lanes that name no column are not read.
void gather_avx2(const uint16_t* values, const uint16_t* columns, int n, const float* x, int size, float* terms) {
  const __m256i limit = _mm256_set1_epi32(size);
  int i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256i column = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(columns + i)));
    const __m256 inside = _mm256_castsi256_ps(_mm256_cmpgt_epi32(limit, column));
    const __m256 there = _mm256_mask_i32gather_ps(_mm256_setzero_ps(), x, column, inside, 4);
    const __m256 value = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(values + i)));
    _mm256_storeu_ps(terms + i, _mm256_and_ps(_mm256_mul_ps(value, there), inside));
  }
  for (; i < n; ++i) terms[i] = columns[i] < size ? from_half(values[i]) * x[columns[i]] : 0.0f;
}

}  // namespace

const Products* avx2_products() {
  static const Products products = {"AVX2",       rows_avx2,   gather_avx2,    quantize8_avx2, quantize16_avx2, gate_avx2,
                                    rms_norm_any, attend_avx2, add_scaled_any, scale_any,      powers_avx2};
  return &products;
}

}  // namespace edgemoe

#else

namespace edgemoe {
const Products* avx2_products() { return nullptr; }
}  // namespace edgemoe

#endif
