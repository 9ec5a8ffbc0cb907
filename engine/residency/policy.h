// What an eviction policy is; one a file beside this one, by name in policies.cpp.
//
// S MoE layers, E experts a layer; an expert's number is layer * E + expert; N = S * E.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace edgemoe {

struct Shape {
  int layers, experts;
  int count() const { return layers * experts; }
};

// Where the token loop stands: the pass (prefill or one decode step) and the MoE layer within it.
struct Moment {
  int64_t pass = 0;
  int layer = 0;
};

// Memory that a policy keeps what it learned in: to be saved as it is, and put back into another of the same shape.
struct Learned {
  const char* name;
  void* memory;
  size_t bytes;
};

// Sees every use and every load, and scores the experts when room is needed; the highest score leaves first, among equals the lowest number.
class Policy {
 public:
  virtual ~Policy() = default;

  // Before the first use: how likely a token uses each expert, [N], from other text.
  virtual void expect(const double* odds) { (void)odds; }

  // A request begins: what follows has nothing to do with the token before.
  virtual void begin_request() {}

  // The router of `at.layer` chose these experts (numbers, in its order), resident or not; in a prefill, `count` may be all of the layer's.
  virtual void used(const int32_t* experts, int count, Moment at, bool prefill) = 0;

  // `expert` was brought into the buffer.
  virtual void loaded(int32_t expert, Moment at) { (void)expert, (void)at; }

  // The predictor's probabilities [E] that the experts of `layer` are chosen at its next turn.
  virtual void predicted(int layer, const float* odds) { (void)layer, (void)odds; }

  // How evictable each expert is, [N]; `bytes` [N] is what loading each resident again would read, 0 for the others, whose scores are
  // not looked at.
  virtual void scores(Moment at, const int64_t* bytes, double* out) = 0;

  // What it learned so far, where it lies.
  virtual std::vector<Learned> learned() { return {}; }
};

// Null where there is none of that name.
std::unique_ptr<Policy> policy_named(const std::string& name, Shape shape);

}  // namespace edgemoe
