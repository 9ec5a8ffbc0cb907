// The expert buffer: which experts are in memory, never more bytes of them than the budget.
//
// S MoE layers, E experts a layer, N = S * E; an expert's number is layer * E + expert.
#pragma once
#include <deque>
#include <vector>

#include "recording/records.h"
#include "residency/policy.h"
#include "residency/slab.h"

namespace edgemoe {

// A width that experts are stored at, and the bytes of a record at it.
struct Width {
  int32_t bits;
  int64_t bytes;
};

// Experts are absent -> loading -> resident -> absent, or, read ahead: absent -> loading -> staged -> resident where they come to be used,
// absent where not. Pinned ones are never evicted, nor are loading ones.
//
// Reads ahead have their own part of the budget, the staging area: residents keep out of it, so that a wrong guess pushes nobody out. Which
// experts are resident therefore does not depend on when a read ahead was done.
class Buffer {
 public:
  // Without a `slab` there is no memory behind the records: a simulation.
  Buffer(Shape shape, std::vector<Width> widths, int64_t budget, Policy* policy, Slab* slab, Records* records);

  State state(int32_t e) const { return State(state_[e]); }
  int bits(int32_t e) const { return widths_[width_[e]].bits; }  // of one that is not absent
  int64_t bytes_at(int width) const { return widths_[width].bytes; }
  uint8_t* memory(int32_t e) const { return slab_ != nullptr ? slab_->at(slot_[e]) : nullptr; }
  bool ahead(int32_t e) const { return staging_[e] != 0; }  // held by the staging area

  void pin(int32_t e) { pinned_[e] = 1; }
  void unpin(int32_t e) { pinned_[e] = 0; }

  // Makes room for an absent expert, which is now loading and pinned. False where what is pinned and loading leaves no room yet.
  bool admit(int32_t e, int width, Moment at);

  // Takes an expert that was read ahead, or is being read, out of the staging area: a resident like any other, and pinned.
  bool adopt(int32_t e, Moment at);

  // Makes room in the staging area for an absent expert, which is now loading: by dropping what was read ahead for a turn further off than
  // this one's, `distance` layers away. False where that is not enough, and nothing is dropped.
  bool stage(int32_t e, int width, Moment at, int distance, float odds);

  // The record of a loading expert has been read: it is resident and pinned, or staged.
  void arrived(int32_t e);

  // A loading expert's record is not to be had, or no longer wanted: forget it.
  void abandon(int32_t e) { drop(e, 0.0); }

  // Takes another budget at once, evicting what no longer fits. Nothing may be pinned or loading.
  void resize(int64_t budget, Moment at);

  // Keeps that many bytes of the budget for reads ahead.
  void set_staging(int64_t bytes, Moment at);

  // Evicts everything that is not pinned or loading.
  void clear();

  // Of the experts evicted last, how many to remember: those that would still be resident without a staging area of as many records.
  void remember_evicted(int count) { remembered_ = count; }
  bool lately_evicted(int32_t e) const;

  // Experts read ahead, or being read, whose layer's turn has not passed yet.
  int staged_for_later(Moment at) const;

  // Records read ahead in vain.
  int64_t wasted() const { return wasted_; }

  void set_policy(Policy* policy) { policy_ = policy; }

  int64_t budget() const { return budget_; }
  int64_t staging() const { return cap_; }
  int64_t held() const { return resident_ + staged_; }  // bytes, loading ones too: their memory is taken
  int64_t peak() const { return peak_; }
  int64_t most_over() const { return most_over_; }  // the most by which held or committed bytes ever passed the budget: 0
  const int64_t* bytes_by_width() const { return by_width_.data(); }
  int64_t evictions() const { return evictions_; }

  // For the kernels: where the record of each expert in memory lies, 0 for others, and the place of its width.
  const uint64_t* records() const { return records_.data(); }
  const uint8_t* width_places() const { return width_.data(); }

 private:
  bool evict_until(int64_t room, Moment at, int32_t newcomer = -1);
  double highest_left() const;
  void unstage_until(int64_t room, Moment at, int nearer_than);
  int64_t droppable(Moment at, int nearer_than) const;
  int64_t kept_free() const { return staged_ > cap_ ? staged_ : cap_; }
  void take(int32_t e, int width, bool ahead, double odds);
  void drop(int32_t e, double score, int32_t newcomer = 0, double runner_up = 0);
  void count(int32_t e, int64_t bytes);
  int distance(int32_t e, Moment at) const;

  Shape shape_;
  std::vector<Width> widths_;
  Policy* policy_;
  Slab* slab_;
  Records* told_;
  int64_t budget_, cap_ = 0, resident_ = 0, staged_ = 0, peak_ = 0, most_over_ = 0, evictions_ = 0, wasted_ = 0;
  int remembered_ = 0;
  std::deque<int32_t> evicted_;  // the last first
  std::vector<int64_t> held_, kept_, by_width_;
  std::vector<uint64_t> records_;
  std::vector<int> slot_;
  std::vector<uint8_t> state_, width_, pinned_, staging_;
  std::vector<float> odds_;
  std::vector<double> scores_;
  std::vector<int32_t> staged_ones_, candidates_;
};

}  // namespace edgemoe
