// A weight matrix as it lies in memory, and how its codes are found.
//
// R rows (outputs), C columns (inputs), P columns padded to whole groups, G = P / group groups a row.
#pragma once
#include <cstdint>

namespace edgemoe {

enum Kind : int32_t { Q2 = 2, Q3 = 3, Q4 = 4, Q8 = 8, BF16 = 16, F16 = 17, F32 = 32 };

// Mirrored by engine/kernels/library.py. Below 16 bits value = (code - center) * scale * unit.
struct Matrix {
  const uint8_t* codes;    // packed codes [R, P*bits/8] (engine/quant/packing.py), or the values [R, C]
  const uint16_t* scales;  // half [R, G]; null for plain values
  const void* bias;        // [R], or null
  int32_t kind;
  int32_t bias_kind;
  int32_t rows, columns, padded, group;
  float unit, center;
  int32_t outliers;                 // 0: none
  const uint8_t* outlier_counts;    // [R]: how many a row has
  const uint16_t* outlier_columns;  // [outliers], row after row
  const uint16_t* outlier_values;   // half [outliers]; value * unit is added to the quantized one
};

static inline bool is_quantized(const Matrix& m) { return m.kind < BF16; }

static inline int64_t row_bytes(const Matrix& m) {
  if (is_quantized(m)) return int64_t(m.padded) * m.kind / 8;
  return int64_t(m.columns) * (m.kind == F32 ? 4 : 2);
}

// Columns that share a scale of the quantized activations, whatever the weights' own groups are.
constexpr int kGroup = 64;

// An even number, so that weights in groups of 128 find theirs whole.
static inline int groups_of(int columns) { return (columns + 2 * kGroup - 1) / (2 * kGroup) * 2; }

// T tokens, each [columns], as a product wants them: 8-bit codes for weights of 2 to 4 bits, 16-bit codes for weights of
// 8 bits (whose own rounding 8-bit activations would double), the floats themselves for plain weights.
struct Activations {
  int tokens, columns, groups;
  const float* values;   // [T, stride]
  int64_t stride;
  const int8_t* q8;      // [T, groups * 64], zero past the last column
  const float* scale8;   // [T, groups]
  const float* sum8;     // [T, groups]: scale * sum of the group's codes
  const int16_t* q16;    // [T, groups * 64]
  const float* scale16;
  const float* sum16;
};

}  // namespace edgemoe
