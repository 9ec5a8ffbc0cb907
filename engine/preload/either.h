#pragma once
#include "preload/predictor.h"

namespace edgemoe {

// What the first predictor says, and the second where the first cannot say.
class Either : public Predictor {
 public:
  Either(Predictor* first, Predictor* second) : first_(first), second_(second) {}

  void begin_request() override {
    first_->begin_request();
    second_->begin_request();
  }

  void routed(int layer, const int32_t* experts, int count, bool prefill) override {
    first_->routed(layer, experts, count, prefill);
    second_->routed(layer, experts, count, prefill);
  }

  bool predict(int layer, int ahead, float* odds) override { return first_->predict(layer, ahead, odds) || second_->predict(layer, ahead, odds); }

 private:
  Predictor *first_, *second_;
};

}  // namespace edgemoe
