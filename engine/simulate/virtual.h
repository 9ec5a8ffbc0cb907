// Time and storage that are only thought: what takes time moves a clock, and reads end when a model of the device says.
#pragma once
#include <deque>
#include <vector>

#include "preload/predictor.h"
#include "preload/storage.h"
#include "recording/clock.h"

namespace edgemoe {

class VirtualClock : public Clock {
 public:
  int64_t now() const override { return time_; }
  void pass(int64_t ns) { time_ += ns; }
  void reach(int64_t time) { time_ = time > time_ ? time : time_; }

 private:
  int64_t time_ = 0;
};

// A predictor that takes time to predict a layer.
class Timed : public Predictor {
 public:
  Timed(Predictor* predictor, int64_t ns, VirtualClock* clock) : predictor_(predictor), ns_(ns), clock_(clock) {}

  void begin_request() override { predictor_->begin_request(); }
  void routed(int layer, const int32_t* experts, int count, bool prefill) override { predictor_->routed(layer, experts, count, prefill); }
  bool predict(int layer, int ahead, float* odds) override {
    clock_->pass(ns_);
    return predictor_->predict(layer, ahead, odds);
  }

 private:
  Predictor* predictor_;
  int64_t ns_;
  VirtualClock* clock_;
};

// What reads cost, in ns and bytes/s. Latencies of the reads in flight overlap, transfers do not (the loader's Pace); `wake` passes until a
// thread hears of it.
struct Device {
  double bandwidth;
  int64_t latency, wake;
  int32_t lanes;
};

// Serves reads as the loader does: demand first, reads ahead leaving a lane free.
class ModelledStorage : public Storage {
 public:
  ModelledStorage(Device device, VirtualClock* clock) : device_(device), clock_(clock) {}

  void submit(Read* read) override;
  bool cancel(Read* read) override;
  bool join(Read* read) override;
  Read* wait() override;
  Read* poll() override;
  int64_t busy() override;

 private:
  struct Turn {
    Read* read;  // whose end is known
    bool ahead;  // from the queue of those, and not joined
  };

  void settle(int64_t until);
  void start(int64_t time);
  std::vector<Turn>::iterator first_to_end();

  Device device_;
  VirtualClock* clock_;
  std::deque<Read*> demand_, ahead_, done_;
  std::vector<Turn> in_flight_;
  int ahead_in_flight_ = 0;
  int64_t bus_free_ = 0, busy_ = 0, busy_since_ = 0;
};

}  // namespace edgemoe
