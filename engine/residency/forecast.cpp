#include "residency/forecast.h"

#include <algorithm>

#include "residency/vector.h"

namespace edgemoe {

namespace {

constexpr float kPatience = 0.6f;
constexpr float kNearness = 0.5f;              // tokens added to an expert's distance: how little a layer more or less matters
constexpr float kPace = 0.001f;
constexpr double kFixedCost = 128 << 10;       // bytes that could be read in the time a read takes beside its bytes
constexpr int64_t kMemory = int64_t(48) << 20;  // bytes, for what is known of how choices hang together

EDGEMOE_WIDEST void predict(float* worth, const float* own, const float* evidence, float scale, float shift, int n) {
  for (int e = 0; e < n; ++e) worth[e] = sigmoid(scale * own[e] + evidence[e] + shift);
}

EDGEMOE_WIDEST void weigh(double* out, const float* worth, const int64_t* bytes, double nearness, int n) {
  for (int e = 0; e < n; ++e) out[e] = -double(worth[e]) * nearness * (1 + kFixedCost / (double(bytes[e]) + 1));
}

}  // namespace

Forecast::Forecast(Shape shape) : shape_(shape), habit_(shape), context_(shape, kMemory) {
  const size_t experts = size_t(shape.experts), stages = size_t(context_.stages());
  scale_.resize(stages, 1.f);
  shift_.resize(stages);
  foretold_.resize(size_t(shape.layers));
  heard_.resize(size_t(shape.layers));
  odds_.resize(size_t(shape.count()));
  worth_.resize(size_t(shape.count()));
  used_.resize(experts);
  target_.resize(experts);
  own_target_.resize(experts);
  error_.resize(stages * experts);
}

void Forecast::forget() {
  context_.forget();
  std::fill(heard_.begin(), heard_.end(), uint8_t(0));
  std::fill(foretold_.begin(), foretold_.end(), uint8_t(0));
}

void Forecast::used(const int32_t* experts, int count, Moment at, bool prefill) {
  std::vector<int32_t> chosen(experts, experts + count);
  for (int32_t& e : chosen) e -= at.layer * shape_.experts;
  foretold_[at.layer] = 0;
  last_ = {-1, -1};
  habit_.turn(at.layer, chosen.data(), count, prefill);
  if (prefill) {  // of many tokens at once: nothing is said of what follows what
    forget();
    return;
  }
  const float* fresh = context_.hear(at.layer, chosen.data(), count);
  if (heard_[at.layer]) {
    std::fill(used_.begin(), used_.end(), 0.f);
    for (int32_t e : chosen) used_[e] = 1;
    const float* own = habit_.logits(at.layer);
    for (int e = 0; e < shape_.experts; ++e) {
      own_target_[e] = used_[e] != 0 ? 1 : kPatience * sigmoid(own[e]);
      target_[e] = used_[e] != 0 ? 1 : kPatience * sigmoid(scale_[0] * own[e] + fresh[e] + shift_[0]);
    }
    learn(at.layer);
  }
  heard_[at.layer] = 1;
  context_.pass_on(at.layer);
}

void Forecast::learn(int layer) {
  const int n = shape_.experts;
  const float* own = habit_.said();
  for (int stage = 0; stage <= context_.stage(layer); ++stage) {
    float* error = &error_[size_t(stage) * n];
    predict(error, own, context_.evidence(layer, stage), scale_[stage], shift_[stage], n);
    float steeper = 0, higher = 0;
    for (int e = 0; e < n; ++e) {
      error[e] -= target_[e];
      steeper += error[e] * own[e];
      higher += error[e];
    }
    scale_[stage] -= kPace / float(n) * steeper;
    shift_[stage] -= kPace / float(n) * higher;
  }
  context_.learn(layer, error_.data());
  habit_.learn(layer, own_target_.data());
}

void Forecast::predicted(int layer, const float* odds) {
  std::copy_n(odds, shape_.experts, &odds_[size_t(layer) * shape_.experts]);
  foretold_[layer] = 1;
  last_ = {-1, -1};
}

void Forecast::say(int layer, float* worth) const {
  const int stage = context_.stage(layer), n = shape_.experts;
  predict(worth, habit_.logits(layer), context_.evidence(layer), scale_[stage], shift_[stage], n);
  if (!foretold_[layer]) return;
  const float* odds = &odds_[size_t(layer) * n];
  for (int e = 0; e < n; ++e) worth[e] = std::max(worth[e], odds[e]);
}

void Forecast::scores(Moment at, const int64_t* bytes, double* out) {
  const bool new_moment = at.pass != last_.pass || at.layer != last_.layer;
  last_ = at;
  for (int layer = 0; layer < shape_.layers; ++layer) {
    const int forward = (layer - at.layer + shape_.layers - 1) % shape_.layers + 1;
    const size_t first = size_t(layer) * shape_.experts;
    if (new_moment) say(layer, &worth_[first]);
    weigh(out + first, &worth_[first], bytes + first, 1 / (double(forward) / shape_.layers + kNearness), shape_.experts);
  }
}

std::vector<Learned> Forecast::learned() {
  std::vector<Learned> out;
  habit_.learned(out);
  context_.learned(out);
  out.push_back({"forecast.scale", scale_.data(), scale_.size()});
  out.push_back({"forecast.shift", shift_.data(), shift_.size()});
  return out;
}

}  // namespace edgemoe
