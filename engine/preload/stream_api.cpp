// The functions that engine/streaming.py calls: one stream with all it needs but the storage.
#include <memory>

#include "preload/either.h"
#include "preload/gate.h"
#include "preload/stream.h"
#include "residency/view.h"

using namespace edgemoe;

namespace edgemoe {

// A stream and what it owns.
struct Management {
  Shape shape;
  int top_k;
  std::unique_ptr<Policy> policy;
  Slab slab;
  Buffer buffer;
  Stream stream;
  std::unique_ptr<Gate> gate;
  std::unique_ptr<Either> either;

  Management(Shape shape_, int top_k_, Source source, const uint8_t* wanted, int64_t budget, std::unique_ptr<Policy> policy_, int64_t longest,
             Storage* storage, Records* records)
      : shape(shape_), top_k(top_k_), policy(std::move(policy_)), slab(shape.count(), longest),
        buffer(shape, source.widths, budget, policy.get(), &slab, records),
        stream(shape, top_k, source, wanted, &buffer, policy.get(), storage, records) {}
};

}  // namespace edgemoe

#pragma GCC visibility push(default)
extern "C" {

// Mirrored by engine/streaming.py.
struct Failure {
  int32_t expert, bits, error;
};

// Null where there is no such policy or no address space.
Management* edgemoe_stream_new(int32_t layers, int32_t experts, int32_t top_k, int32_t widths, const int32_t* bits, const int64_t* bytes,
                               const uint64_t* const* checksums, const uint8_t* wanted, int64_t budget, const char* policy, void* storage,
                               Records* records) {
  const Shape shape{layers, experts};
  std::unique_ptr<Policy> made = policy_named(policy, shape);
  if (made == nullptr) return nullptr;
  Source source;
  int64_t longest = 0;
  for (int w = 0; w < widths; ++w) {
    source.widths.push_back({bits[w], bytes[w]});
    source.checksums.emplace_back(checksums[w], checksums[w] + shape.count());
    longest = std::max(longest, bytes[w]);
  }
  auto m = std::make_unique<Management>(shape, top_k, source, wanted, budget, std::move(made), longest, static_cast<Storage*>(storage), records);
  return m->slab.ok() ? m.release() : nullptr;
}

void edgemoe_stream_free(Management* m) { delete m; }

Stream* edgemoe_stream_of(Management* m) { return &m->stream; }
Gate* edgemoe_stream_gate(Management* m) { return m->gate.get(); }  // null: it is not asked

// --- settings; nothing may be under way (edgemoe_stream_quiesce) ---

int32_t edgemoe_stream_policy(Management* m, const char* name) {
  std::unique_ptr<Policy> made = policy_named(name, m->shape);
  if (made == nullptr) return 0;
  m->stream.set_policy(made.get());
  m->policy = std::move(made);
  return 1;
}

void edgemoe_stream_expect(Management* m, const double* odds) { m->policy->expect(odds); }
void edgemoe_stream_budget(Management* m, int64_t budget) { m->stream.resize(budget); }

// Predicts by the routers of the next layers where `gate`, by `learned` (kept by the caller, or null) else.
void edgemoe_stream_predictor(Management* m, int32_t gate, Predictor* learned) {
  m->stream.set_predictor(nullptr);
  m->either.reset();
  m->gate.reset(gate ? new Gate(m->shape, m->top_k) : nullptr);
  if (gate && learned != nullptr) m->either = std::make_unique<Either>(m->gate.get(), learned);
  m->stream.set_predictor(m->either ? static_cast<Predictor*>(m->either.get()) : gate ? m->gate.get() : learned);
}

void edgemoe_stream_ahead(Management* m, int32_t depth, int32_t width, int32_t balanced) { m->stream.set_ahead({depth, width, balanced != 0}); }

void edgemoe_stream_quiesce(Management* m) { m->stream.quiesce(); }
void edgemoe_stream_clear(Management* m) { m->buffer.clear(); }

// --- a pass ---

void edgemoe_stream_begin_pass(Management* m, int32_t pass, int32_t phase) { m->stream.begin_pass(pass, Phase(phase)); }

void edgemoe_stream_begin_request(Management* m) { m->stream.begin_request(); }

void edgemoe_stream_routed(Management* m, int32_t layer, const Use* uses, int32_t count) {
  m->stream.records().reached = m->stream.records().now();
  m->stream.routed(layer, uses, count);
}

// The scores [E] that the router of `layer` gives to a hidden state from `ahead` layers before it.
void edgemoe_stream_hand(Management* m, int32_t layer, int32_t ahead, const float* scores) { m->gate->hand(layer, ahead, scores); }
int32_t edgemoe_stream_wants(const Management* m, int32_t layer) { return m->stream.wants(layer); }
void edgemoe_stream_look_ahead(Management* m) { m->stream.look_ahead(); }

int32_t edgemoe_stream_take(Management* m, int32_t* places) {
  m->stream.records().reached = m->stream.records().now();
  return m->stream.take(places);
}

void edgemoe_stream_failed(const Management* m, Failure* out) {
  const Read& read = m->stream.failed();
  *out = {read.expert, read.bits, read.error};
}

// --- outside of passes ---

int32_t edgemoe_stream_fill(Management* m, int32_t expert) { return m->stream.fill(expert); }
int32_t edgemoe_stream_landed(Management* m) { return m->stream.landed(); }
int32_t edgemoe_stream_state(const Management* m, int32_t expert) { return m->buffer.state(expert); }
int32_t edgemoe_stream_bits(const Management* m, int32_t expert) { return m->buffer.state(expert) == ABSENT ? 0 : m->buffer.bits(expert); }

void edgemoe_stream_view(const Management* m, BufferView* out) { *out = view_of(m->buffer, &m->slab); }

}  // extern "C"
#pragma GCC visibility pop
