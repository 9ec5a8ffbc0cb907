// A small thread pool: work is handed out in chunks to whoever is free, and who waits sleeps.
#pragma once
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace edgemoe {

class Pool {
 public:
  ~Pool() { shrink(1); }

  int threads() const { return int(workers_.size()) + 1; }  // the caller works too

  // Not while a job runs. 0, or why a thread could not be started (errno): then there are as many as before.
  int resize(int threads) {
    const int before = this->threads();
    set_wanted(threads);
    try {
      while (this->threads() < threads) workers_.emplace_back([this, number = this->threads(), job = job_] { work(number, job); });
    } catch (const std::system_error& error) {
      shrink(before);
      return error.code().value();
    }
    shrink(threads);
    return 0;
  }

  // Calls task(begin, end) over [0, count) in chunks of `chunk`; returns when all are done.
  template <class F>
  void run(int count, int chunk, F&& task) {
    if (workers_.empty() || count <= chunk) {
      if (count > 0) task(0, count);
      return;
    }
    auto call = [](void* context, int begin, int end) { (*static_cast<std::remove_reference_t<F>*>(context))(begin, end); };
    start({call, &task, count, chunk});
  }

 private:
  struct Job {
    void (*call)(void*, int, int);
    void* context;
    int count, chunk;
  };

  void start(const Job& job) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      current_ = job;
      next_.store(0, std::memory_order_relaxed);
      ++job_;
    }
    wake_.notify_all();
    share(job);
    std::unique_lock<std::mutex> lock(mutex_);
    current_.count = 0;  // who wakes only now finds nothing to do, and nobody waits for it
    done_.wait(lock, [this] { return active_ == 0; });
  }

  void share(const Job& job) {
    for (;;) {
      const int begin = next_.fetch_add(job.chunk, std::memory_order_relaxed);
      if (begin >= job.count) return;
      job.call(job.context, begin, begin + job.chunk < job.count ? begin + job.chunk : job.count);
    }
  }

  void work(int number, unsigned seen) {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return number >= wanted_ || job_ != seen; });
      if (number >= wanted_) return;
      seen = job_;
      const Job job = current_;
      if (job.count == 0) continue;
      ++active_;
      lock.unlock();
      share(job);
      lock.lock();
      if (--active_ == 0) done_.notify_one();
    }
  }

  void shrink(int threads) {
    set_wanted(threads);
    wake_.notify_all();
    for (; this->threads() > threads; workers_.pop_back()) workers_.back().join();
  }

  void set_wanted(int threads) {
    std::lock_guard<std::mutex> lock(mutex_);
    wanted_ = threads;
  }

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  Job current_{};
  std::atomic<int> next_{0};
  int active_ = 0, wanted_ = 1;  // the caller is number 0
  unsigned job_ = 0;
};

}  // namespace edgemoe
