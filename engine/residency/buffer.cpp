#include "residency/buffer.h"

#include <algorithm>
#include <limits>

namespace edgemoe {

Buffer::Buffer(Shape shape, std::vector<Width> widths, int64_t budget, Policy* policy, Slab* slab, Records* records)
    : shape_(shape), widths_(std::move(widths)), policy_(policy), slab_(slab), told_(records), budget_(budget) {
  const size_t n = size_t(shape.count());
  held_.resize(n);
  kept_.resize(n);
  by_width_.resize(widths_.size());
  records_.resize(n);
  slot_.resize(n, -1);
  state_.resize(n, ABSENT);
  width_.resize(n);
  pinned_.resize(n);
  staging_.resize(n);
  odds_.resize(n);
  scores_.resize(n);
}

bool Buffer::admit(int32_t e, int width, Moment at) {
  const int64_t bytes = widths_[width].bytes;
  if (!evict_until(budget_ - kept_free() - bytes, at, e)) return false;
  take(e, width, false, 0.0);
  pinned_[e] = 1;
  policy_->loaded(e, at);
  return true;
}

bool Buffer::adopt(int32_t e, Moment at) {
  const int64_t bytes = held_[e];
  if (!evict_until(budget_ - std::max(cap_, staged_ - bytes) - bytes, at, e)) return false;
  staging_[e] = 0;
  staged_ -= bytes;
  resident_ += bytes;
  pinned_[e] = 1;
  staged_ones_.erase(std::find(staged_ones_.begin(), staged_ones_.end(), e));
  policy_->loaded(e, at);
  told_->totals.useful_bytes += bytes;
  if (state_[e] == STAGED) {
    state_[e] = RESIDENT;
    told_->changed(e, RESIDENT, bits(e), 0.0);
  }
  return true;
}

bool Buffer::stage(int32_t e, int width, Moment at, int distance, float odds) {
  const int64_t room = cap_ - widths_[width].bytes;
  // Residents may not have left the area yet. Nothing is dropped for what gets no room.
  if (resident_ + cap_ > budget_ || staged_ - droppable(at, distance) > room) return false;
  unstage_until(room, at, distance);
  take(e, width, true, odds);
  return true;
}

void Buffer::arrived(int32_t e) {
  if (slab_ != nullptr) records_[e] = uint64_t(reinterpret_cast<uintptr_t>(slab_->at(slot_[e])));
  state_[e] = staging_[e] ? STAGED : RESIDENT;
  told_->changed(e, State(state_[e]), bits(e), 0.0);
}

void Buffer::resize(int64_t budget, Moment at) {
  unstage_until(0, at, 0);
  evict_until(budget - std::min(cap_, budget), at);
  if (slab_ != nullptr) slab_->release();
  budget_ = budget;  // only now, so that at no instant more is held than the budget in force
}

void Buffer::set_staging(int64_t bytes, Moment at) {
  cap_ = bytes;
  unstage_until(cap_, at, 0);
  evict_until(budget_ - kept_free(), at);
}

void Buffer::clear() {
  unstage_until(0, {}, 0);
  for (int32_t e = 0; e < shape_.count(); ++e)
    if (state_[e] == RESIDENT && !pinned_[e]) drop(e, 0.0);
  if (slab_ != nullptr) slab_->release();
}

bool Buffer::lately_evicted(int32_t e) const { return std::find(evicted_.begin(), evicted_.end(), e) != evicted_.end(); }

int Buffer::staged_for_later(Moment at) const {
  int count = 0;
  for (int32_t e : staged_ones_) count += distance(e, at) < shape_.layers;
  return count;
}

// Evicts the residents of the highest scores until `room` bytes hold the others, or nobody where that cannot be; `newcomer` is who comes, if
// anybody does.
bool Buffer::evict_until(int64_t room, Moment at, int32_t newcomer) {
  if (resident_ <= room) return true;
  int64_t evictable = 0;
  candidates_.clear();
  for (int32_t e = 0; e < shape_.count(); ++e)
    if (state_[e] == RESIDENT && !pinned_[e]) {
      candidates_.push_back(e);
      evictable += held_[e];
    }
  if (resident_ - evictable > room) return false;
  // What is read ahead is none of the policy's business, lest its choice depend on the clock.
  for (int32_t e = 0; e < shape_.count(); ++e) kept_[e] = staging_[e] ? 0 : held_[e];
  policy_->scores(at, kept_.data(), scores_.data());
  while (resident_ > room) {
    size_t worst = 0;
    for (size_t i = 1; i < candidates_.size(); ++i)
      if (scores_[candidates_[i]] > scores_[candidates_[worst]]) worst = i;
    const int32_t e = candidates_[worst];
    candidates_.erase(candidates_.begin() + int64_t(worst));
    drop(e, scores_[e], newcomer < 0 ? -1 : newcomer + 1, told_->on ? highest_left() : 0.0);
    evicted_.push_front(e);
    ++evictions_;
    ++told_->totals.evictions;
  }
  if (int(evicted_.size()) > remembered_) evicted_.resize(size_t(remembered_));
  return true;
}

// The score of the candidate who would have to leave next, for the record; NaN where there is none.
double Buffer::highest_left() const {
  double highest = std::numeric_limits<double>::quiet_NaN();
  for (int32_t e : candidates_)
    if (!(scores_[e] <= highest)) highest = scores_[e];
  return highest;
}

// Drops what was read ahead and is not pinned, the furthest from its turn and then the least likely first, until `room` bytes hold the
// others, or nobody is left; only what is further off than `nearer_than` layers.
void Buffer::unstage_until(int64_t room, Moment at, int nearer_than) {
  while (staged_ > room) {
    int32_t worst = -1;
    int furthest = nearer_than;
    for (int32_t e : staged_ones_) {
      if (state_[e] != STAGED || pinned_[e]) continue;
      const int d = distance(e, at);
      if (d > furthest || (d == furthest && worst >= 0 && odds_[e] < odds_[worst])) {
        worst = e;
        furthest = d;
      }
    }
    if (worst < 0) return;
    told_->totals.wasted_bytes += held_[worst];
    ++wasted_;
    drop(worst, 0.0);
  }
}

// Bytes that `unstage_until` could free at most.
int64_t Buffer::droppable(Moment at, int nearer_than) const {
  int64_t bytes = 0;
  for (int32_t e : staged_ones_)
    if (state_[e] == STAGED && !pinned_[e] && distance(e, at) > nearer_than) bytes += held_[e];
  return bytes;
}

void Buffer::take(int32_t e, int width, bool ahead, double odds) {
  const int64_t bytes = widths_[width].bytes;
  width_[e] = uint8_t(width);
  staging_[e] = ahead;
  odds_[e] = float(odds);
  if (ahead) staged_ones_.push_back(e);
  if (slab_ != nullptr) slot_[e] = slab_->take(bytes, budget_);
  count(e, bytes);
  state_[e] = LOADING;
  told_->changed(e, LOADING, bits(e), odds);
}

void Buffer::drop(int32_t e, double score, int32_t newcomer, double runner_up) {
  count(e, 0);
  if (staging_[e]) staged_ones_.erase(std::find(staged_ones_.begin(), staged_ones_.end(), e));
  if (slab_ != nullptr) slab_->give(slot_[e]);
  slot_[e] = -1;
  records_[e] = 0;
  state_[e] = ABSENT;
  pinned_[e] = staging_[e] = 0;
  told_->changed(e, ABSENT, bits(e), score, newcomer, runner_up);
}

// `e` now holds that many bytes.
void Buffer::count(int32_t e, int64_t bytes) {
  const int64_t change = bytes - held_[e];
  held_[e] = bytes;
  by_width_[width_[e]] += change;
  (staging_[e] ? staged_ : resident_) += change;
  peak_ = std::max(peak_, held());
  most_over_ = std::max({most_over_, held() - budget_, slab_ != nullptr ? slab_->committed() - budget_ : 0});
}

// Layers until the turn of an expert's layer, 1 to S.
int Buffer::distance(int32_t e, Moment at) const {
  const int forward = (e / shape_.experts - at.layer + shape_.layers) % shape_.layers;
  return forward == 0 ? shape_.layers : forward;
}

}  // namespace edgemoe
