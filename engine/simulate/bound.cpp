#include "simulate/bound.h"

#include <queue>
#include <utility>

#include "simulate/visits.h"

namespace edgemoe {

int64_t least_bytes(const Tape& tape, const int64_t* bytes, int64_t budget, const volatile int32_t* stopped) {
  const Nexts nexts = look_up_next(tape, true);
  std::vector<int64_t> held(size_t(tape.shape.count())), due(size_t(tape.shape.count()));
  std::priority_queue<std::pair<int64_t, int32_t>> furthest;  // the visit of the next use, and whose; also of experts that are held no more
  int64_t room = budget, read = 0;
  size_t use_number = 0;
  const bool whole = each_visit(tape, [] {}, [&](int32_t, Phase phase, int, const std::vector<Use>& uses) {
    for (const Use& use : uses) {
      const size_t e = size_t(use.expert);
      if (phase == DECODE) read += bytes[e] - held[e];
      due[e] = nexts.of[use_number++];
      const int64_t kept = due[e] == Nexts::kNever ? 0 : bytes[e];
      room += held[e] - kept;
      held[e] = kept;
      if (kept > 0) furthest.emplace(due[e], use.expert);
    }
    while (room < 0) {
      const auto [visit, expert] = furthest.top();
      int64_t& part = held[size_t(expert)];
      if (part == 0 || due[size_t(expert)] != visit) {
        furthest.pop();
        continue;
      }
      const int64_t taken = part < -room ? part : -room;
      part -= taken;
      room += taken;
    }
    return *stopped == 0;
  });
  return whole ? read : -1;
}

}  // namespace edgemoe
