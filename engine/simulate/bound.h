// The least that any policy must read, whatever the sizes of the records.
#pragma once
#include <cstdint>
#include <vector>

#include "simulate/replay.h"

namespace edgemoe {

// Bytes that decoding must read at the least with `budget` bytes of room, of which the experts of `initial` take theirs to begin with; records
// weigh `bytes` [N]. -1 where `stopped` became true.
//
// What is asked is what could be kept between two uses of an expert: an interval that takes the record's bytes of room and saves as many from
// being read. Parts of records may be kept, and nothing need be kept that was just used; then whoever is used again last leaves first, byte for
// byte, and no one reads less (Belady 1966, each byte a page). Whole records can only do worse, and for sizes that differ the best that whole
// records can do is hard to compute (Chrobak et al. 2012). What prefills read is not counted, so that nothing is worth keeping for them.
int64_t least_bytes(const Tape& tape, const int64_t* bytes, int64_t budget, const std::vector<int32_t>& initial, const volatile int32_t* stopped);

}  // namespace edgemoe
