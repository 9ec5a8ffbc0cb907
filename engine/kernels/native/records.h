// What a decoder did, as rows of the recording's tables (engine/events.py SPAN and ACCESS), byte for byte.
#pragma once
#include <cstdint>
#include <vector>

#include "linear.h"

namespace edgemoe {

enum SpanKind : uint8_t { ATTENTION = 0, ROUTER = 1, EXPERT = 2, HEAD = 4, SHARED = 7, ACCOUNT = 8, kSpanKinds = 16 };

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
#pragma pack(pop)

class Records {
 public:
  // Forgets what was drained; `origin` is the clock's time 0.
  void begin(int64_t origin, int32_t token) {
    spans.clear();
    accesses.clear();
    for (int64_t& t : times) t = 0;
    origin_ = origin;
    token_ = token;
  }

  // What was done since `at` was the caller's bookkeeping, so that spans leave no hole between calls.
  void resume(int64_t at) {
    reached = at;
    mark(ACCOUNT, -1);
  }

  // All time since the last mark was spent on this.
  void mark(SpanKind kind, int layer, int expert = -1, int bits = 0) { until(now_ns() - origin_, kind, layer, expert, bits); }

  void until(int64_t end, SpanKind kind, int layer, int expert, int bits) {
    const int64_t duration = end - reached;
    times[kind] += duration;
    spans.push_back({reached, duration, token_, int16_t(layer), int16_t(expert), kind, 0, uint8_t(bits), 0, 0});
    reached = end;
  }

  void use(int layer, int expert, int bits, int rank, float weight) {
    accesses.push_back({reached, token_, int16_t(layer), int16_t(expert), uint8_t(bits), 0, uint8_t(rank < 255 ? rank : 255), 1, 1, weight});
  }

  int64_t now() const { return now_ns() - origin_; }

  std::vector<Span> spans;
  std::vector<Access> accesses;
  int64_t times[kSpanKinds] = {};
  int64_t reached = 0;

 private:
  int64_t origin_ = 0;
  int32_t token_ = 0;
};

}  // namespace edgemoe
