// Decoding one token after another, natively until a layer lacks an expert.
//
// d hidden, k experts a token, V token ids, S MoE layers.
#pragma once
#include <cstring>
#include <memory>

#include "attention.h"
#include "records.h"

namespace edgemoe {

class Decoder {
 public:
  Decoder(const ModelSpec& spec, const Context& context);

  // `keys` and `values` are [layers, n, places, e], kept by the caller.
  void set_cache(float* keys, float* values, int64_t places);

  // Takes up the token at `position`; its rows carry the number `pass`, its times count from `origin`.
  void begin(int32_t token, int position, int64_t origin, int32_t pass);

  // Goes on until an MoE layer lacks an expert, and returns that layer; -1 at the end, when `logits` are there. With `each`, stops at
  // every MoE layer once routed. The layer's experts must then each be computed by `expert`, or all be resident, before it is called again.
  // `at` is when the caller's last span ended: what it did since is recorded as its bookkeeping.
  int run(bool each, int64_t at);

  // Computes the chosen expert of this rank, which must be resident now.
  void expert(int rank, int64_t at);

  const int32_t* chosen() const { return chosen_.data(); }
  const float* weights() const { return weights_.data(); }
  int top_k() const { return int(chosen_.size()); }
  float* logits() { return logits_.data(); }
  Records& records() { return records_; }

 private:
  void attention(const LayerSpec& layer, int place);
  void route_token(const LayerSpec& layer);
  bool all_resident(const LayerSpec& layer) const;
  void all_experts(const LayerSpec& layer);
  void one_by_one(const LayerSpec& layer);
  void together(const LayerSpec& layer);
  void combine();
  void mlp(const LayerSpec& layer);
  void head();
  int number(const LayerSpec& layer, int rank) const { return layer.moe * spec_.experts + chosen_[rank]; }
  const ExpertLayout& layout(int expert) const { return spec_.layouts[spec_.layout_of[expert]]; }
  const uint8_t* record(int expert) const { return reinterpret_cast<const uint8_t*>(spec_.records[expert]); }
  int label(const LayerSpec& layer) const { return layer.moe >= 0 ? layer.moe : -1; }

  ModelSpec spec_;
  Context context_;
  Records records_;
  AttentionWork attention_;
  std::vector<std::unique_ptr<ExpertWork>> work_;  // one a rank
  Prepared normed_, mixed_, inner_;
  std::vector<float> x_, norm_, update_, routed_, outputs_, gate_, up_, router_logits_, choice_, logits_, weights_;
  std::vector<int32_t> chosen_;
  float *keys_ = nullptr, *values_ = nullptr;
  int64_t places_ = 0;
  int layer_ = 0, position_ = 0, computed_ = 0;
  bool routed_layer_ = false;
};

}  // namespace edgemoe
