#pragma once
#include "residency/buffer.h"

namespace edgemoe {

// All numbers of a buffer at one moment, as C has them. Mirrored by engine/residency/buffer.py.
struct BufferView {
  int64_t budget, held, peak, most_over, evictions, staging, committed;
  const int64_t* by_width;      // [widths]
  const uint64_t* records;      // [N]
  const uint8_t* width_places;  // [N]
};

// `slab` is null where there is no memory behind the records.
inline BufferView view_of(const Buffer& b, const Slab* slab) {
  return {b.budget(),    b.held(),    b.peak(),           b.most_over(), b.evictions(), b.staging(), slab != nullptr ? slab->committed() : 0,
          b.bytes_by_width(), b.records(), b.width_places()};
}

}  // namespace edgemoe
