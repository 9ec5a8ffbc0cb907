// Page-aligned memory for expert records, whose physical size is exact.
//
// Every slot is a stretch of address space as long as the longest record; only the pages a record fills are backed by memory. So records of
// different widths share the buffer without fragmentation, and what is given back is given back to the system at once.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace edgemoe {

class Slab {
 public:
  // `slots` slots of `slot_bytes` (a multiple of the page size) each, at first without memory behind them. `ok` tells whether there is room.
  Slab(int slots, int64_t slot_bytes);
  ~Slab();
  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;
  bool ok() const { return base_ != nullptr; }

  // A free slot for a record of `bytes`; physical memory stays within `ceiling` bytes. The caller sees to it that the records in use and this
  // one fit it; memory kept in free slots yields.
  int take(int64_t bytes, int64_t ceiling);

  // The record in `slot` is no longer needed; its memory is kept for the next taker.
  void give(int slot) { free_.push_back(slot); }

  // Returns the memory of all free slots to the system.
  void release();

  uint8_t* at(int slot) const { return base_ + slot * slot_bytes_; }
  int64_t committed() const { return committed_; }  // bytes of physical memory at most in use

 private:
  size_t best_free(int64_t bytes) const;
  void trim(int slot, int64_t keep);

  uint8_t* base_ = nullptr;
  int64_t slot_bytes_, committed_ = 0, size_;
  std::vector<int64_t> held_;
  std::vector<int> free_;
};

}  // namespace edgemoe
