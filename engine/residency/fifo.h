#pragma once
#include <vector>

#include "residency/policy.h"

namespace edgemoe {

// First in, first out: the expert loaded longest ago leaves, however often it was used since.
class Fifo : public Policy {
 public:
  explicit Fifo(Shape shape) : loaded_(shape.count()) {}

  void used(const int32_t*, int, Moment, bool) override {}

  void loaded(int32_t expert, Moment) override { loaded_[expert] = ++tick_; }

  void scores(Moment, const int64_t*, double* out) override {
    for (size_t e = 0; e < loaded_.size(); ++e) out[e] = -loaded_[e];
  }

 private:
  std::vector<double> loaded_;
  double tick_ = 0;
};

}  // namespace edgemoe
