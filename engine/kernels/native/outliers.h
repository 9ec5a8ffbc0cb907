// What weights kept apart (engine/quant/outliers.py) add to the product of a quantized matrix.
#pragma once
#include <algorithm>
#include <vector>

#include "products.h"

namespace edgemoe {

// Adds it to rows [begin, end) of all tokens of y. A row's terms are summed in the order they lie in; whatever a record says, nothing is
// read past its outliers or past a token's columns.
inline void add_outliers(const Products& products, const Matrix& w, const Activations& x, float* y, int64_t stride, int begin, int end) {
  static thread_local std::vector<float> terms;
  const uint8_t* counts = w.outlier_counts;
  int64_t before = 0, own = 0;
  for (int row = 0; row < begin; ++row) before += counts[row];
  for (int row = begin; row < end; ++row) own += counts[row];
  before = std::min(before, int64_t(w.outliers));
  const int n = int(std::min(own, w.outliers - before));
  terms.resize(size_t(n));
  for (int t = 0; t < x.tokens; ++t) {
    products.gather(w.outlier_values + before, w.outlier_columns + before, n, x.values + t * x.stride, w.columns, terms.data());
    int at = 0;
    for (int row = begin; row < end; ++row) {
      const int last = std::min(at + counts[row], n);
      float sum = 0.0f;
      for (; at < last; ++at) sum += terms[at];
      y[t * stride + row] += w.unit * sum;
    }
  }
}

}  // namespace edgemoe
