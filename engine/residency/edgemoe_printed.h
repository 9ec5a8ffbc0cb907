#pragma once
#include <vector>

#include "residency/policy.h"

namespace edgemoe {

// EdgeMoE's eviction exactly as the paper prints it, kept as a baseline (arXiv 2308.14352, expert buffer management).
//
// Score -f / ((S - i + I) mod S): lifetime frequency f over the *backward* layer distance. This contradicts the paper's text, since the layer
// about to run comes out as the furthest away; where it is 0/0 (the current layer) we take the distance for S.
class EdgeMoEPrinted : public Policy {
 public:
  explicit EdgeMoEPrinted(Shape shape) : shape_(shape), count_(shape.count()) {}

  void used(const int32_t* experts, int count, Moment, bool) override {
    for (int i = 0; i < count; ++i) count_[experts[i]] += 1;
  }

  void scores(Moment at, const int64_t*, double* out) override {
    for (int layer = 0, e = 0; layer < shape_.layers; ++layer) {
      const int backward = (shape_.layers - layer + at.layer) % shape_.layers;
      const double nearness = 1.0 / (backward == 0 ? shape_.layers : backward);
      for (int i = 0; i < shape_.experts; ++i, ++e) out[e] = -count_[e] * nearness;
    }
  }

 private:
  Shape shape_;
  std::vector<double> count_;
};

}  // namespace edgemoe
