// When experts are used again.
#pragma once
#include <cstdint>
#include <limits>
#include <vector>

#include "simulate/visits.h"

namespace edgemoe {

// Tells of one use after the other, in the order in which they come, when its expert is used next: the number of a visit, pass * S + layer.
//
// Memory hardly grows with the tape: it is looked through backwards once, a block of passes at a time, only what is used next behind each
// block is kept, and a block is looked through again when it is come to.
class Nexts {
 public:
  static constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

  // With `read_by_prefills`, an expert that a prefill uses next counts as never used again: the prefill reads it, and that is not counted.
  explicit Nexts(const Tape& tape, bool read_by_prefills = false);

  const std::vector<int64_t>& first() const { return first_; }  // [N]: when every expert is used first
  int64_t next();

 private:
  struct Block {
    Walk begin;                   // before its first pass
    std::vector<int64_t> behind;  // [N]: when every expert is used next after it
  };

  void look_back(const Block& block, std::vector<int64_t>& next);

  int layers_;
  bool read_by_prefills_;
  std::vector<Block> blocks_;
  std::vector<int64_t> first_;
  size_t block_ = 0, at_ = 0;     // the block to come, and the place in the one under way
  std::vector<int32_t> experts_;  // of the block under way, by use
  std::vector<int64_t> of_;
};

}  // namespace edgemoe
