// The time that everything is told in.
#pragma once
#include <chrono>
#include <cstdint>

namespace edgemoe {

inline int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The machine's, unless a simulation keeps its own.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual int64_t now() const { return now_ns(); }
};

}  // namespace edgemoe
