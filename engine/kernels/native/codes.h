// Where the code of a column lies in a packed row (engine/quant/packing.py): blocks of 32 bytes, each in planes.
#pragma once
#include <cstdint>

namespace edgemoe {

// Adds the codes of one field, `low` bits up, for columns [from, to) of a row of P columns; `row` is where the field begins.
static inline void add_field(const uint8_t* row, int field, int low, int columns, int from, int to, uint8_t* out) {
  const int block = 256 / field, whole = columns / block * block, mask = (1 << field) - 1;
  for (int c = from; c < to;) {
    const bool in_whole = c < whole;
    const int start = in_whole ? c / block * block : whole, width = in_whole ? 32 : (columns - whole) * field / 8;
    const int plane = (c - start) / width, first = (c - start) % width;
    const int count = width - first < to - c ? width - first : to - c;
    const uint8_t* bytes = row + start * field / 8 + first;
    for (int j = 0; j < count; ++j) out[c - from + j] |= uint8_t(((bytes[j] >> (plane * field)) & mask) << low);
    c += count;
  }
}

// The codes of columns [from, to) of a packed row of P columns, one a byte.
static inline void unpack_row(const uint8_t* row, int bits, int columns, int from, int to, uint8_t* out) {
  for (int i = 0; i < to - from; ++i) out[i] = 0;
  if (bits != 3) return add_field(row, bits, 0, columns, from, to, out);
  add_field(row, 2, 0, columns, from, to, out);
  add_field(row + columns / 4, 1, 2, columns, from, to, out);
}

}  // namespace edgemoe
