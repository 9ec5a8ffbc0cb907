// What the experts that other layers chose tell of a layer's next turn: a log-linear model, learned as it is used.
//
// S layers, E experts a layer; J of the layers are listened to, all of them where that fits memory.
#pragma once
#include <vector>

#include "residency/policy.h"

namespace edgemoe {

// Every choice adds a row of evidence to the log odds of each layer to come, in this token or the next; older evidence fades. So the evidence for
// a layer grows in stages: after its own turn (stage 0), and after each of the layers listened to that had theirs since.
class Context {
 public:
  // Of at most about `most` bytes.
  Context(Shape shape, int64_t most);

  // What was chosen so far has nothing to do with what follows.
  void forget();

  int stages() const { return listened_ + 1; }
  int stage(int layer) const { return stage_[layer]; }
  // Evidence [E] about the layer's next turn at a stage that has been reached.
  const float* evidence(int layer, int stage) const { return &known_[(size_t(layer) * stages() + stage) * experts_]; }
  const float* evidence(int layer) const { return evidence(layer, stage_[layer]); }

  // A turn of `layer` in three steps, in this order. `hear`: it chose these experts (numbers in the layer), best first; returns the evidence [E]
  // about its next turn. `learn`: the odds said at each stage were too high by `error` [stages, E]. `pass_on`: what it means for the others.
  const float* hear(int layer, const int32_t* experts, int count);
  void learn(int layer, const float* error);
  void pass_on(int layer);

  void learned(std::vector<Learned>& out);

 private:
  struct Choice;
  bool listens(int layer) const { return layer % stride_ == 0; }
  int earlier(int layer) const { return (layer + stride_ - 1) / stride_; }  // how many layers are listened to before this one
  void collect(int layer, int place, bool same_token, const int32_t* experts, bool learning);

  int layers_, experts_, stride_ = 1, listened_;
  std::vector<size_t> first_;  // [S], where a layer's rows begin
  std::vector<float> rows_;    // for each layer: [J, E, E] by what the token before chose, then [<J, E, E] by what earlier layers did
  std::vector<float> seen_;    // [J, E], how often a choice was heard
  std::vector<float> known_, fresh_, push_;  // [S, stages, E], [E], [E]
  std::vector<int> stage_;                   // [S]
  std::vector<int32_t> chosen_, before_, now_;  // [J, top] where each layer stands, and stood when the token began, -1: nothing; [top]
  std::vector<float*> row_;                     // what `collect` found
  std::vector<float> weight_;
};

}  // namespace edgemoe
