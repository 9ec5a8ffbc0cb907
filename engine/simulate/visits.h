// Going through a tape.
#pragma once
#include <limits>
#include <utility>
#include <vector>

#include "simulate/replay.h"

namespace edgemoe {

// Calls visit(pass, phase, layer, uses) for every layer of every pass, in order, and request() where one begins; until it says false.
template <class Request, class Visit>
bool each_visit(const Tape& tape, Request&& request, Visit&& visit) {
  const int layers = tape.shape.layers, experts = tape.shape.experts;
  std::vector<Use> uses;
  int64_t at = 0, token = 0;
  int32_t pass = 0;
  for (int r = 0; r < tape.requests; ++r) {
    request();
    const int64_t begin = at;
    while (at < tape.prefill_uses && tape.prefill[at].request == r) {
      const int layer = tape.prefill[at].layer;
      uses.clear();
      for (; at < tape.prefill_uses && tape.prefill[at].request == r && tape.prefill[at].layer == layer; ++at)
        uses.push_back({layer * experts + tape.prefill[at].expert, 0, tape.prefill[at].tokens, 0.0f});
      if (!visit(pass, PREFILL, layer, uses)) return false;
    }
    pass += at > begin;
    for (int t = 0; t < tape.lengths[r]; ++t, ++token, ++pass)
      for (int layer = 0; layer < layers; ++layer) {
        uses.clear();
        const int16_t* chosen = tape.experts + (token * layers + layer) * tape.top_k;
        for (int i = 0; i < tape.top_k; ++i)
          if (chosen[i] >= 0) uses.push_back({layer * experts + chosen[i], i, 1, 0.0f});
        if (!visit(pass, DECODE, layer, uses)) return false;
      }
  }
  return true;
}

// When each use's expert is used again, and when every expert is used first: numbers of visits.
struct Nexts {
  static constexpr int64_t kNever = std::numeric_limits<int32_t>::max();
  std::vector<int64_t> of, first;  // by use, in the order in which they come; [N]
};

// With `read_by_prefills`, an expert that a prefill uses next counts as never used again: the prefill reads it, and that is not counted.
inline Nexts look_up_next(const Tape& tape, bool read_by_prefills = false) {
  std::vector<int32_t> experts;
  std::vector<int64_t> visits;  // of each use
  int64_t visit = 0;
  each_visit(tape, [] {}, [&](int32_t, Phase phase, int, const std::vector<Use>& uses) {
    for (const Use& use : uses) {
      experts.push_back(use.expert);
      visits.push_back(read_by_prefills && phase == PREFILL ? Nexts::kNever : visit);
    }
    return ++visit > 0;
  });
  Nexts nexts;
  nexts.first.assign(size_t(tape.shape.count()), Nexts::kNever);
  nexts.of.resize(experts.size());
  for (size_t i = experts.size(); i-- > 0;) {
    int64_t& next = nexts.first[size_t(experts[i])];
    nexts.of[i] = std::exchange(next, visits[i]);
  }
  return nexts;
}

}  // namespace edgemoe
