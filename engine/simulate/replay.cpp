#include "simulate/replay.h"

#include <algorithm>
#include <memory>

#include "simulate/oracle.h"
#include "simulate/visits.h"

namespace edgemoe {

namespace {

// When each use's expert is used again, and when every expert is used first: numbers of visits.
void look_up_next(const Tape& tape, std::vector<int64_t>& next, std::vector<int64_t>& first) {
  std::vector<int32_t> experts;
  std::vector<int64_t> visits;
  int64_t visit = 0;
  each_visit(tape, [] {}, [&](int32_t, Phase, int, const std::vector<Use>& uses) {
    for (const Use& use : uses) {
      experts.push_back(use.expert);
      visits.push_back(visit);
    }
    return ++visit > 0;
  });
  first.assign(size_t(tape.shape.count()), Belady::kNever);
  next.resize(experts.size());
  for (size_t i = experts.size(); i-- > 0;) {
    next[i] = first[size_t(experts[i])];
    first[size_t(experts[i])] = visits[i];
  }
}

void hear(Policy& policy, const Tape& tape) {
  std::vector<int32_t> experts;
  each_visit(tape, [&] { policy.begin_request(); }, [&](int32_t pass, Phase phase, int layer, const std::vector<Use>& uses) {
    experts.clear();
    for (const Use& use : uses) experts.push_back(use.expert);
    policy.used(experts.data(), int(experts.size()), {pass, layer}, phase == PREFILL);
    return true;
  });
}

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

bool replay(const Tape& tape, const Setup& setup, const volatile int32_t* stopped, Outcomes* out) {
  const Shape shape = tape.shape;
  std::vector<int64_t> next, first;
  if (setup.policy == "oracle") look_up_next(tape, next, first);
  const std::unique_ptr<Policy> policy =
      setup.policy == "oracle" ? std::make_unique<Belady>(shape, &next, first) : policy_named(setup.policy, shape);
  if (setup.heard != nullptr && setup.policy != "oracle") hear(*policy, *setup.heard);
  if (setup.expected != nullptr) policy->expect(setup.expected);
  int64_t tokens = 0;
  for (int r = 0; r < tape.requests; ++r) tokens += tape.lengths[r];
  Clairvoyant clairvoyant(shape, tape.top_k, tape.experts, tokens);

  VirtualClock clock;
  ModelledStorage storage(setup.device, &clock);
  Records records(shape.experts, &clock);
  records.on = false;
  Buffer buffer(shape, setup.widths, setup.budget, policy.get(), nullptr, &records);
  Stream stream(shape, tape.top_k, {setup.widths, {}}, setup.wanted, &buffer, policy.get(), &storage, &records);
  stream.set_predictor(setup.clairvoyant ? &clairvoyant : setup.predictor);
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
      const int64_t* uses = records.totals.outcomes;
      setup.misses[out->tokens] = int32_t(uses[FIRST_TOUCH] + uses[CAPACITY] + uses[MISPREDICTED] + uses[LATE]);
    }
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
