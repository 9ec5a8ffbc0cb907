// Reads records on I/O threads, past the page cache, no faster than the device to be imitated.
#pragma once
#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "preload/storage.h"

namespace edgemoe {

// A storage device to be slowed down to; what is 0 stays as it is.
struct Pace {
  double bandwidth = 0;  // bytes/s: transfers do not overlap
  int64_t latency = 0;   // ns: latencies of the reads in flight do
};

class Loader : public Storage {
 public:
  // `failed` tells the file that could not be opened and why (errno), -1 where all were.
  explicit Loader(const std::vector<std::string>& files);
  ~Loader() override;
  int failed() const { return failed_; }
  int reason() const { return reason_; }

  // Whether reads bypass the page cache; where the file system has no such reads, what they leave there is dropped instead.
  bool direct() const { return direct_; }

  // Takes another number of threads, another device; `verify`: check every record. Nothing may be in flight. 0, or why a thread could not be
  // started (errno): then all stays as it was.
  int configure(int threads, Pace pace, bool verify);

  void submit(Read* read) override;
  bool cancel(Read* read) override;
  bool join(Read* read) override;
  Read* wait() override;
  Read* poll() override;
  int64_t busy() override;

 private:
  // A read that a lane serves. `ahead`: from the queue of those, and not joined; `due`: not done before.
  struct Turn {
    Read* read;
    bool ahead;
    int64_t due;
  };

  int grow(int threads);
  void shrink(int threads);
  void set_lanes(int lanes);
  void work(int lane);
  bool start(Turn& turn, int lane);
  void finish(const Turn& turn);
  int64_t due(const Read& read);
  int32_t serve(const Read& read) const;
  bool ahead_may_start() const { return !ahead_.empty() && (ahead_in_flight_ + 1 < lanes_ || lanes_ == 1); }

  std::vector<int> files_;
  bool direct_ = true, verify_ = true;
  int failed_ = -1, reason_ = 0;
  Pace pace_;
  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_, finished_;
  std::deque<Read*> demand_, ahead_, done_;
  int lanes_ = 0, in_flight_ = 0, ahead_in_flight_ = 0;
  int64_t busy_ = 0, busy_since_ = 0, bus_free_ = 0;
};

}  // namespace edgemoe
