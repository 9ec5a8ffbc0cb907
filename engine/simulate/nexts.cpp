#include "simulate/nexts.h"

#include <utility>

namespace edgemoe {

namespace {
constexpr int kPasses = 1024;  // a block
}

Nexts::Nexts(const Tape& tape, bool read_by_prefills) : layers_(tape.shape.layers), read_by_prefills_(read_by_prefills) {
  Walk walk(tape), before = walk;
  for (int passes = 0; walk.next([] {}); before = walk)
    if (passes++ % kPasses == 0) blocks_.push_back({before, {}});
  first_.assign(size_t(tape.shape.count()), kNever);
  for (size_t b = blocks_.size(); b-- > 0;) {
    blocks_[b].behind = first_;
    look_back(blocks_[b], first_);
  }
  of_.clear();
}

int64_t Nexts::next() {
  while (at_ == of_.size()) {
    std::vector<int64_t> behind = std::move(blocks_[block_].behind);
    look_back(blocks_[block_++], behind);
    at_ = 0;
  }
  return of_[at_++];
}

// Fills in the block's uses, and makes of what is used next behind it what is used next before it.
void Nexts::look_back(const Block& block, std::vector<int64_t>& next) {
  experts_.clear();
  of_.clear();
  Walk walk = block.begin;
  for (int passes = 0; passes < kPasses && walk.next([] {}); ++passes)
    walk.visit([&](int32_t pass, Phase phase, int layer, const std::vector<Use>& uses) {
      for (const Use& use : uses) {
        experts_.push_back(use.expert);
        of_.push_back(read_by_prefills_ && phase == PREFILL ? kNever : int64_t(pass) * layers_ + layer);
      }
      return true;
    });
  for (size_t i = experts_.size(); i-- > 0;) of_[i] = std::exchange(next[size_t(experts_[i])], of_[i]);
}

}  // namespace edgemoe
