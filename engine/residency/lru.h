#pragma once
#include <vector>

#include "residency/policy.h"

namespace edgemoe {

// Least recently used: the expert whose last use lies furthest back leaves.
class Lru : public Policy {
 public:
  explicit Lru(Shape shape) : last_(shape.count()) {}

  void used(const int32_t* experts, int count, Moment, bool) override {
    for (int i = 0; i < count; ++i) last_[experts[i]] = ++tick_;
  }

  void scores(Moment, const int64_t*, double* out) override {
    for (size_t e = 0; e < last_.size(); ++e) out[e] = -last_[e];
  }

 private:
  std::vector<double> last_;
  double tick_ = 0;
};

}  // namespace edgemoe
