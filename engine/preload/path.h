#pragma once
#include <unordered_map>
#include <vector>

#include "preload/predictor.h"

namespace edgemoe {

// EdgeMoE's dictionary (arXiv 2308.14352): which experts a layer chose after those that the two layers before it had chosen.
//
// What the paper leaves open: a layer's k experts are one key, sorted, since their order says little and splits the counts. The layers before
// the first are the last ones of the token before. A key that was not seen, or rarely, leans on the one layer before, this on the mean of what
// followed each of its experts alone, and this on how often the layer chooses each at all: n counts of one stand against kTrust of the next.
class Path : public Predictor {
 public:
  static constexpr float kTrust = 4.0f;
  static constexpr int kLevels = 4;  // two layers, one layer, one expert, always

  Path(Shape shape, int top_k) : shape_(shape), top_k_(top_k), chosen_(size_t(shape.layers) * top_k), known_(size_t(shape.layers)), odds_(size_t(shape.experts)) {}

  // Counts of one key of `level`: `key` are its experts, the nearer layer's last; that many times it was seen, and what followed how often.
  void add(int level, int layer, const int32_t* key, int length, float seen, const int32_t* experts, const float* counts, int count);

  void begin_request() override { std::fill(known_.begin(), known_.end(), uint8_t(0)); }
  void routed(int layer, const int32_t* experts, int count, bool prefill) override;
  bool predict(int layer, int ahead, float* odds) override;

 private:
  struct Entry {
    float seen;
    std::vector<std::pair<int32_t, float>> counts;
  };

  static uint64_t hash(int level, int layer, const int32_t* key, int length);
  const Entry* find(int level, int layer, const int32_t* key, int length) const;
  void lean(const Entry* entry, float* odds) const;
  const int32_t* before(int layer, int steps) const;

  Shape shape_;
  int top_k_;
  std::vector<int32_t> chosen_, key_;  // the last choice of each layer, sorted
  std::vector<uint8_t> known_;
  std::vector<float> odds_;
  std::unordered_map<uint64_t, Entry> entries_;
};

}  // namespace edgemoe
