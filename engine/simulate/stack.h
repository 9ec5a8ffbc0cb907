// The hit rate of LRU with every number of experts in memory, from one pass over a routing.
#pragma once
#include <cstdint>
#include <vector>

#include "simulate/replay.h"

namespace edgemoe {

struct LruHits {
  std::vector<int64_t> at;      // with room for 0 to N experts of one size, [N + 1]; the last is of all that were ever seen before
  int64_t uses = 0, first = 0;  // all that there were, and those of experts never seen before
};

// Hits of decoded tokens, in memory that does not grow with the tape; false where `stopped` became true.
//
// LRU keeps with more room what it keeps with less, so that a use hits wherever the room is at least its stack distance: how many experts were
// used since its own last use, itself counted (Mattson et al. 1970). All of a layer's experts are looked up before any of them counts as used, as
// in the engine.
bool lru_hits(const Tape& tape, const volatile int32_t* stopped, LruHits* out);

}  // namespace edgemoe
