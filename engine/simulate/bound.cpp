#include "simulate/bound.h"

#include <algorithm>
#include <utility>

#include "simulate/nexts.h"

namespace edgemoe {

namespace {

// Of the experts of which something is held, whose next use is furthest; what was said of one before, or is held no more, does not count.
class Furthest {
 public:
  Furthest(const std::vector<int64_t>& held, const std::vector<int64_t>& due) : held_(held), due_(due) {}

  void add(int32_t expert) {
    if (heap_.size() > 4 * held_.size() + 64) {  // mostly of what does not count
      heap_.erase(std::remove_if(heap_.begin(), heap_.end(), [&](const auto& one) { return !counts(one); }), heap_.end());
      std::make_heap(heap_.begin(), heap_.end());
    }
    heap_.emplace_back(due_[size_t(expert)], expert);
    std::push_heap(heap_.begin(), heap_.end());
  }

  int32_t top() {
    while (!counts(heap_.front())) {
      std::pop_heap(heap_.begin(), heap_.end());
      heap_.pop_back();
    }
    return heap_.front().second;
  }

 private:
  using One = std::pair<int64_t, int32_t>;  // the visit of the next use, and whose
  bool counts(const One& one) const { return held_[size_t(one.second)] > 0 && due_[size_t(one.second)] == one.first; }

  const std::vector<int64_t>&held_, &due_;
  std::vector<One> heap_;
};

}  // namespace

int64_t least_bytes(const Tape& tape, const int64_t* bytes, int64_t budget, const std::vector<int32_t>& initial, const volatile int32_t* stopped) {
  Nexts nexts(tape, true);
  std::vector<int64_t> held(size_t(tape.shape.count())), due(size_t(tape.shape.count()));
  Furthest furthest(held, due);
  int64_t room = budget, read = 0;
  const auto hold = [&](int32_t expert, int64_t next) {
    const size_t e = size_t(expert);
    const int64_t kept = next == Nexts::kNever ? 0 : bytes[e];
    room += held[e] - kept;
    held[e] = kept;
    due[e] = next;
    if (kept > 0) furthest.add(expert);
  };
  for (int32_t expert : initial) hold(expert, nexts.first()[size_t(expert)]);
  const bool whole = each_visit(tape, [] {}, [&](int32_t, Phase phase, int, const std::vector<Use>& uses) {
    for (const Use& use : uses) {
      if (phase == DECODE) read += bytes[use.expert] - held[size_t(use.expert)];
      hold(use.expert, nexts.next());
    }
    while (room < 0) {
      int64_t& part = held[size_t(furthest.top())];
      const int64_t taken = std::min(part, -room);
      part -= taken;
      room += taken;
    }
    return *stopped == 0;
  });
  return whole ? read : -1;
}

}  // namespace edgemoe
