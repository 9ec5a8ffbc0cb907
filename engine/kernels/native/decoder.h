// Decoding one token after another; a stream has the experts that each layer chooses in memory when they are computed.
//
// d hidden, k experts a token, V token ids, S MoE layers.
#pragma once
#include <cstring>
#include <memory>

#include "attention.h"
#include "preload/gate.h"
#include "preload/stream.h"

namespace edgemoe {

class Decoder {
 public:
  enum Progress : int { AGAIN = 0, DONE = 1, FAILED = -1 };

  Decoder(const ModelSpec& spec, const Means& context, Stream* stream);

  // Scores of the next layers' routers are handed to `gate`; null: to nobody.
  void set_gate(Gate* gate) { foresight_ = gate; }

  // `keys` and `values` are [layers, n, places, e], kept by the caller.
  void set_cache(float* keys, float* values, int64_t places);

  // Takes up the token at `position`.
  void begin(int32_t token, int position);

  // Goes on for about `patience` ns: AGAIN, to be called once more, DONE when `logits` are there, FAILED where a record could not be read.
  int run(int64_t patience);

  float* logits() { return logits_.data(); }

 private:
  void attention(const LayerSpec& layer, int place);
  void route_token(const LayerSpec& layer);
  void announce(const LayerSpec& layer);
  void look_ahead();
  void hand_on(const LayerSpec& later, int distance);
  bool experts(const LayerSpec& layer);
  void one_by_one(const LayerSpec& layer, int count);
  void together(const LayerSpec& layer, int count);
  void combine();
  void mlp(const LayerSpec& layer);
  void head();
  int number(const LayerSpec& layer, int rank) const { return layer.moe * spec_.experts + chosen_[rank]; }
  const ExpertLayout& layout(int expert) const { return spec_.layouts[spec_.layout_of[expert]]; }
  const uint8_t* record(int expert) const { return reinterpret_cast<const uint8_t*>(spec_.records[expert]); }
  int top_k() const { return int(chosen_.size()); }
  int label(const LayerSpec& layer) const { return layer.moe >= 0 ? layer.moe : -1; }

  ModelSpec spec_;
  Means context_;
  Stream* stream_;
  Records& records_;
  Gate* foresight_ = nullptr;
  AttentionWork attention_;
  std::vector<std::unique_ptr<ExpertWork>> work_;  // one a rank
  Prepared normed_, mixed_, inner_, early_;
  std::vector<float> x_, norm_, update_, routed_, outputs_, gate_, up_, router_logits_, choice_, logits_, weights_, early_norm_, scores_;
  std::vector<int32_t> chosen_, ready_;
  std::vector<Use> uses_;
  float *keys_ = nullptr, *values_ = nullptr;
  int64_t places_ = 0;
  int layer_ = 0, position_ = 0;
};

}  // namespace edgemoe
