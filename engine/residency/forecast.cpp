#include "residency/forecast.h"

#include <algorithm>

#include "residency/vector.h"

namespace edgemoe {

namespace {

constexpr float kMargin = 0.25f;               // of the rent to the uses a token that a place would see if all were used alike
constexpr float kUsualShare = 0.25f;           // of the experts in memory, as long as that is not known
constexpr float kNothing = 0.02f;              // what is worth less is given up
constexpr float kSpan = 5.f;                   // tokens added to an expert's distance: what the rent has not accounted for
constexpr float kPace = 0.001f;
constexpr double kFixedCost = 128 << 10;       // bytes that could be read in the time a read takes beside its bytes
constexpr int64_t kMemory = int64_t(48) << 20;  // bytes, for what is known of how choices hang together

EDGEMOE_WIDEST void predict(float* worth, const float* own, const float* evidence, float scale, float shift, int n) {
  for (int e = 0; e < n; ++e) worth[e] = sigmoid(scale * own[e] + evidence[e] + shift);
}

// What was said, `error`, becomes what it was too high by; `worth` becomes that of this stage.
EDGEMOE_WIDEST void settle(float* error, float* worth, float rent, int n) {
  for (int e = 0; e < n; ++e) {
    const float paid = worth[e] - rent, said = error[e], net = paid > 0 ? paid : 0.f;
    error[e] = said - net;
    worth[e] = said < kNothing ? 0.f : net;
  }
}

EDGEMOE_WIDEST void weigh(double* out, const float* worth, const int64_t* bytes, double nearness, int n) {
  for (int e = 0; e < n; ++e) out[e] = -double(worth[e]) * nearness * (1 + kFixedCost / (double(bytes[e]) + 1));
}

}  // namespace

Forecast::Forecast(Shape shape) : shape_(shape), habit_(shape), context_(shape, kMemory), rent_(kMargin / 8 / kUsualShare) {
  const size_t experts = size_t(shape.experts), stages = size_t(context_.stages());
  scale_.resize(stages, 1.f);
  shift_.resize(stages);
  foretold_.resize(size_t(shape.layers));
  heard_.resize(size_t(shape.layers));
  odds_.resize(size_t(shape.count()));
  worth_.resize(size_t(shape.count()));
  used_.resize(experts);
  worth_then_.resize(experts);
  own_worth_.resize(experts);
  said_.resize(stages * experts);
  error_.resize(stages * experts);
}

void Forecast::forget() {
  last_ = {-1, -1};
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
  top_ = count;
  const float* fresh = context_.hear(at.layer, chosen.data(), count);
  if (heard_[at.layer]) {
    std::fill(used_.begin(), used_.end(), 0.f);
    for (int32_t e : chosen) used_[e] = 1;
    appraise(at.layer, fresh);
    learn(at.layer);
  }
  heard_[at.layer] = 1;
  context_.pass_on(at.layer);
}

// What each expert of the layer turned out to be worth at this turn, by its own past and by all that is known.
void Forecast::appraise(int layer, const float* fresh) {
  const float* own = habit_.logits(layer);
  for (int e = 0; e < shape_.experts; ++e) {
    const float kept = used_[e] != 0 ? 1 : sigmoid(own[e]);
    own_worth_[e] = std::max(kept - rent_, 0.f);
    worth_then_[e] = used_[e] != 0 ? 1 : sigmoid(scale_[0] * own[e] + fresh[e] + shift_[0]);
  }
}

// From the last stage to the first: the worth was that of the next stage less the rent until then, or nothing once the expert was given up.
void Forecast::learn(int layer) {
  const int n = shape_.experts, last = context_.stage(layer);
  const float* own = habit_.said();
  const float rent = rent_ / float(last + 1);
  for (int stage = last; stage >= 0; --stage) {
    float* error = &error_[size_t(stage) * n];
    predict(error, own, context_.evidence(layer, stage), scale_[stage], shift_[stage], n);
    settle(error, worth_then_.data(), rent, n);
    float steeper = 0, higher = 0;
    for (int e = 0; e < n; ++e) {
      steeper += error[e] * own[e];
      higher += error[e];
    }
    scale_[stage] -= kPace / float(n) * steeper;
    shift_[stage] -= kPace / float(n) * higher;
  }
  context_.learn(layer, error_.data());
  habit_.learn(layer, own_worth_.data());
}

void Forecast::set_rent(const int64_t* bytes) {
  const int count = shape_.count();
  int held = 0;
  for (int e = 0; e < count; ++e) held += bytes[e] > 0;
  const float share = float(std::max(held, 1)) / float(count), use = float(std::max(top_, 1)) / float(shape_.experts);
  rent_ = std::min(kMargin * use / share, 0.5f);
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
  if (new_moment) set_rent(bytes);
  for (int layer = 0; layer < shape_.layers; ++layer) {
    const int forward = (layer - at.layer + shape_.layers - 1) % shape_.layers + 1;
    const size_t first = size_t(layer) * shape_.experts;
    if (new_moment) say(layer, &worth_[first]);
    weigh(out + first, &worth_[first], bytes + first, 1 / (double(forward) / shape_.layers + kSpan), shape_.experts);
  }
}

std::vector<Learned> Forecast::learned() {
  std::vector<Learned> out;
  habit_.learned(out);
  context_.learned(out);
  out.push_back({"forecast.scale", scale_.data(), scale_.size() * sizeof(float)});
  out.push_back({"forecast.shift", shift_.data(), shift_.size() * sizeof(float)});
  return out;
}

}  // namespace edgemoe
