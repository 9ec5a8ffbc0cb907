#pragma once
#include <vector>

#include "residency/context.h"
#include "residency/habit.h"

namespace edgemoe {

// Keeping an expert is worth the read it saves at its next use less the rent of its room until then; the expert worth least leaves.
//
// The rent is what the room earns with others, in reads a token. An expert that turns out not to pay it any longer will be given up, then to be
// worth nothing; so an expert about which much will be known soon is worth keeping until then. (A restless bandit's index, Whittle 1988.) That
// worth is learned from the stream itself, by temporal differences (Sutton 1988): at its layer's turn an expert was worth 1 where it was used, else
// what it is now thought to be worth until the next. A logistic model says it, of the expert's own past (Habit) and of what the layers since
// have chosen (Context).
class Forecast : public Policy {
 public:
  explicit Forecast(Shape shape);

  void expect(const double* odds) override {
    habit_.expect(odds);
    last_ = {-1, -1};
  }
  void begin_request() override { forget(); }
  void used(const int32_t* experts, int count, Moment at, bool prefill) override;
  void predicted(int layer, const float* odds) override;
  void scores(Moment at, const int64_t* bytes, double* out) override;
  std::vector<Learned> learned() override;

 private:
  void forget();
  void appraise(int layer, const float* fresh);
  void learn(int layer);
  void set_rent(const int64_t* bytes);
  void say(int layer, float* worth) const;

  Shape shape_;
  Habit habit_;
  Context context_;
  float rent_;                             // of an expert's room, a token
  int top_ = 0;                            // experts a token uses of a layer
  std::vector<float> scale_, shift_;       // [stages], of the habit's log odds
  std::vector<uint8_t> foretold_, heard_;  // [S]: whether the predictor spoke of the next turn; whether its last turn was of this token or the one before
  std::vector<float> odds_;                // [S, E], what it said
  std::vector<float> used_, worth_then_, own_worth_, said_, error_;  // [E] but the last two, which are [stages, E]
  std::vector<float> worth_;               // [S, E] where `last_` is the moment
  Moment last_{-1, -1};
};

}  // namespace edgemoe
