#pragma once
#include <cmath>
#include <vector>

#include "residency/policy.h"

namespace edgemoe {

// EdgeMoE's eviction as its text means it: rarely used and far from its layer's next turn goes first (arXiv 2308.14352).
//
// Score -f / D: f the decayed frequency, D = (i - I) mod S the forward distance from layer I to layer i, 0 taken for S.
class EdgeMoE : public Policy {
 public:
  // Passes after which a use counts half. The paper counts over the whole lifetime, which loses to LRU on real routing.
  static constexpr double kHalfLife = 8.0;
  // Of other text, against this one's uses. At 25% budget a first prefill misses 98 instead of 115 of the demo model's experts for a point
  // of the hit rate of the first ten tokens; trusted fully, 95 for two and a half.
  static constexpr double kTrust = 0.25;

  explicit EdgeMoE(Shape shape) : shape_(shape), count_(shape.count()), since_(shape.count()) {}

  void expect(const double* odds) override {
    for (size_t e = 0; e < count_.size(); ++e) count_[e] = kTrust * odds[e] / (1 - std::exp2(-1 / kHalfLife));
  }

  void used(const int32_t* experts, int count, Moment at, bool) override {
    for (int i = 0; i < count; ++i) {
      const int32_t e = experts[i];
      count_[e] = decayed(e, at.pass) + 1;
      since_[e] = at.pass;
    }
  }

  void scores(Moment at, const int64_t*, double* out) override {
    for (int layer = 0, e = 0; layer < shape_.layers; ++layer) {
      const int forward = (layer - at.layer + shape_.layers) % shape_.layers;
      const double nearness = 1.0 / (forward == 0 ? shape_.layers : forward);
      for (int i = 0; i < shape_.experts; ++i, ++e) out[e] = -decayed(e, at.pass) * nearness;
    }
  }

 private:
  double decayed(int32_t e, int64_t pass) {
    const size_t age = size_t(pass - since_[e]);
    while (decay_.size() <= age && decay_.size() < 1024) decay_.push_back(std::exp2(-double(decay_.size()) / kHalfLife));
    return age < decay_.size() ? count_[e] * decay_[age] : 0.0;
  }

  Shape shape_;
  std::vector<double> count_, decay_;
  std::vector<int64_t> since_;  // the pass that `count_` was last brought up to
};

}  // namespace edgemoe
