// XXH3 with 64 bits, as its specification (xxhash.com, doc/xxhash_spec) defines it for long inputs, seed 0 and the default secret: what a store's
// records carry.
#pragma once
#include <cstdint>
#include <cstring>

namespace edgemoe {

// Of more than 240 bytes, as all records are (multiples of 4 KiB). The same by the widest instructions the processor has and by none of its own.
uint64_t checksum(const uint8_t* data, int64_t bytes, bool widest = true);

}  // namespace edgemoe
