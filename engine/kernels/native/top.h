// The likeliest tokens of a vocabulary.
//
// V logits, k of them wanted.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

#include "products.h"

namespace edgemoe {

// One pass keeps the k best in a heap whose worst is on top: nearly all logits are turned away by one comparison. What is not a number
// counts as the least, since nothing can be sorted by it.
inline float top(const Products& products, const float* logits, int size, int count, int32_t* tokens, float* scores) {
  struct Entry {
    float score;
    int32_t token;
  };
  const auto better = [](const Entry& a, const Entry& b) { return a.score != b.score ? a.score > b.score : a.token < b.token; };
  static thread_local std::vector<Entry> best;
  best.clear();
  for (int i = 0; i < size; ++i) {
    if (int(best.size()) < count) {
      best.push_back({logits[i] == logits[i] ? logits[i] : -INFINITY, i});
      if (int(best.size()) == count) std::make_heap(best.begin(), best.end(), better);
    } else if (logits[i] > best.front().score) {
      std::pop_heap(best.begin(), best.end(), better);
      best.back() = {logits[i], i};
      std::push_heap(best.begin(), best.end(), better);
    }
  }
  std::sort(best.begin(), best.end(), better);
  for (int i = 0; i < int(best.size()); ++i) {
    tokens[i] = best[i].token;
    scores[i] = best[i].score;
  }
  return best.empty() ? -INFINITY : best.front().score + std::log(products.powers(logits, best.front().score, size, nullptr));
}

}  // namespace edgemoe
