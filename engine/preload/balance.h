// Whether reading ahead pays, measured while it runs.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>

namespace edgemoe {

// A running mean that forgets: each value counts half after `half_life` more.
class Mean {
 public:
  explicit Mean(double half_life) : keep_(std::exp2(-1 / half_life)) {}
  void add(double x) {
    sum_ = sum_ * keep_ + x;
    count_ = count_ * keep_ + 1;
  }
  double value(double none = 0) const { return count_ > 0 ? sum_ / count_ : none; }
  bool any() const { return count_ > 0; }
  void reset() { sum_ = count_ = 0; }

 private:
  double keep_, sum_ = 0, count_ = 0;
};

// Weighs what reads ahead save against what they cost, in ns of the token loop: every read that was used spared a stall, or a part of one;
// every one that was not kept the storage from what was needed, as far as the storage was busy; the room kept for them makes residents miss;
// and predicting takes time itself.
class Balance {
 public:
  static constexpr int kTrial = 24;       // passes before the first judgement, and of each trial after it was turned down
  static constexpr int kFirstPause = 96;  // passes without, then twice as many each time

  // --- what is seen ---
  void layer(int64_t ns) { layer_.add(double(ns)); }                // from router to router, without stalls
  void demand(int64_t ns) { read_.add(double(ns)); }                // one read on demand, start to end
  void stalled(int64_t ns, int misses) { stall_.add(double(ns) / misses); }  // a layer waited for that many demanded reads
  void spared(int64_t lead) { gain_ += std::min(stall_per_miss(), double(lead)); }  // one was used that was asked for that long before
  void wasted() { gain_ -= cost_of_wrong(); }
  void missed_for_room() { gain_ -= stall_per_miss(); }             // a resident had to leave for the staging area, and was asked for
  void predicted(int64_t ns) { gain_ -= double(ns); }
  void wanted(int records) { wanted_.add(records); }                // likely enough to be read ahead at one time

  // A decode pass is over: the storage was busy for `busy` of `elapsed` ns. Whether to read ahead in the next is `on`.
  void passed(int64_t busy, int64_t elapsed) {
    if (elapsed > 0) busy_.add(std::min(1.0, double(busy) / double(elapsed)));
    if (on_) net_.add(gain_);
    gain_ = 0;
    ++passes_;
    if (on_ && passes_ >= kTrial && net_.value() < 0) {
      turn(false);
    } else if (!on_ && passes_ >= pause_) {
      pause_ = std::min(2 * pause_, 16 * kFirstPause);
      turn(true);
    } else if (on_ && passes_ > 4 * kTrial) {
      pause_ = kFirstPause;
    }
  }

  // Something else holds from now on: a budget, a device, a predictor.
  void restart() {
    pause_ = kFirstPause;
    turn(true);
  }

  // --- what follows ---
  bool on() const { return on_; }

  // The probability below which reading ahead for a layer at this distance loses more than it gains.
  float least_odds(int distance) const {
    if (!read_.any() || !layer_.any()) return 0.4f;
    const double gain = std::min(read_.value(), layer_.value() * distance), cost = cost_of_wrong();
    return float(std::clamp(cost / (gain + cost), 0.1, 0.9));
  }

  // Records that the staging area should hold.
  int width(int most) const { return std::clamp(int(std::ceil(wanted_.value(most) + 0.5)), 1, most); }

  double net() const { return net_.value(); }  // ns a pass

 private:
  double stall_per_miss() const { return stall_.any() ? stall_.value() : read_.value(); }
  double cost_of_wrong() const { return read_.value() * busy_.value(0.5); }

  void turn(bool on) {
    on_ = on;
    passes_ = 0;
    net_.reset();
  }

  Mean layer_{200}, read_{50}, stall_{50}, busy_{30}, net_{60}, wanted_{200};
  double gain_ = 0;
  int passes_ = 0, pause_ = kFirstPause;
  bool on_ = true;
};

}  // namespace edgemoe
