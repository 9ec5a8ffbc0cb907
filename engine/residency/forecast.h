#pragma once
#include <vector>

#include "residency/context.h"
#include "residency/habit.h"

namespace edgemoe {

// The expert leaves whose next use is expected to be worth least: worth 1 now, and kPatience times as much with every token it is away.
//
// That worth is learned from the stream itself, by temporal differences: what an expert turned out to be worth at its layer's turn is 1 where it
// was used, else kPatience times what it is now thought to be worth at the next (Sutton 1988). A logistic model says it, of the expert's own past
// (Habit) and of what the layers since have chosen (Context).
class Forecast : public Policy {
 public:
  explicit Forecast(Shape shape);

  void expect(const double* odds) override { habit_.expect(odds); }
  void begin_request() override { forget(); }
  void used(const int32_t* experts, int count, Moment at, bool prefill) override;
  void predicted(int layer, const float* odds) override;
  void scores(Moment at, const int64_t* bytes, double* out) override;
  std::vector<Learned> learned() override;

 private:
  void forget();
  void learn(int layer);
  void say(int layer, float* worth) const;

  Shape shape_;
  Habit habit_;
  Context context_;
  std::vector<float> scale_, shift_;       // [stages], of the habit's log odds
  std::vector<uint8_t> foretold_, heard_;  // [S]: whether the predictor spoke of the next turn; whether its last turn was of this token or the one before
  std::vector<float> odds_;                // [S, E], what it said
  std::vector<float> used_, target_, own_target_, error_;  // [E], [E], [E], [stages, E]
  std::vector<float> worth_;               // [S, E] where `last_` is the moment
  Moment last_{-1, -1};
  int64_t pass_ = -1;
};

}  // namespace edgemoe
