#pragma once
#include <algorithm>
#include <vector>

#include "preload/predictor.h"

namespace edgemoe {

// The routers of the next layers applied to the hidden state of this one, by whoever runs the model: it hands in their scores.
//
// A score is no probability, least of all one taken early. How often the expert of each rank was chosen so far is.
class Gate : public Predictor {
 public:
  static constexpr int kReach = 2;  // layers ahead

  Gate(Shape shape, int top_k)
      : shape_(shape), scores_(size_t(shape.count())), ahead_(size_t(shape.layers)), order_(size_t(shape.count())),
        seen_(size_t(shape.layers * kReach)), chosen_(seen_.size() * size_t(shape.experts)) {
    // To begin with as if told by twenty tokens of a model whose early routers are mostly right.
    for (size_t table = 0; table < seen_.size(); ++table) {
      seen_[table] = 20;
      for (int rank = 0; rank < shape.experts; ++rank)
        chosen_[table * size_t(shape.experts) + size_t(rank)] = rank < top_k ? 16.0f : 4.0f * float(top_k) / float(rank + 1) / 4.0f;
    }
  }

  // The scores [E] of the router of `layer`, as many layers ahead (1 to kReach) of the hidden state they were taken from.
  void hand(int layer, int ahead, const float* scores) {
    const int e = shape_.experts;
    float* kept = scores_.data() + size_t(layer) * e;
    int32_t* order = order_.data() + size_t(layer) * e;
    std::copy(scores, scores + e, kept);
    for (int i = 0; i < e; ++i) order[i] = i;
    std::sort(order, order + e, [kept](int32_t a, int32_t b) { return kept[a] != kept[b] ? kept[a] > kept[b] : a < b; });
    ahead_[layer] = ahead;
  }

  void begin_request() override { std::fill(ahead_.begin(), ahead_.end(), 0); }

  void routed(int layer, const int32_t* experts, int count, bool prefill) override {
    const int ahead = ahead_[layer];
    ahead_[layer] = 0;
    if (ahead == 0 || prefill) return;
    const size_t table = size_t(layer * kReach + ahead - 1);
    float* chosen = chosen_.data() + table * size_t(shape_.experts);
    const int32_t* order = order_.data() + size_t(layer) * shape_.experts;
    seen_[table] += 1;
    for (int rank = 0; rank < shape_.experts; ++rank)
      if (std::find(experts, experts + count, order[rank]) != experts + count) chosen[rank] += 1;
  }

  bool predict(int layer, int, float* odds) override {
    if (ahead_[layer] == 0) return false;
    const size_t table = size_t(layer * kReach + ahead_[layer] - 1);
    const float* chosen = chosen_.data() + table * size_t(shape_.experts);
    const int32_t* order = order_.data() + size_t(layer) * shape_.experts;
    for (int rank = 0; rank < shape_.experts; ++rank) odds[order[rank]] = chosen[rank] / seen_[table];
    return true;
  }

 private:
  Shape shape_;
  std::vector<float> scores_;
  std::vector<int> ahead_;  // [S], 0: not handed in
  std::vector<int32_t> order_;
  std::vector<float> seen_, chosen_;  // [S, reach]; [S, reach, rank]
};

}  // namespace edgemoe
