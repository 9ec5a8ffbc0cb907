// Going through a tape.
#pragma once
#include <vector>

#include "simulate/replay.h"

namespace edgemoe {

// Goes through a tape pass by pass; a copy is a bookmark.
class Walk {
 public:
  explicit Walk(const Tape& tape) : tape_(&tape) {}

  // On to the next pass, request() being called where one begins; false behind the last.
  template <class Request>
  bool next(Request&& request) {
    if (under_way_) leave();
    for (; request_ < tape_->requests; ++request_, decoded_ = kNotBegun) {
      if (decoded_ == kNotBegun) {
        request();
        decoded_ = 0;
        if (prefilled()) return under_way_ = true;
      }
      if (decoded_ < tape_->lengths[request_]) return under_way_ = true;
    }
    return false;
  }

  // Calls visit(pass, phase, layer, uses) for every layer of the pass, in order, until it says false.
  template <class Visit>
  bool visit(Visit&& visit) {
    const int layers = tape_->shape.layers, experts = tape_->shape.experts;
    if (prefilled()) {
      for (int64_t at = at_; of_request(at);) {
        const int layer = tape_->prefill[at].layer;
        uses_.clear();
        for (; of_request(at) && tape_->prefill[at].layer == layer; ++at)
          uses_.push_back({layer * experts + tape_->prefill[at].expert, 0, tape_->prefill[at].tokens, 0.0f});
        if (!visit(pass_, PREFILL, layer, uses_)) return false;
      }
      return true;
    }
    for (int layer = 0; layer < layers; ++layer) {
      uses_.clear();
      const int16_t* chosen = tape_->experts + (token_ * layers + layer) * tape_->top_k;
      for (int i = 0; i < tape_->top_k; ++i)
        if (chosen[i] >= 0) uses_.push_back({layer * experts + chosen[i], i, 1, 0.0f});
      if (!visit(pass_, DECODE, layer, uses_)) return false;
    }
    return true;
  }

 private:
  static constexpr int kNotBegun = -1;

  bool of_request(int64_t at) const { return at < tape_->prefill_uses && tape_->prefill[at].request == request_; }
  bool prefilled() const { return of_request(at_); }

  void leave() {
    if (prefilled()) {
      while (prefilled()) ++at_;
    } else {
      ++token_;
      ++decoded_;
    }
    ++pass_;
    under_way_ = false;
  }

  const Tape* tape_;
  int request_ = 0, decoded_ = kNotBegun;  // of its tokens
  int64_t at_ = 0, token_ = 0;             // into the tape's prefill and tokens
  int32_t pass_ = 0;
  bool under_way_ = false;
  std::vector<Use> uses_;
};

// All of a tape: request() where one begins, and visit(pass, phase, layer, uses) until it says false.
template <class Request, class Visit>
bool each_visit(const Tape& tape, Request&& request, Visit&& visit) {
  for (Walk walk(tape); walk.next(request);)
    if (!walk.visit(visit)) return false;
  return true;
}

}  // namespace edgemoe
