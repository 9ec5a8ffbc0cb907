#include "simulate/stack.h"

#include <algorithm>
#include <numeric>

#include "simulate/visits.h"

namespace edgemoe {

namespace {

// Experts in the order of their last use. Each use takes the next place; how many stand behind one is a sum over a range of places, each of which
// changes by itself (Fenwick 1994). When the places are used up, the experts are moved to the first ones, in order.
class Order {
 public:
  explicit Order(size_t experts) : last_(experts, -1), by_use_(experts), tree_(4 * experts + 2) {}

  // How many experts were used since this one was, itself counted; 0 if it never was.
  int64_t distance(int32_t e) const { return last_[size_t(e)] < 0 ? 0 : distinct_ - up_to(last_[size_t(e)]) + 1; }

  void use(int32_t e) {
    if (now_ + 1 == int64_t(tree_.size())) renumber();
    int64_t& place = last_[size_t(e)];
    if (place >= 0)
      add(place, -1);
    else
      ++distinct_;
    add(now_, 1);
    place = now_++;
  }

 private:
  void renumber() {
    std::iota(by_use_.begin(), by_use_.end(), 0);
    std::sort(by_use_.begin(), by_use_.end(), [&](int32_t a, int32_t b) { return last_[size_t(a)] < last_[size_t(b)]; });
    std::fill(tree_.begin(), tree_.end(), 0);
    now_ = 0;
    for (int32_t e : by_use_)
      if (last_[size_t(e)] >= 0) {
        add(now_, 1);
        last_[size_t(e)] = now_++;
      }
  }

  void add(int64_t place, int32_t value) {
    for (size_t i = size_t(place) + 1; i < tree_.size(); i += i & (~i + 1)) tree_[i] += value;
  }

  int64_t up_to(int64_t place) const {
    int64_t sum = 0;
    for (size_t i = size_t(place) + 1; i > 0; i -= i & (~i + 1)) sum += tree_[i];
    return sum;
  }

  std::vector<int64_t> last_;  // [N]: the place of each expert's last use, or -1
  std::vector<int32_t> by_use_, tree_;
  int64_t now_ = 0, distinct_ = 0;
};

}  // namespace

bool lru_hits(const Tape& tape, const volatile int32_t* stopped, LruHits* out) {
  const size_t experts = size_t(tape.shape.count());
  Order order(experts);
  *out = {};
  out->at.assign(experts + 1, 0);
  const bool whole = each_visit(tape, [] {}, [&](int32_t, Phase phase, int, const std::vector<Use>& uses) {
    if (phase == DECODE)
      for (const Use& use : uses) {
        const int64_t distance = order.distance(use.expert);
        ++out->uses;
        ++(distance > 0 ? out->at[size_t(distance)] : out->first);
      }
    for (const Use& use : uses) order.use(use.expert);
    return *stopped == 0;
  });
  std::partial_sum(out->at.begin(), out->at.end(), out->at.begin());
  return whole;
}

}  // namespace edgemoe
