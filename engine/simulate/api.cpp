// The functions that engine/simulate/native.py binds.
#include <algorithm>
#include <memory>

#include "simulate/bound.h"
#include "simulate/replay.h"
#include "simulate/stack.h"

using namespace edgemoe;

#pragma GCC visibility push(default)
extern "C" {

// Mirrored by engine/simulate/native.py.
struct TapeView {
  int32_t layers, experts_a_layer, top_k, requests;
  const int16_t* experts;
  const int32_t* lengths;
  const PrefillUse* prefill;
  int64_t prefill_uses;
};

struct SetupView {
  const char* policy;
  Predictor* predictor;
  int32_t clairvoyant, depth, width, balanced, widths, initial_count;
  int64_t budget;
  const int32_t* bits;
  const int64_t* bytes;
  const uint8_t* wanted;
  const int32_t* initial;
  const double* expected;
  const Lesson* lesson;
  double bandwidth;
  int64_t latency, wake, lanes, layer_ns, token_ns, predict_ns;
  const int64_t* expert_ns;  // by width
  int32_t* misses;           // by token, or null
  int32_t *expert_misses, *held;  // by expert, or null
};

static Tape tape_of(const TapeView& v) { return {{v.layers, v.experts_a_layer}, v.top_k, v.experts, v.lengths, v.requests, v.prefill, v.prefill_uses}; }

int64_t edgemoe_replay_size(int32_t which) {
  const int64_t sizes[] = {sizeof(TapeView), sizeof(SetupView), sizeof(Outcomes)};
  return which >= 0 && which < 3 ? sizes[which] : -1;
}

// See stack.h: hits [N + 1] and, behind them, uses and first ones. False where `stopped` was set.
int32_t edgemoe_lru_hits(const TapeView* view, int64_t* out, const int32_t* stopped) {
  LruHits hits;
  const bool whole = lru_hits(tape_of(*view), stopped, &hits);
  out = std::copy(hits.at.begin(), hits.at.end(), out);
  out[0] = hits.uses;
  out[1] = hits.first;
  return whole ? 1 : 0;
}

// See bound.h.
int64_t edgemoe_least_bytes(const TapeView* view, const int64_t* bytes, int64_t budget, const int32_t* initial, int32_t count, const int32_t* stopped) {
  return least_bytes(tape_of(*view), bytes, budget, {initial, initial + count}, stopped);
}

// What `policy` learns from a routing; null where `stopped` was set, or there is no such policy.
Lesson* edgemoe_lesson_new(const TapeView* view, const char* policy, const int32_t* stopped) {
  auto lesson = std::make_unique<Lesson>();
  const Tape tape = tape_of(*view);
  if (policy_named(policy, tape.shape) == nullptr) return nullptr;
  return learn(tape, policy, stopped, lesson.get()) ? lesson.release() : nullptr;
}

void edgemoe_lesson_free(Lesson* lesson) { delete lesson; }

// 1: done; 0: `stopped` was set; -1: there is no such policy.
int32_t edgemoe_replay(const TapeView* view, const SetupView* s, const int32_t* stopped, Outcomes* out) {
  const Tape tape = tape_of(*view);
  Setup setup;
  setup.policy = s->policy;
  if (setup.policy != kOracle && policy_named(setup.policy, tape.shape) == nullptr) return -1;
  setup.predictor = s->predictor;
  setup.clairvoyant = s->clairvoyant != 0;
  setup.ahead = {s->depth, s->width, s->balanced != 0};
  setup.budget = s->budget;
  for (int w = 0; w < s->widths; ++w) {
    setup.widths.push_back({s->bits[w], s->bytes[w]});
    setup.costs.experts[w] = s->expert_ns[w];
  }
  setup.wanted = s->wanted;
  setup.misses = s->misses;
  setup.expert_misses = s->expert_misses;
  setup.held = s->held;
  setup.initial = s->initial;
  setup.initial_count = s->initial_count;
  setup.expected = s->expected;
  setup.lesson = s->lesson;
  setup.device = {s->bandwidth, s->latency, s->wake, int32_t(s->lanes)};
  setup.costs.layer = s->layer_ns;
  setup.costs.token = s->token_ns;
  setup.costs.predict = s->predict_ns;
  return replay(tape, setup, stopped, out) ? 1 : 0;
}

}  // extern "C"
#pragma GCC visibility pop
