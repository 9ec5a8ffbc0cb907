#include "simulate/stack.h"

#include "simulate/visits.h"

namespace edgemoe {

namespace {

// Sums over a range of places, each of which changes by itself (Fenwick 1994).
class Sums {
 public:
  explicit Sums(int64_t places) : tree_(size_t(places) + 1) {}
  void add(int64_t place, int32_t value) {
    for (size_t i = size_t(place) + 1; i < tree_.size(); i += i & (~i + 1)) tree_[i] += value;
  }
  int64_t up_to(int64_t place) const {
    int64_t sum = 0;
    for (size_t i = size_t(place) + 1; i > 0; i -= i & (~i + 1)) sum += tree_[i];
    return sum;
  }

 private:
  std::vector<int32_t> tree_;
};

}  // namespace

std::vector<int64_t> lru_hits(const Tape& tape, int64_t* uses) {
  int64_t length = tape.prefill_uses;
  for (int r = 0; r < tape.requests; ++r) length += int64_t(tape.lengths[r]) * tape.shape.layers * tape.top_k;
  Sums present(length);  // 1 where an expert's last use stands
  std::vector<int64_t> last(size_t(tape.shape.count()), -1), at_distance(size_t(tape.shape.count()) + 1, 0);
  int64_t now = 0, distinct = 0;
  *uses = 0;
  each_visit(tape, [] {}, [&](int32_t, Phase phase, int, const std::vector<Use>& chosen) {
    if (phase == DECODE)
      for (const Use& use : chosen) {
        ++*uses;
        const int64_t before = last[size_t(use.expert)];
        if (before >= 0) ++at_distance[size_t(distinct - present.up_to(before) + 1)];
      }
    for (const Use& use : chosen) {
      int64_t& place = last[size_t(use.expert)];
      if (place >= 0)
        present.add(place, -1);
      else
        ++distinct;
      present.add(now, 1);
      place = now++;
    }
    return true;
  });
  for (size_t room = 1; room < at_distance.size(); ++room) at_distance[room] += at_distance[room - 1];
  return at_distance;
}

}  // namespace edgemoe
