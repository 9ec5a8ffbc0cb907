#include "residency/slab.h"

#include <sys/mman.h>

namespace edgemoe {

Slab::Slab(int slots, int64_t slot_bytes) : slot_bytes_(slot_bytes), size_(slots * slot_bytes), held_(slots) {
  int flags = MAP_PRIVATE | MAP_ANONYMOUS;
#ifdef MAP_NORESERVE
  flags |= MAP_NORESERVE;
#endif
  void* base = mmap(nullptr, size_t(size_), PROT_READ | PROT_WRITE, flags, -1, 0);
  if (base == MAP_FAILED) return;
  base_ = static_cast<uint8_t*>(base);
#ifdef MADV_NOHUGEPAGE
  madvise(base, size_t(size_), MADV_NOHUGEPAGE);  // a huge page would take memory that no record asked for
#endif
  for (int slot = slots - 1; slot >= 0; --slot) free_.push_back(slot);
}

Slab::~Slab() {
  if (base_ != nullptr) munmap(base_, size_t(size_));
}

int Slab::take(int64_t bytes, int64_t ceiling) {
  const size_t place = best_free(bytes);
  const int slot = free_[place];
  free_.erase(free_.begin() + int64_t(place));
  if (held_[slot] > bytes) trim(slot, bytes);
  for (int other : free_) {
    if (committed_ + bytes - held_[slot] <= ceiling) break;
    trim(other, 0);
  }
  committed_ += bytes - held_[slot];
  held_[slot] = bytes;
  return slot;
}

void Slab::release() {
  for (int slot : free_) trim(slot, 0);
}

// The newest free slot that already holds just as much spares page faults; else the newest.
size_t Slab::best_free(int64_t bytes) const {
  for (size_t back = 1; back <= free_.size() && back <= 8; ++back)
    if (held_[free_[free_.size() - back]] == bytes) return free_.size() - back;
  return free_.size() - 1;
}

void Slab::trim(int slot, int64_t keep) {
  if (held_[slot] <= keep) return;
  madvise(at(slot) + keep, size_t(held_[slot] - keep), MADV_DONTNEED);
  committed_ -= held_[slot] - keep;
  held_[slot] = keep;
}

}  // namespace edgemoe
