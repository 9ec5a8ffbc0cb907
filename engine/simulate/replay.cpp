#include "simulate/replay.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "simulate/oracle.h"
#include "simulate/visits.h"

namespace edgemoe {

namespace {

void teach(Policy& policy, const Lesson& lesson) {
  const std::vector<Learned> memories = policy.learned();
  for (size_t i = 0; i < memories.size(); ++i) std::memcpy(memories[i].memory, lesson.memories[i].data(), memories[i].bytes);
}

bool missed(Outcome outcome) { return outcome != HIT && outcome != PRELOADED; }

void count(const Totals& totals, Outcomes& out) {
  ++out.tokens;
  for (int i = 0; i < kOutcomes; ++i) out.uses[i] += totals.outcomes[i];
  out.demand_bytes += totals.demand_bytes;
  out.useful_bytes += totals.useful_bytes;
  out.wasted_bytes += totals.wasted_bytes;
  out.guessed += totals.guessed;
  out.guessed_right += totals.guessed_right;
  out.evictions += totals.evictions;
  out.stall_ns += totals.times[STALL];
}

}  // namespace

bool learn(const Tape& heard, const std::string& name, const volatile int32_t* stopped, Lesson* out) {
  const std::unique_ptr<Policy> policy = policy_named(name, heard.shape);
  if (policy->learned().empty()) return true;
  std::vector<int32_t> experts;
  const bool whole = each_visit(
      heard, [&] { policy->begin_request(); },
      [&](int32_t pass, Phase phase, int layer, const std::vector<Use>& uses) {
        experts.clear();
        for (const Use& use : uses) experts.push_back(use.expert);
        policy->used(experts.data(), int(experts.size()), {pass, layer}, phase == PREFILL);
        return *stopped == 0;
      });
  out->policy = name;
  for (const Learned& memory : policy->learned()) {
    const uint8_t* begin = static_cast<const uint8_t*>(memory.memory);
    out->memories.emplace_back(begin, begin + memory.bytes);
  }
  return whole;
}

bool replay(const Tape& tape, const Setup& setup, const volatile int32_t* stopped, Outcomes* out) {
  const Shape shape = tape.shape;
  const bool oracle = setup.policy == kOracle;
  const std::unique_ptr<Policy> policy = oracle ? std::make_unique<Belady>(tape) : policy_named(setup.policy, shape);
  if (setup.lesson != nullptr && setup.lesson->policy == setup.policy) teach(*policy, *setup.lesson);
  if (setup.expected != nullptr) policy->expect(setup.expected);
  int64_t tokens = 0;
  for (int r = 0; r < tape.requests; ++r) tokens += tape.lengths[r];
  Clairvoyant clairvoyant(shape, tape.top_k, tape.experts, tokens);

  VirtualClock clock;
  Timed timed(setup.predictor, setup.costs.predict, &clock);
  ModelledStorage storage(setup.device, &clock);
  Records records(shape.experts, &clock);
  records.on = false;
  Buffer buffer(shape, setup.widths, setup.budget, policy.get(), nullptr, &records);
  Stream stream(shape, tape.top_k, {setup.widths, {}}, setup.wanted, &buffer, policy.get(), &storage, &records);
  Predictor* const learned = setup.predictor != nullptr ? &timed : nullptr;
  stream.set_predictor(setup.clairvoyant ? &clairvoyant : learned);
  stream.set_ahead(setup.ahead);
  stream.begin_pass(-1, PREFILL);
  for (int i = 0; i < setup.initial_count; ++i)
    if (stream.fill(setup.initial[i])) stream.landed();

  *out = {};
  std::vector<int32_t> places(size_t(shape.experts) + 1);
  int32_t under_way = -1;
  int64_t began = 0;
  Phase phase = PREFILL;
  const auto end_pass = [&] {
    if (under_way < 0) return;
    clock.pass(setup.costs.token);
    records.reached = records.now();
    if (phase != DECODE) return;
    if (setup.misses != nullptr) {
      int32_t misses = 0;
      for (int i = 0; i < kOutcomes; ++i) misses += missed(Outcome(i)) * int32_t(records.totals.outcomes[i]);
      setup.misses[out->tokens] = misses;
    }
    if (setup.held != nullptr)
      for (int32_t e = 0; e < shape.count(); ++e) setup.held[e] += buffer.state(e) == RESIDENT;
    count(records.totals, *out);
    out->ns += clock.now() - began;
  };
  const bool whole = each_visit(
      tape,
      [&] {
        end_pass();
        under_way = -1;
        stream.begin_request();
      },
      [&](int32_t pass, Phase of, int layer, const std::vector<Use>& uses) {
        if (pass != under_way) {
          end_pass();
          if (*stopped != 0) return false;
          stream.begin_pass(pass, of);
          began = clock.now();
          under_way = pass;
          phase = of;
        }
        clock.pass(setup.costs.layer);
        records.reached = records.now();
        stream.routed(layer, uses.data(), int(uses.size()));
        if (setup.expert_misses != nullptr && of == DECODE)
          for (const Use& use : uses) setup.expert_misses[use.expert] += missed(stream.outcome(use.expert));
        stream.look_ahead();
        for (int n; (n = stream.take(places.data())) > 0;)
          for (int i = 0; i < n; ++i) {
            const Use& use = uses[size_t(places[size_t(i)])];
            clock.pass(setup.costs.experts[setup.wanted[use.expert]] * use.tokens);
            records.reached = records.now();
          }
        return true;
      });
  if (whole) end_pass();
  out->peak_bytes = buffer.peak();
  stream.quiesce();
  return whole;
}

}  // namespace edgemoe
