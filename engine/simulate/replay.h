// A recorded routing, run again through the engine's own stream, buffer, policy and predictor, on storage and time that are modelled.
//
// T decoded tokens, S MoE layers, E experts a layer, k experts a token, R requests, P uses by prefills.
#pragma once
#include <string>
#include <vector>

#include "preload/stream.h"
#include "simulate/virtual.h"

namespace edgemoe {

// One expert's part in a prefill; those of one request and layer stand together, as the router named them.
struct PrefillUse {
  int32_t request, layer, expert, tokens;
};

struct Tape {
  Shape shape;
  int top_k;
  const int16_t* experts;   // [T, S, k] within their layer, -1 for none
  const int32_t* lengths;   // [R]
  int requests;
  const PrefillUse* prefill;  // [P], by request and layer
  int64_t prefill_uses;
};

// What computing costs, in ns: each layer besides its experts, an expert by the place of its width, each token besides its layers, and predicting
// a layer.
struct Costs {
  int64_t layer, token, experts[8], predict;
};

constexpr const char* kOracle = "oracle";

// What a policy learned from the routing of other requests: the memories that it hands out.
struct Lesson {
  std::string policy;
  std::vector<std::vector<uint8_t>> memories;
};

// False where `stopped` became true.
bool learn(const Tape& heard, const std::string& policy, const volatile int32_t* stopped, Lesson* out);

struct Setup {
  std::string policy;              // a policy's name, or "oracle"
  Predictor* predictor = nullptr;  // none
  bool clairvoyant = false;        // predicts by the tape itself
  Ahead ahead;
  int64_t budget = 0;
  std::vector<Width> widths;
  const uint8_t* wanted = nullptr;  // [N], places of widths
  Device device{};
  Costs costs{};
  const int32_t* initial = nullptr;  // experts that are resident to begin with
  int initial_count = 0;
  const double* expected = nullptr;  // [N], what the policy is told to expect, or null
  const Lesson* lesson = nullptr;    // of that policy, or null
  // Filled in where they are not null, over decoded tokens:
  int32_t* misses = nullptr;         // [T], of each token
  int32_t* expert_misses = nullptr;  // [N], of each expert
  int32_t* held = nullptr;           // [N], tokens at whose end it was resident
};

// Over decoded tokens; prefills are run and not counted.
struct Outcomes {
  int64_t tokens, uses[kOutcomes], demand_bytes, useful_bytes, wasted_bytes, guessed, guessed_right, evictions, ns, stall_ns, peak_bytes;
};

// False where `stopped` became true, which is looked at once a token.
bool replay(const Tape& tape, const Setup& setup, const volatile int32_t* stopped, Outcomes* out);

}  // namespace edgemoe
