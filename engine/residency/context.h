// What the experts that other layers chose tell of a layer's next turn: a log-linear model, learned as it is used.
//
// S layers, E experts a layer, N = S * E; J of the layers are listened to, all of them where that takes little memory and time.
#pragma once
#include <array>
#include <vector>

#include "residency/policy.h"

namespace edgemoe {

// Every choice adds rows of evidence to the log odds of each layer to come, in this token or the next; older evidence fades. So the evidence for
// a layer grows in stages: after its own turn (stage 0), and after each of the layers listened to that had theirs since.
//
// A row belongs to an expert chosen, or to what was chosen together, which comes close to knowing the token: the best three of a layer, and the
// best with the token before's. There are too many of these to have a row each; they share some by hashing (Weinberger et al. 2009).
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
  // about its next turn. `learn`: what was said at each stage was too high by `error` [stages, E]. `pass_on`: what it means for the others.
  const float* hear(int layer, const int32_t* experts, int count);
  void learn(int layer, const float* error);
  void pass_on(int layer);

  void learned(std::vector<Learned>& out);

 private:
  static constexpr int kTop = 8, kKeys = 2;  // choices of a layer that are listened to, at most; and what is said of them together
  using Weight = int16_t;

  struct Choice {
    std::array<int32_t, kTop> experts;
    std::array<int32_t, kKeys> keys;  // rows; -1 in either: none
  };

  bool listens(int layer) const { return layer % stride_ == 0; }
  int earlier(int layer) const { return (layer + stride_ - 1) / stride_; }  // how many layers are listened to before this one
  Choice choice(int layer, const int32_t* experts, int count) const;
  void collect(int layer, int place, bool same_token, const Choice& choice, bool learning);

  int layers_, experts_, stride_ = 1, listened_, shared_;
  std::vector<size_t> first_;                // [S], where a layer's rows begin
  std::vector<Weight> rows_;                 // for each layer: [J, E, E] by what the token before chose, then [<J, E, E] by earlier layers
  std::vector<Weight> shared_rows_;          // [shared, 2, N], the token before and the same token
  std::vector<float> seen_, seen_together_;  // [J, E], [shared], how often
  std::vector<float> known_, fresh_, push_;  // [S, stages, E], [E], [E]
  std::vector<int> stage_;                   // [S]
  std::vector<Choice> chosen_, before_;      // [J], where each layer stands, and stood when the token began
  Choice now_;
  std::vector<Weight*> found_;  // by `collect`, with their weights
  std::vector<float> weight_;
  uint32_t dither_ = 1;
};

}  // namespace edgemoe
