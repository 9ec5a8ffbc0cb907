// What the engine did, as rows of the recording's tables (engine/events.py), byte for byte, and the totals of the pass under way.
#pragma once
#include <algorithm>
#include <utility>
#include <vector>

#include "recording/clock.h"

namespace edgemoe {

enum SpanKind : uint8_t { ATTENTION = 0, ROUTER = 1, EXPERT = 2, STALL = 3, HEAD = 4, SAMPLE = 5, READ = 6, SHARED = 7, ACCOUNT = 8, PREDICT = 9, kSpanKinds = 16 };
enum Outcome : uint8_t { HIT = 0, FIRST_TOUCH = 1, CAPACITY = 2, MISPREDICTED = 3, LATE = 4, PRELOADED = 5, kOutcomes = 6 };
enum State : uint8_t { ABSENT = 0, LOADING = 1, RESIDENT = 2, STAGED = 3 };
enum Asked : uint8_t { ASKED_NOTHING = 0, ASKED_HELD = 1, ASKED_READ = 2, ASKED_DROPPED = 3 };
enum Phase : uint8_t { PREFILL = 0, DECODE = 1 };

#pragma pack(push, 1)
struct Span {
  int64_t start, duration;
  int32_t token;
  int16_t layer, expert;
  uint8_t kind, lane, bits, outcome;
  int32_t bytes;
};

struct Access {
  int64_t time;
  int32_t token;
  int16_t layer, expert;
  uint8_t bits, outcome, rank, phase;
  int32_t tokens;
  float weight;
};

struct Change {
  int64_t time;
  int32_t token;
  int16_t layer, expert;
  uint8_t state, bits;
  float score;
  int32_t newcomer;
  float runner_up;
};

struct Prediction {
  int64_t time;
  int32_t token;
  int16_t layer, expert;
  uint8_t rank, ahead, chosen, asked;
  float probability;
};
#pragma pack(pop)

// Sums over the pass under way. Mirrored by engine/ledger.py.
struct Totals {
  int64_t times[kSpanKinds];  // ns by kind of span
  int64_t outcomes[kOutcomes];
  int64_t demand_bytes, useful_bytes, wasted_bytes;
  int64_t bits_used;  // widths of the experts used, summed
  int64_t evictions;
  int64_t guessed, guessed_right;  // experts that were predicted among a layer's top k, and those of them that it chose
};

class Records {
 public:
  explicit Records(int experts, const Clock* clock = nullptr) : experts_(experts), clock_(clock ? clock : &own_) {}

  // A pass starts: its totals are zero. Rows told from now on carry its number.
  void begin(int32_t pass, Phase phase) {
    token_ = pass;
    phase_ = phase;
    totals = {};
    reads_.clear();
    reached = now();
  }

  // What was done since `at`, where the caller's last span ended, was bookkeeping, so that spans leave no hole between calls.
  void resume(int64_t at) {
    reached = at;
    mark(ACCOUNT, -1);
  }

  // All time since the last mark was spent on this.
  void mark(SpanKind kind, int layer, int expert = -1, int bits = 0) { until(now(), kind, layer, expert, bits); }

  void until(int64_t end, SpanKind kind, int layer, int expert, int bits) {
    const int64_t duration = end - reached;
    totals.times[kind] += duration;
    if (on) spans.push_back({reached, duration, token_, int16_t(layer), int16_t(expert), kind, 0, uint8_t(bits), 0, 0});
    reached = end;
  }

  // An expert (its number) was used by the pass.
  void use(int32_t expert, int bits, Outcome outcome, int rank, int tokens, float weight) {
    ++totals.outcomes[outcome];
    totals.bits_used += bits;
    if (on)
      accesses.push_back({reached, token_, layer_of(expert), local(expert), uint8_t(bits), outcome, uint8_t(std::min(rank, 255)), phase_, tokens, weight});
  }

  // A record was read between two times of the machine's clock.
  void read(int32_t expert, int bits, Outcome outcome, int lane, int64_t started, int64_t finished, int64_t bytes) {
    const int64_t start = started - origin, end = finished - origin;
    reads_.emplace_back(start, end);
    if (on) spans.push_back({start, end - start, token_, layer_of(expert), local(expert), READ, uint8_t(lane), uint8_t(bits), outcome, int32_t(bytes)});
  }

  // `newcomer` and `runner_up` as engine/events.py has them.
  void changed(int32_t expert, State state, int bits, double score, int32_t newcomer = 0, double runner_up = 0) {
    if (on) changes.push_back({now(), token_, layer_of(expert), local(expert), state, uint8_t(bits), float(score), newcomer, float(runner_up)});
  }

  void predicted(int32_t expert, int rank, int ahead, bool chosen, Asked asked, float probability) {
    if (on)
      predictions.push_back({reached, token_, layer_of(expert), local(expert), uint8_t(rank), uint8_t(ahead), uint8_t(chosen), asked, probability});
  }

  // ns of the pass in which at least one read that was told in it was in flight.
  int64_t io_time() {
    std::sort(reads_.begin(), reads_.end());
    int64_t total = 0, reached = 0;
    for (const auto& [start, end] : reads_) {
      total += std::max<int64_t>(0, end - std::max(start, reached));
      reached = std::max(reached, end);
    }
    return total;
  }

  void forget_rows() {
    spans.clear();
    accesses.clear();
    changes.clear();
    predictions.clear();
  }

  int64_t now() const { return clock_->now() - origin; }
  int32_t pass() const { return token_; }
  Phase phase() const { return phase_; }

  bool on = true;      // false: totals only
  int64_t origin = 0;  // the clock's time 0
  int64_t reached = 0;  // when the last span ended
  Totals totals{};
  std::vector<Span> spans;
  std::vector<Access> accesses;
  std::vector<Change> changes;
  std::vector<Prediction> predictions;

 private:
  int16_t layer_of(int32_t expert) const { return int16_t(expert / experts_); }
  int16_t local(int32_t expert) const { return int16_t(expert % experts_); }

  int experts_;
  Clock own_;
  const Clock* clock_;
  int32_t token_ = 0;
  Phase phase_ = PREFILL;
  std::vector<std::pair<int64_t, int64_t>> reads_;
};

}  // namespace edgemoe
