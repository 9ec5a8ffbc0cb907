// The functions by which policies and a buffer are tried by themselves, without a stream.
#include <memory>

#include "residency/view.h"

namespace edgemoe {

// A buffer with its memory and its account. The policy is the caller's.
struct Trial {
  Records records;
  std::unique_ptr<Slab> slab;
  Buffer buffer;

  Trial(Shape shape, std::vector<Width> widths, int64_t budget, Policy* policy, int64_t slot_bytes)
      : records(shape.experts), slab(slot_bytes > 0 ? std::make_unique<Slab>(shape.count(), slot_bytes) : nullptr),
        buffer(shape, std::move(widths), budget, policy, slab.get(), &records) {}
};

}  // namespace edgemoe

using namespace edgemoe;

#pragma GCC visibility push(default)
extern "C" {

// Null where there is none of that name.
Policy* edgemoe_policy_new(const char* name, int32_t layers, int32_t experts) { return policy_named(name, {layers, experts}).release(); }
void edgemoe_policy_free(Policy* p) { delete p; }
void edgemoe_policy_expect(Policy* p, const double* odds) { p->expect(odds); }
void edgemoe_policy_begin_request(Policy* p) { p->begin_request(); }
void edgemoe_policy_loaded(Policy* p, int32_t expert, int64_t pass, int32_t layer) { p->loaded(expert, {pass, layer}); }
void edgemoe_policy_predicted(Policy* p, int32_t layer, const float* odds) { p->predicted(layer, odds); }

void edgemoe_policy_used(Policy* p, const int32_t* experts, int32_t count, int64_t pass, int32_t layer, int32_t prefill) {
  p->used(experts, count, {pass, layer}, prefill != 0);
}

void edgemoe_policy_scores(Policy* p, int64_t pass, int32_t layer, const int64_t* bytes, double* out) { p->scores({pass, layer}, bytes, out); }

// One of the memories that it keeps what it learned in: its name, where it lies, and how long it is; -1 where there are no more.
int64_t edgemoe_policy_learned(Policy* p, int32_t index, const char** name, void** memory) {
  const std::vector<Learned> all = p->learned();
  if (size_t(index) >= all.size()) return -1;
  *name = all[size_t(index)].name;
  *memory = all[size_t(index)].memory;
  return int64_t(all[size_t(index)].bytes);
}

// `slot_bytes` of memory, a multiple of the page's, for each of the N records; 0: none behind them. Null where there is no address space.
Trial* edgemoe_trial_new(int32_t layers, int32_t experts, int32_t widths, const int32_t* bits, const int64_t* bytes, int64_t budget, Policy* policy,
                         int64_t slot_bytes) {
  std::vector<Width> all;
  for (int w = 0; w < widths; ++w) all.push_back({bits[w], bytes[w]});
  auto trial = std::make_unique<Trial>(Shape{layers, experts}, std::move(all), budget, policy, slot_bytes);
  return trial->slab == nullptr || trial->slab->ok() ? trial.release() : nullptr;
}

void edgemoe_trial_free(Trial* t) { delete t; }
int32_t edgemoe_trial_admit(Trial* t, int32_t e, int32_t width, int64_t pass, int32_t layer) { return t->buffer.admit(e, width, {pass, layer}); }
int32_t edgemoe_trial_adopt(Trial* t, int32_t e, int64_t pass, int32_t layer) { return t->buffer.adopt(e, {pass, layer}); }

int32_t edgemoe_trial_stage(Trial* t, int32_t e, int32_t width, int64_t pass, int32_t layer, int32_t distance, float odds) {
  return t->buffer.stage(e, width, {pass, layer}, distance, odds);
}

void edgemoe_trial_arrived(Trial* t, int32_t e) { t->buffer.arrived(e); }
void edgemoe_trial_abandon(Trial* t, int32_t e) { t->buffer.abandon(e); }
void edgemoe_trial_unpin(Trial* t, int32_t e) { t->buffer.unpin(e); }
void edgemoe_trial_pin(Trial* t, int32_t e) { t->buffer.pin(e); }
void edgemoe_trial_resize(Trial* t, int64_t budget, int64_t pass, int32_t layer) { t->buffer.resize(budget, {pass, layer}); }
void edgemoe_trial_set_staging(Trial* t, int64_t bytes, int64_t pass, int32_t layer) { t->buffer.set_staging(bytes, {pass, layer}); }
void edgemoe_trial_clear(Trial* t) { t->buffer.clear(); }
uint8_t* edgemoe_trial_memory(const Trial* t) { return t->slab->at(0); }
int32_t edgemoe_trial_state(const Trial* t, int32_t e) { return t->buffer.state(e); }
void edgemoe_trial_view(const Trial* t, BufferView* out) { *out = view_of(t->buffer, t->slab.get()); }
const Totals* edgemoe_trial_totals(const Trial* t) { return &t->records.totals; }

}  // extern "C"
#pragma GCC visibility pop
