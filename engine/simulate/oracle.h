#pragma once
#include <vector>

#include "preload/predictor.h"
#include "residency/policy.h"
#include "simulate/nexts.h"

namespace edgemoe {

// Belady's MIN: the expert whose next use lies furthest ahead leaves. Nobody misses less where all records are of one size (Belady 1966); where
// they are not, it is a schedule that could be kept, and no bound (that is in bound.h).
class Belady : public Policy {
 public:
  explicit Belady(const Tape& tape) : nexts_(tape), due_(nexts_.first()) {}

  void used(const int32_t* experts, int count, Moment, bool) override {
    for (int i = 0; i < count; ++i) due_[size_t(experts[i])] = nexts_.next();
  }

  void scores(Moment, const int64_t*, double* out) override {
    for (size_t e = 0; e < due_.size(); ++e) out[e] = double(due_[e]);
  }

 private:
  Nexts nexts_;
  std::vector<int64_t> due_;  // [N]: the visit that uses each next
};

// Knows what the routers will choose: what reading ahead could gain at best.
//
// `experts` [T, S, k] are the decoded tokens, -1 for none.
class Clairvoyant : public Predictor {
 public:
  Clairvoyant(Shape shape, int top_k, const int16_t* experts, int64_t tokens) : shape_(shape), top_k_(top_k), experts_(experts), tokens_(tokens) {}

  void routed(int layer, const int32_t*, int, bool prefill) override {
    if (!prefill && layer == 0) ++token_;
  }

  bool predict(int layer, int ahead, float* odds) override {
    const int64_t token = token_ + (layer - ahead < 0 ? 1 : 0);
    if (token < 0 || token >= tokens_) return false;
    for (int e = 0; e < shape_.experts; ++e) odds[e] = 0.0f;
    for (int i = 0; i < top_k_; ++i) {
      const int16_t e = experts_[(token * shape_.layers + layer) * top_k_ + i];
      if (e >= 0) odds[e] = 1.0f;
    }
    return true;
  }

 private:
  Shape shape_;
  int top_k_;
  const int16_t* experts_;
  int64_t tokens_, token_ = -1;
};

}  // namespace edgemoe
