// How likely an expert is used, by what it did itself: a logistic model of its decayed uses.
//
// S layers, E experts a layer; H half-lives, F features an expert.
#pragma once
#include <vector>

#include "residency/policy.h"

namespace edgemoe {

// One weight a feature for all experts of all layers, so that a few dozen tokens teach it, and a bias for each expert.
class Habit {
 public:
  explicit Habit(Shape shape);

  // How likely a token uses each expert [S, E], from other text: taken for what they did so far.
  void expect(const double* odds);

  // A turn of `layer` used `count` experts (numbers in the layer, the router's order); of a whole prompt, all that any of its tokens used.
  void turn(int layer, const int32_t* experts, int count, bool prefill);

  // Log odds [E] of what comes of the layer's next turn.
  const float* logits(int layer) const { return &logits_[size_t(layer) * experts_]; }
  // The same before the layer's last turn.
  const float* said() const { return said_.data(); }

  // What `said` should have been of, [E].
  void learn(int layer, const float* target);

  // Log odds of use that an expert has for being one of `E`, where a token uses k.
  float base() const { return base_; }

  void learned(std::vector<Learned>& out);

 private:
  void set_share(float share);
  void retell(int layer);  // its features, of what it did
  void weigh(int layer);

  int layers_, experts_;
  float share_ = 0, base_ = 0;  // of the experts that a token uses; as log odds
  bool known_ = false;          // whether a turn has told it
  std::vector<float> rate_;      // [S, H, E], uses a turn, over the mean of the layer's experts
  std::vector<float> features_;  // [S, F, E]
  std::vector<float> before_, said_, error_;  // [F, E], [E], [E]: the layer heard last, before its turn
  std::vector<float> logits_;                 // [S, E]
  std::vector<float> weight_, slope_, bias_;  // [F], [F], [S, E]
};

}  // namespace edgemoe
