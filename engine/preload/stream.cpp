#include "preload/stream.h"

#include <algorithm>

namespace edgemoe {

Stream::Stream(Shape shape, int top_k, Source source, const uint8_t* wanted, Buffer* buffer, Policy* policy, Storage* storage, Records* records)
    : shape_(shape), top_k_(top_k), source_(std::move(source)), wanted_(wanted), buffer_(buffer), policy_(policy), storage_(storage), told_(records) {
  const size_t n = size_t(shape.count());
  reads_.resize(n);
  asked_at_.resize(n);
  seen_.resize(n);
  under_way_.resize(n);
  joined_.resize(n);
  outcome_.resize(n);
  place_of_.resize(n, -1);
  odds_.resize(n);
  asked_.resize(n);
  distance_of_.resize(size_t(shape.layers));
  asked_for_.resize(size_t(shape.layers));
}

void Stream::set_policy(Policy* policy) {
  policy_ = policy;
  buffer_->set_policy(policy);
}

void Stream::set_predictor(Predictor* predictor) {
  predictor_ = predictor;
  std::fill(distance_of_.begin(), distance_of_.end(), uint8_t(0));
  balance_.restart();
  apply_staging();
}

void Stream::set_ahead(Ahead ahead) {
  ahead_ = ahead;
  balance_.restart();
  apply_staging();
}

void Stream::resize(int64_t budget) {
  buffer_->resize(budget, at_);
  balance_.restart();
  apply_staging();
}

// Keeps room for what is read ahead, where not all experts fit anyhow, but never so much that a token's experts of one layer do not fit beside it.
void Stream::apply_staging() {
  int64_t largest = 0, full = 0;
  for (int32_t e = 0; e < shape_.count(); ++e) {
    const int64_t bytes = source_.widths[wanted_[e]].bytes;
    largest = std::max(largest, bytes);
    full += bytes;
  }
  const int64_t spare = std::max<int64_t>(0, buffer_->budget() - top_k_ * largest);
  const bool needed = predicting() && buffer_->budget() < full;
  width_ = ahead_.balanced ? balance_.width(ahead_.width) : ahead_.width;
  buffer_->set_staging(needed ? std::min(width_ * largest, spare) : 0, at_);
  buffer_->remember_evicted(needed ? width_ : 0);
}

void Stream::begin_request() {
  policy_->begin_request();
  if (predictor_ != nullptr) predictor_->begin_request();
  std::fill(distance_of_.begin(), distance_of_.end(), uint8_t(0));
}

void Stream::begin_pass(int32_t pass, Phase phase) {
  weigh_pass();
  told_->begin(pass, phase);
  began_ = told_->reached;
  busy_ = storage_->busy();
  routed_ = 0;
}

// What the pass that is over says about reading ahead.
void Stream::weigh_pass() {
  if (predictor_ == nullptr || ahead_.depth == 0 || told_->phase() == PREFILL || told_->pass() < 0) return;
  for (; wasted_ < buffer_->wasted(); ++wasted_) balance_.wasted();
  balance_.passed(storage_->busy() - busy_, told_->reached - began_);
  if (ahead_.balanced) apply_staging();
}

void Stream::weigh_found(int32_t e, Outcome outcome) {
  if (outcome == PRELOADED || outcome == LATE) balance_.spared(told_->now() - asked_at_[e]);
  if (outcome > LATE || outcome == HIT) return;
  if (buffer_->lately_evicted(e)) balance_.missed_for_room();
}

void Stream::routed(int layer, const Use* uses, int count) {
  at_ = {told_->pass(), layer};
  failed_ = {};
  const int64_t now = told_->now();
  if (routed_ != 0) balance_.layer(now - routed_ - stalled_);
  routed_ = now;
  stalled_ = waited_for_ = 0;
  absorb();
  number_.clear();
  order_.clear();
  ready_.clear();
  given_.clear();
  computed_.assign(size_t(count), 0);
  admitted_.assign(size_t(count), 0);
  let_go_ = next_ = 0;
  count_ = left_ = count;
  for (int i = 0; i < count; ++i) {
    number_.push_back(uses[i].expert);
    place_of_[uses[i].expert] = i;
  }
  recall(layer);
  for (int i = 0; i < count; ++i) {
    const int32_t e = uses[i].expert;
    const Outcome outcome = found(e);
    outcome_[e] = outcome;
    if (predicting()) weigh_found(e, outcome);
    const int bits = buffer_->state(e) != ABSENT ? buffer_->bits(e) : source_.widths[wanted_[e]].bits;
    told_->use(e, bits, outcome, uses[i].rank, uses[i].tokens, uses[i].weight);
    if (outcome == HIT) order_.push_back(i);
  }
  next_ = order_.size();
  for (int i = 0; i < count; ++i) {
    if (outcome_[number_[i]] != HIT) order_.push_back(i);
    if (buffer_->state(number_[i]) != ABSENT) buffer_->pin(number_[i]);
    seen_[number_[i]] = 1;
  }
  for (size_t i = 0; i < next_; ++i) {
    ready_.push_back(order_[i]);
    admitted_[order_[i]] = 1;
  }
  tell_guesses(layer);
  policy_->used(number_.data(), count, at_, told_->phase() == PREFILL);
  admit_more();
  if (predicting()) told_->mark(ACCOUNT, -1);  // what follows is predicting
}

// How the router found an expert it chose.
Outcome Stream::found(int32_t e) {
  switch (buffer_->state(e)) {
    case RESIDENT: return HIT;
    case STAGED: return PRELOADED;
    case LOADING: return LATE;
    default: break;
  }
  return !seen_[e] ? FIRST_TOUCH : asked_for_[e / shape_.experts] ? MISPREDICTED : CAPACITY;
}

// Reads ahead for this layer that have not started: those it did not choose are dropped, the others join the demand reads.
void Stream::recall(int layer) {
  for (int32_t e = layer * shape_.experts; e < (layer + 1) * shape_.experts; ++e) {
    if (!under_way_[e] || !buffer_->ahead(e)) continue;
    if (place_of_[e] >= 0) {
      storage_->join(&reads_[e]);
      joined_[e] = 1;
    } else if (storage_->cancel(&reads_[e])) {
      under_way_[e] = 0;
      --in_flight_;
      asked_[e] = ASKED_DROPPED;
      buffer_->abandon(e);
    }
  }
}

// Tells which experts were thought likely for the layer, now that its router has spoken.
void Stream::tell_guesses(int layer) {
  const int ahead = distance_of_[layer], first = layer * shape_.experts;
  distance_of_[layer] = 0;
  if (ahead == 0 || told_->phase() == PREFILL) return;
  const int wanted = std::min(2 * top_k_, shape_.experts);
  best_.resize(size_t(shape_.experts));
  for (int i = 0; i < shape_.experts; ++i) best_[i] = first + i;
  std::partial_sort(best_.begin(), best_.begin() + wanted, best_.end(),
                    [this](int32_t a, int32_t b) { return odds_[a] != odds_[b] ? odds_[a] > odds_[b] : a < b; });
  for (int rank = 0; rank < wanted; ++rank) {
    const int32_t e = best_[rank];
    const bool chosen = place_of_[e] >= 0;
    if (rank < count_) {
      ++told_->totals.guessed;
      told_->totals.guessed_right += chosen;
    }
    told_->predicted(e, rank, ahead, chosen, Asked(asked_[e]), odds_[e]);
  }
}

int Stream::take(int32_t* places) {
  for (int32_t place : given_) computed_[place] = 1;
  left_ -= int(given_.size());
  given_.clear();
  let_go();
  if (left_ == 0) {
    for (int32_t e : number_) place_of_[e] = -1;
    if (waited_for_ > 0) balance_.stalled(stalled_, int(waited_for_));
    return 0;
  }
  absorb();
  if (ready_.empty()) told_->mark(ACCOUNT, -1);
  while (ready_.empty()) {
    if (failed_.error != 0) {
      give_up();
      return -1;
    }
    const int64_t began = told_->reached;
    Read* read = storage_->wait();
    const bool ours = land(read);
    stalled_ += told_->now() - began;
    waited_for_ += ours && !read->ahead;
    told_->mark(STALL, at_.layer, ours ? read->expert % shape_.experts : -1, ours ? read->bits : 0);
  }
  if (failed_.error != 0) {
    give_up();
    return -1;
  }
  given_.swap(ready_);
  std::copy(given_.begin(), given_.end(), places);
  return int(given_.size());
}

// An expert is let go only after all before it in this order were computed, so that what gets evicted, too, is the same whatever the timing.
void Stream::let_go() {
  while (let_go_ < order_.size() && computed_[order_[let_go_]]) {
    buffer_->unpin(number_[order_[let_go_++]]);
    admit_more();
  }
}

// Takes in as many of the missing as there is room for, in order.
void Stream::admit_more() {
  for (; next_ < order_.size(); ++next_) {
    const int32_t place = order_[next_], e = number_[place];
    if (buffer_->state(e) == ABSENT) {
      if (!buffer_->admit(e, wanted_[e], at_)) return;
      send(e, wanted_[e], false);
    } else {
      if (!buffer_->adopt(e, at_)) return;
      if (buffer_->state(e) == RESIDENT) ready_.push_back(place);
    }
    admitted_[place] = 1;
  }
}

void Stream::send(int32_t e, int width, bool ahead) {
  const Width& w = source_.widths[width];
  Read& read = reads_[e];
  read = {};
  read.expert = e;
  read.bits = w.bits;
  read.file = width;
  read.ahead = ahead;
  read.offset = int64_t(e) * w.bytes;
  read.nbytes = w.bytes;
  read.checksum = source_.checksums.empty() ? 0 : source_.checksums[width][e];
  read.memory = buffer_->memory(e);
  under_way_[e] = 1;
  joined_[e] = 0;
  ++in_flight_;
  storage_->submit(&read);
}

// A read is done. Whether it makes a use of this layer ready.
bool Stream::land(Read* read) {
  const int32_t e = read->expert;
  under_way_[e] = 0;
  --in_flight_;
  const bool ahead = read->ahead && !joined_[e];
  told_->read(e, read->bits, read->ahead ? PRELOADED : Outcome(outcome_[e]), read->lane, read->started, read->finished, read->nbytes);
  if (!read->ahead) {
    told_->totals.demand_bytes += read->nbytes;
    balance_.demand(read->finished - read->started);
  }
  if (read->error != READ_OK) {
    if (!ahead) failed_ = *read;  // one that nobody waits for is read again when it is needed, and then told
    buffer_->abandon(e);
    return false;
  }
  buffer_->arrived(e);
  const int32_t place = place_of_[e];
  if (place < 0 || !admitted_[place]) return false;
  ready_.push_back(place);
  return true;
}

// Takes note of what has been read meanwhile.
void Stream::absorb() {
  if (in_flight_ == 0) return;
  while (Read* read = storage_->poll()) land(read);
}

// After a failure nothing stays pinned, and no read writes into memory that was given away.
void Stream::give_up() {
  quiesce();
  for (int32_t e : number_) {
    buffer_->unpin(e);
    place_of_[e] = -1;
  }
  count_ = left_ = 0;
  ready_.clear();
  given_.clear();
}

void Stream::quiesce() {
  for (int32_t e = 0; in_flight_ > 0 && e < shape_.count(); ++e)
    if (under_way_[e] && buffer_->ahead(e) && storage_->cancel(&reads_[e])) {
      under_way_[e] = 0;
      --in_flight_;
      buffer_->abandon(e);
    }
  while (in_flight_ > 0) land(storage_->wait());
}

bool Stream::fill(int32_t e) {
  if (!buffer_->admit(e, wanted_[e], at_)) return false;
  outcome_[e] = HIT;
  send(e, wanted_[e], false);
  return true;
}

int32_t Stream::landed() {
  Read* read = storage_->wait();
  failed_ = {};
  land(read);
  if (failed_.error != 0) return -1;
  buffer_->unpin(read->expert);
  seen_[read->expert] = 1;
  return read->expert;
}

// --- reading ahead ---

void Stream::look_ahead() {
  if (predictor_ == nullptr) return;
  const int layer = at_.layer;
  const bool prefill = told_->phase() == PREFILL;
  guesses_.clear();
  best_.clear();
  for (int32_t e : number_) best_.push_back(e % shape_.experts);
  predictor_->routed(layer, best_.data(), count_, prefill);
  asked_for_[layer] = 0;
  if (!predicting() || (prefill && layer + 1 < shape_.layers)) return;
  for (int distance = 1; distance <= std::min(ahead_.depth, shape_.layers); ++distance)
    if (wants((layer + distance) % shape_.layers)) predict((layer + distance) % shape_.layers, distance);
  std::sort(guesses_.begin(), guesses_.end(), [](const Guess& a, const Guess& b) { return a.odds != b.odds ? a.odds > b.odds : a.expert < b.expert; });
  balance_.wanted(int(guesses_.size()) + buffer_->staged_for_later(at_));
  for (const Guess& guess : guesses_) {
    const int32_t e = guess.expert;
    const int target = e / shape_.experts, distance = (target - layer + shape_.layers - 1) % shape_.layers + 1;
    if (!buffer_->stage(e, wanted_[e], at_, distance, odds_[e])) continue;
    send(e, wanted_[e], true);
    asked_[e] = ASKED_READ;
    asked_at_[e] = told_->now();
    asked_for_[target] = 1;
  }
  balance_.predicted(told_->now() - told_->reached);
  told_->mark(PREDICT, layer);
}

bool Stream::wants(int layer) const {
  if (!predicting()) return false;
  for (int32_t e = layer * shape_.experts; e < (layer + 1) * shape_.experts; ++e)
    if (buffer_->state(e) == ABSENT || buffer_->ahead(e)) return true;
  return false;
}

void Stream::predict(int layer, int distance) {
  float* odds = odds_.data() + size_t(layer) * shape_.experts;
  if (!predictor_->predict(layer, distance, odds)) return;
  distance_of_[layer] = uint8_t(distance);
  policy_->predicted(layer, odds);
  const float least = balance_.least_odds(distance);
  for (int i = 0; i < shape_.experts; ++i) {
    const int32_t e = layer * shape_.experts + i;
    const State state = buffer_->state(e);
    const bool staged = buffer_->ahead(e);
    asked_[e] = staged ? ASKED_READ : state != ABSENT ? ASKED_HELD : ASKED_NOTHING;
    if (state == ABSENT && odds[i] >= least) guesses_.push_back({e, odds[i]});
  }
}

}  // namespace edgemoe
