// What a predictor is; one a file beside this one, by name in predictors.cpp.
//
// S MoE layers, E experts a layer; experts are numbered within their layer here.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "residency/policy.h"

namespace edgemoe {

// Hears what every router chose, layer by layer, and says how likely the experts of a layer to come are.
class Predictor {
 public:
  virtual ~Predictor() = default;

  // A request begins: there is no token before.
  virtual void begin_request() {}

  // The router of `layer` chose these experts, in its order. A prefill names every expert that any of its tokens uses.
  virtual void routed(int layer, const int32_t* experts, int count, bool prefill) = 0;

  // Probabilities [E] that each expert of `layer` is chosen at its next turn, which lies `ahead` layers (1 to S) after the one routed last:
  // in this token or, where `layer` is not greater than that one, in the next. False where it cannot say.
  virtual bool predict(int layer, int ahead, float* odds) = 0;
};

}  // namespace edgemoe
