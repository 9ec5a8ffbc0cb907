#pragma once
#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "preload/predictor.h"

namespace edgemoe {

// The routers of the next layers applied to the hidden state of this one, by whoever runs the model: it hands in their scores.
//
// A score is no probability, least of all one taken early: the experts of this layer have yet to add their part. So for each layer and
// distance a regression learns while it runs: the logarithm of an expert's odds is the distance of its score from the edge between the chosen
// and the others, in deviations of the scores and times a slope, and a sum over the experts that this layer chose of what each is worth to it.
class Gate : public Predictor {
 public:
  static constexpr int kReach = 2;  // layers ahead

  Gate(Shape shape, int top_k)
      : shape_(shape), top_k_(std::min(top_k, shape.experts - 1)), margins_(size_t(shape.count())), ahead_(size_t(shape.layers)),
        chosen_(size_t(shape.layers)), tables_(size_t(shape.layers * kReach)), logits_(size_t(shape.experts)), sorted_(size_t(shape.experts)) {}

  // The scores [E] of the router of `layer`, as many layers ahead (1 to kReach) of the hidden state they were taken from.
  void hand(int layer, int ahead, const float* scores) {
    const int e = shape_.experts;
    float mean = 0, squares = 0;
    for (int i = 0; i < e; ++i) mean += scores[i] / float(e);
    for (int i = 0; i < e; ++i) squares += (scores[i] - mean) * (scores[i] - mean) / float(e);
    sorted_.assign(scores, scores + e);
    std::nth_element(sorted_.begin(), sorted_.begin() + top_k_, sorted_.end(), std::greater<float>());
    const float edge = (*std::min_element(sorted_.begin(), sorted_.begin() + top_k_) + sorted_[size_t(top_k_)]) / 2;
    for (int i = 0; i < e; ++i) margins_[size_t(layer * e + i)] = (scores[i] - edge) / (std::sqrt(squares) + 1e-6f);
    ahead_[size_t(layer)] = ahead;
  }

  void begin_request() override { std::fill(ahead_.begin(), ahead_.end(), 0); }

  void routed(int layer, const int32_t* experts, int count, bool prefill) override {
    if (ahead_[size_t(layer)] != 0 && !prefill) learn(layer, experts, count);
    ahead_[size_t(layer)] = 0;
    chosen_[size_t(layer)].assign(experts, experts + (prefill ? 0 : count));
  }

  bool predict(int layer, int, float* odds) override {
    if (ahead_[size_t(layer)] == 0) return false;
    judge(layer);
    for (int i = 0; i < shape_.experts; ++i) odds[i] = sigmoid(logits_[size_t(i)]);
    return true;
  }

 private:
  static constexpr float kRate = 0.3f;

  // What is learned for a layer at a distance: `base` [E], and [E, E] what each expert that was chosen where the scores are from is worth. Beside
  // them sums of squared gradients, for the steps to become smaller (Adagrad).
  struct Table {
    float slope = 4, slope_seen = 1;
    std::vector<float> base, base_seen, worth, worth_seen;
  };

  static float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

  Table& table(int layer) {
    Table& t = tables_[size_t(layer * kReach + ahead_[size_t(layer)] - 1)];
    if (t.base.empty()) {
      const size_t e = size_t(shape_.experts);
      t.base.assign(e, 0.0f);
      t.base_seen.assign(e, 1.0f);
      t.worth.assign(e * e, 0.0f);
      t.worth_seen.assign(e, 1.0f);
    }
    return t;
  }

  // The experts chosen by the layer that the scores are from.
  const std::vector<int32_t>& before(int layer) const {
    static const std::vector<int32_t> none;
    const int from = layer - ahead_[size_t(layer)];
    return from >= 0 ? chosen_[size_t(from)] : none;
  }

  void judge(int layer) {
    const Table& t = table(layer);
    const int e = shape_.experts;
    for (int i = 0; i < e; ++i) logits_[size_t(i)] = t.slope * margins_[size_t(layer * e + i)] + t.base[size_t(i)];
    for (int32_t chosen : before(layer))
      for (int i = 0; i < e; ++i) logits_[size_t(i)] += t.worth[size_t(chosen * e + i)];
  }

  // One step on the cross-entropy of every expert's being chosen.
  void learn(int layer, const int32_t* experts, int count) {
    Table& t = table(layer);
    const int e = shape_.experts;
    judge(layer);
    std::vector<float>& wrong = logits_;
    for (float& logit : wrong) logit = sigmoid(logit);
    for (int i = 0; i < count; ++i) wrong[size_t(experts[i])] -= 1;
    float slope = 0, squares = 0;
    for (int i = 0; i < e; ++i) {
      const float g = wrong[size_t(i)];
      slope += g * margins_[size_t(layer * e + i)];
      squares += g * g;
      t.base_seen[size_t(i)] += g * g;
      t.base[size_t(i)] -= kRate * g / std::sqrt(t.base_seen[size_t(i)]);
    }
    t.slope_seen += slope * slope;
    t.slope -= kRate * slope / std::sqrt(t.slope_seen);
    for (int32_t chosen : before(layer)) {
      float& seen = t.worth_seen[size_t(chosen)];
      seen += squares / float(e);
      const float step = kRate / std::sqrt(seen);
      for (int i = 0; i < e; ++i) t.worth[size_t(chosen * e + i)] -= step * wrong[size_t(i)];
    }
  }

  Shape shape_;
  int top_k_;
  std::vector<float> margins_;  // [S, E]
  std::vector<int> ahead_;      // [S], 0: not handed in
  std::vector<std::vector<int32_t>> chosen_;
  std::vector<Table> tables_;  // [S, reach]
  std::vector<float> logits_, sorted_;
};

}  // namespace edgemoe
