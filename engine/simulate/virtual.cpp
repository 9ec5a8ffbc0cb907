#include "simulate/virtual.h"

#include <algorithm>

namespace edgemoe {

namespace {

bool take_out(std::deque<Read*>& queue, Read* read) {
  const auto found = std::find(queue.begin(), queue.end(), read);
  if (found == queue.end()) return false;
  queue.erase(found);
  return true;
}

}  // namespace

void ModelledStorage::submit(Read* read) {
  settle(clock_->now());
  (read->ahead ? ahead_ : demand_).push_back(read);
  start(clock_->now());
}

bool ModelledStorage::cancel(Read* read) {
  settle(clock_->now());
  return take_out(ahead_, read) || take_out(demand_, read);
}

bool ModelledStorage::join(Read* read) {
  settle(clock_->now());
  if (!take_out(ahead_, read)) return std::find(demand_.begin(), demand_.end(), read) == demand_.end();
  demand_.push_back(read);
  start(clock_->now());
  return false;
}

Read* ModelledStorage::wait() {
  settle(clock_->now());
  if (done_.empty()) {
    const int64_t end = first_to_end()->read->finished;
    settle(end);
    clock_->reach(end);
  }
  return poll();
}

Read* ModelledStorage::poll() {
  settle(clock_->now());
  if (done_.empty()) return nullptr;
  Read* read = done_.front();
  done_.pop_front();
  return read;
}

int64_t ModelledStorage::busy() {
  settle(clock_->now());
  return busy_ + (in_flight_.empty() ? 0 : clock_->now() - busy_since_);
}

// All that ends by then has ended, and what waited for a lane has started.
void ModelledStorage::settle(int64_t until) {
  while (!in_flight_.empty() && first_to_end()->read->finished <= until) {
    const auto first = first_to_end();
    const Turn turn = *first;
    in_flight_.erase(first);
    ahead_in_flight_ -= turn.ahead;
    if (in_flight_.empty()) busy_ += turn.read->finished - busy_since_;
    done_.push_back(turn.read);
    start(turn.read->finished);
  }
}

void ModelledStorage::start(int64_t time) {
  while (int(in_flight_.size()) < device_.lanes) {
    const bool may_ahead = !ahead_.empty() && (ahead_in_flight_ + 1 < device_.lanes || device_.lanes == 1);
    if (demand_.empty() && !may_ahead) return;
    const bool ahead = demand_.empty();
    std::deque<Read*>& queue = ahead ? ahead_ : demand_;
    Read* read = queue.front();
    queue.pop_front();
    if (in_flight_.empty()) busy_since_ = time;
    read->started = time;
    read->lane = int32_t(in_flight_.size()) + 1;
    bus_free_ = std::max(bus_free_, time + device_.latency) + int64_t(double(read->nbytes) / device_.bandwidth * 1e9);
    read->finished = bus_free_ + device_.wake;
    ahead_in_flight_ += ahead;
    in_flight_.push_back({read, ahead});
  }
}

std::vector<ModelledStorage::Turn>::iterator ModelledStorage::first_to_end() {
  return std::min_element(in_flight_.begin(), in_flight_.end(), [](const Turn& a, const Turn& b) { return a.read->finished < b.read->finished; });
}

}  // namespace edgemoe
