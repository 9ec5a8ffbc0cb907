#pragma once
#include <vector>

#include "residency/policy.h"

namespace edgemoe {

// Least frequently used: the expert used least often since the model was loaded leaves.
class Lfu : public Policy {
 public:
  explicit Lfu(Shape shape) : count_(shape.count()) {}

  void used(const int32_t* experts, int count, Moment, bool) override {
    for (int i = 0; i < count; ++i) count_[experts[i]] += 1;
  }

  void scores(Moment, const int64_t*, double* out) override {
    for (size_t e = 0; e < count_.size(); ++e) out[e] = -count_[e];
  }

 private:
  std::vector<double> count_;
};

}  // namespace edgemoe
