#include "preload/loader.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <system_error>

#ifdef __linux__
#include <pthread.h>
#include <sys/prctl.h>
#endif

#include "preload/checksum.h"
#include "recording/clock.h"

namespace edgemoe {

namespace {

constexpr size_t kBlock = 4096;
constexpr int64_t kSlack = 1000;  // ns by which a sleep may be longer: the system's 50 µs are more than a fast device's latency
constexpr int64_t kSpin = 20'000;  // ns before the end to stop sleeping: about what waking takes; more of them cost who computes

#ifdef O_DIRECT
constexpr int kDirect = O_DIRECT;
#else
constexpr int kDirect = 0;
#endif

// Drops a stretch of a file (0 bytes: all of it) from the page cache, where the system can.
void forget(int file, int64_t offset, int64_t bytes) {
#ifdef POSIX_FADV_DONTNEED
  posix_fadvise(file, offset, bytes, POSIX_FADV_DONTNEED);
#else
  (void)file, (void)offset, (void)bytes;
#endif
}

// What is read through the page cache is no more than was asked for: what the system reads on its own would stay there, and be read for nothing.
void read_no_further(int file) {
#ifdef POSIX_FADV_RANDOM
  posix_fadvise(file, 0, 0, POSIX_FADV_RANDOM);
#else
  (void)file;
#endif
}

// Opens past the page cache, and sees that it works: some file systems refuse only the read. -1 where it does not.
int open_direct(const char* path) {
  const int file = kDirect == 0 ? -1 : open(path, O_RDONLY | kDirect | O_CLOEXEC);
  if (file < 0) return -1;
  void* block = nullptr;
  const bool works = posix_memalign(&block, kBlock, kBlock) == 0 && pread(file, block, kBlock, 0) >= 0;
  std::free(block);
  if (works) return file;
  close(file);
  return -1;
}

inline void pause_briefly() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}

// To the microsecond. Yielding instead of spinning would hand the core to a busy thread for milliseconds.
void sleep_until(int64_t due) {
  for (int64_t left; (left = due - now_ns()) > kSpin;) {
    left -= kSpin;
    const timespec time{left / 1'000'000'000, left % 1'000'000'000};
    nanosleep(&time, nullptr);
  }
  while (now_ns() < due) pause_briefly();
}

bool take_out(std::deque<Read*>& queue, Read* read) {
  const auto found = std::find(queue.begin(), queue.end(), read);
  if (found == queue.end()) return false;
  queue.erase(found);
  return true;
}

}  // namespace

Loader::Loader(const std::vector<std::string>& files) {
  for (const std::string& path : files) {
    int file = direct_ ? open_direct(path.c_str()) : -1;
    if (file < 0) {
      file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
      if (file < 0) {
        failed_ = int(files_.size());
        reason_ = errno;
        return;
      }
      direct_ = false;
      read_no_further(file);
    }
    forget(file, 0, 0);  // what converting left in the page cache
    files_.push_back(file);
  }
}

Loader::~Loader() {
  shrink(0);
  for (int file : files_) close(file);
}

int Loader::configure(int threads, Pace pace, bool verify) {
  if (const int refused = grow(threads)) return refused;
  shrink(threads);
  std::lock_guard<std::mutex> lock(mutex_);
  pace_ = pace;
  verify_ = verify;
  bus_free_ = 0;
  return 0;
}

void Loader::submit(Read* read) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    (read->ahead ? ahead_ : demand_).push_back(read);
  }
  wake_.notify_one();
}

bool Loader::cancel(Read* read) {
  std::lock_guard<std::mutex> lock(mutex_);
  return take_out(ahead_, read) || take_out(demand_, read);
}

bool Loader::join(Read* read) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!take_out(ahead_, read)) return std::find(demand_.begin(), demand_.end(), read) == demand_.end();
    demand_.push_back(read);
  }
  wake_.notify_one();
  return false;
}

Read* Loader::wait() {
  std::unique_lock<std::mutex> lock(mutex_);
  finished_.wait(lock, [this] { return !done_.empty(); });
  Read* read = done_.front();
  done_.pop_front();
  return read;
}

Read* Loader::poll() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (done_.empty()) return nullptr;
  Read* read = done_.front();
  done_.pop_front();
  return read;
}

int64_t Loader::busy() {
  std::lock_guard<std::mutex> lock(mutex_);
  return busy_ + (in_flight_ > 0 ? now_ns() - busy_since_ : 0);
}

// Starts threads until there are as many; where the system refuses one, those started are ended again, and why is returned (errno).
int Loader::grow(int threads) {
  const int before = int(workers_.size());
  if (threads <= before) return 0;
  set_lanes(threads);
  try {
    for (int lane = before + 1; lane <= threads; ++lane) {
      workers_.emplace_back([this, lane] { work(lane); });
#ifdef __linux__
      pthread_setname_np(workers_.back().native_handle(), "expert-io");
#endif
    }
  } catch (const std::system_error& error) {
    shrink(before);
    return error.code().value();
  }
  return 0;
}

void Loader::shrink(int threads) {
  if (threads >= int(workers_.size())) return;
  set_lanes(threads);
  wake_.notify_all();
  for (; int(workers_.size()) > threads; workers_.pop_back()) workers_.back().join();
}

void Loader::set_lanes(int lanes) {
  std::lock_guard<std::mutex> lock(mutex_);
  lanes_ = lanes;
}

void Loader::work(int lane) {
#ifdef __linux__
  prctl(PR_SET_TIMERSLACK, kSlack);
#endif
  for (Turn turn; start(turn, lane); finish(turn)) {
    turn.read->error = serve(*turn.read);
    sleep_until(turn.due);
    turn.read->finished = now_ns();
  }
}

// Demand first. Reads ahead leave one lane free where there are several, so that what is demanded can always start. False where there is no such
// lane any more.
bool Loader::start(Turn& turn, int lane) {
  std::unique_lock<std::mutex> lock(mutex_);
  wake_.wait(lock, [this, lane] { return lane > lanes_ || !demand_.empty() || ahead_may_start(); });
  if (lane > lanes_) return false;
  turn.ahead = demand_.empty();
  std::deque<Read*>& queue = turn.ahead ? ahead_ : demand_;
  Read* read = turn.read = queue.front();
  queue.pop_front();
  read->lane = lane;
  read->started = now_ns();
  if (in_flight_++ == 0) busy_since_ = read->started;
  ahead_in_flight_ += turn.ahead;
  turn.due = due(*read);
  return true;
}

// Who waits is woken once the lock is free again, or would only go on to wait for it. Another lane need not be: this one takes what may start now.
void Loader::finish(const Turn& turn) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ahead_in_flight_ -= turn.ahead;
    if (--in_flight_ == 0) busy_ += now_ns() - busy_since_;
    done_.push_back(turn.read);
  }
  finished_.notify_one();
}

// When the imitated device would be done: latencies of the reads in flight overlap, transfers do not.
int64_t Loader::due(const Read& read) {
  const int64_t transfer = pace_.bandwidth > 0 ? int64_t(double(read.nbytes) / pace_.bandwidth * 1e9) : 0;
  return bus_free_ = std::max(bus_free_, read.started + pace_.latency) + transfer;
}

int32_t Loader::serve(const Read& read) const {
  const int file = files_[size_t(read.file)];
  int64_t got = 0;
  while (got < read.nbytes) {
    const ssize_t part = pread(file, read.memory + got, size_t(read.nbytes - got), read.offset + got);
    if (part < 0 && errno == EINTR) continue;
    if (part < 0) return errno;
    if (part == 0) return READ_SHORT;
    got += part;
  }
  if (!direct_) forget(file, read.offset, read.nbytes);
  return verify_ && checksum(read.memory, read.nbytes) != read.checksum ? READ_DAMAGED : READ_OK;
}

}  // namespace edgemoe
