// The functions that engine/preload/transition.py and path.py call, and those by which any predictor is tried.
#include <algorithm>

#include "preload/gate.h"
#include "preload/path.h"
#include "preload/transition.h"

using namespace edgemoe;

#pragma GCC visibility push(default)
extern "C" {

Transition* edgemoe_transition_new(int32_t layers, int32_t experts, int32_t top_k) { return new Transition({layers, experts}, top_k); }
Predictor* edgemoe_transition_predictor(Transition* t) { return t; }
void edgemoe_transition_learning(Transition* t, int32_t on) { t->set_learning(on != 0); }
int32_t edgemoe_transition_arrays(const Transition* t) { return t->arrays(); }
int64_t edgemoe_transition_size(Transition* t, int32_t index) { return int64_t(t->array(index).size()); }
float* edgemoe_transition_array(Transition* t, int32_t index) { return t->array(index).data(); }
int32_t edgemoe_transition_hidden(const Transition* t) { return t->hidden(); }

// `report` is told the share done, and says with 0 that it is enough; then 0 is returned.
int32_t edgemoe_transition_train(Transition* t, const int16_t* experts, const int32_t* lengths, int32_t requests, int32_t top_k, int32_t epochs,
                                 int32_t threads, int32_t (*report)(double)) {
  return t->train({experts, lengths, requests, top_k}, epochs, threads, [report](double share) { return report(share) != 0; });
}

// Another that learned the same.
Transition* edgemoe_transition_copy(const Transition* t) { return new Transition(*t); }
Path* edgemoe_path_copy(const Path* p) { return new Path(*p); }

Path* edgemoe_path_new(int32_t layers, int32_t experts, int32_t top_k) { return new Path({layers, experts}, top_k); }
Predictor* edgemoe_path_predictor(Path* p) { return p; }

void edgemoe_path_add(Path* p, int32_t level, int32_t layer, const int32_t* key, int32_t length, float seen, const int32_t* experts, const float* counts,
                      int32_t count) {
  p->add(level, layer, key, length, seen, experts, counts, count);
}

Predictor* edgemoe_gate_new(int32_t layers, int32_t experts, int32_t top_k) { return new Gate({layers, experts}, top_k); }
void edgemoe_gate_hand(Predictor* gate, int32_t layer, int32_t ahead, const float* scores) { static_cast<Gate*>(gate)->hand(layer, ahead, scores); }

void edgemoe_predictor_free(Predictor* p) { delete p; }
void edgemoe_predictor_begin_request(Predictor* p) { p->begin_request(); }
void edgemoe_predictor_routed(Predictor* p, int32_t layer, const int32_t* experts, int32_t count, int32_t prefill) {
  p->routed(layer, experts, count, prefill != 0);
}
int32_t edgemoe_predictor_predict(Predictor* p, int32_t layer, int32_t ahead, float* odds) { return p->predict(layer, ahead, odds); }

// What a predictor makes of a trace: the odds [T, S, E] of each layer, `ahead` layers before its turn; 0 where it could not say.
void edgemoe_predictor_judge(Predictor* p, int32_t layers, int32_t experts, const int16_t* trace, const int32_t* lengths, int32_t requests,
                             int32_t top_k, int32_t ahead, float* odds) {
  std::vector<int32_t> chosen(static_cast<size_t>(top_k));
  int64_t at = 0, total = 0;
  for (int r = 0; r < requests; ++r) total += lengths[r];
  for (int r = 0; r < requests; ++r) {
    p->begin_request();
    for (int t = 0; t < lengths[r]; ++t, ++at)
      for (int l = 0; l < layers; ++l) {
        const int16_t* now = trace + (at * layers + l) * top_k;
        const int count = int(std::copy_if(now, now + top_k, chosen.begin(), [](int16_t e) { return e >= 0; }) - chosen.begin());
        p->routed(l, chosen.data(), count, false);
        const int later = l + ahead;
        const int64_t token = at + later / layers;
        if (token < total && later / layers + t < lengths[r]) p->predict(later % layers, ahead, odds + (token * layers + later % layers) * experts);
      }
  }
}

}  // extern "C"
#pragma GCC visibility pop
