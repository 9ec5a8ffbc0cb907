#include "residency/habit.h"

#include <algorithm>
#include <cmath>

#include "residency/vector.h"

namespace edgemoe {

namespace {

constexpr float kHalfLives[] = {0.7f, 1.5f, 3, 6, 12, 40, 120, 400};  // turns
constexpr int kLives = int(sizeof kHalfLives / sizeof *kHalfLives);
constexpr int kRanks = 4;  // places in the router's order that are told apart; the last one stands for all further ones
constexpr int kFeatures = 2 * kLives + kRanks;
constexpr float kPace = 0.03f, kBiasPace = 0.005f;
constexpr float kLikelyShare = 0.125f;  // of the experts that a token uses, at most, as long as that is not known
constexpr float kFirstGuess = 0.25f;  // of the weight of each logarithm: sensible from the first token on

float keep(int life) { return std::exp2(-1 / kHalfLives[life]); }

EDGEMOE_WIDEST void decay(float* rate, const float* used, int n, float keep) {
  for (int e = 0; e < n; ++e) rate[e] = rate[e] * keep + used[e] * (1 - keep);
}

EDGEMOE_WIDEST void describe(float* linear, float* logarithmic, const float* rate, int n, float keep, float share) {
  const float floor = 0.3f * (1 - keep) + 1e-3f;
  for (int e = 0; e < n; ++e) {
    linear[e] = 2 * share * (rate[e] - 1);
    logarithmic[e] = 0.5f * logarithm(rate[e] + floor);
  }
}

EDGEMOE_WIDEST void add(float* sum, const float* terms, int n, float weight) {
  for (int e = 0; e < n; ++e) sum[e] += weight * terms[e];
}

EDGEMOE_WIDEST void miss(float* error, const float* logits, const float* target, int n) {
  for (int e = 0; e < n; ++e) error[e] = sigmoid(logits[e]) - target[e];
}

}  // namespace

Habit::Habit(Shape shape) : layers_(shape.layers), experts_(shape.experts) {
  const size_t n = size_t(shape.count());
  rate_.resize(n * kLives, 1.f);
  features_.resize(n * kFeatures);
  before_.resize(size_t(experts_) * kFeatures);
  said_.resize(size_t(experts_));
  error_.resize(size_t(experts_));
  logits_.resize(n);
  weight_.resize(kFeatures);
  slope_.resize(kFeatures, 1e-3f);
  bias_.resize(n);
  std::fill_n(weight_.begin() + kLives, kLives, kFirstGuess);
}

void Habit::expect(const double* odds) {
  if (share_ == 0) set_share(kLikelyShare);
  for (int layer = 0; layer < layers_; ++layer) {
    double sum = 0;
    for (int e = 0; e < experts_; ++e) sum += odds[layer * experts_ + e];
    if (sum <= 0) continue;
    for (int life = 0; life < kLives; ++life)
      for (int e = 0; e < experts_; ++e)
        rate_[(size_t(layer) * kLives + life) * experts_ + e] = float(odds[layer * experts_ + e] * experts_ / sum);
    retell(layer);
    weigh(layer);
  }
  known_ = false;
}

void Habit::turn(int layer, const int32_t* experts, int count, bool prefill) {
  if (!prefill || !known_) {
    const float share = float(std::max(count, 1)) / float(experts_);
    set_share(prefill ? std::min(share, kLikelyShare) : share);  // of a prompt's, how many a token uses is not known yet
    known_ = true;
  }
  float* features = &features_[size_t(layer) * kFeatures * experts_];
  std::copy_n(features, before_.size(), before_.begin());
  std::copy_n(logits(layer), experts_, said_.begin());
  std::vector<float>& used = error_;
  std::fill(used.begin(), used.end(), 0.f);
  for (int i = 0; i < count; ++i) used[experts[i]] = float(experts_) / float(count);
  for (int life = 0; life < kLives; ++life)
    decay(&rate_[(size_t(layer) * kLives + life) * experts_], used.data(), experts_, keep(life));
  retell(layer);
  float* ranks = features + 2 * kLives * experts_;
  std::fill_n(ranks, kRanks * experts_, 0.f);
  for (int i = 0; i < count && !prefill; ++i) ranks[std::min(i, kRanks - 1) * experts_ + experts[i]] = 1;
  weigh(layer);
}

void Habit::set_share(float share) {
  share_ = share;
  base_ = std::log(share_ / std::max(1 - share_, 0.01f));
}

void Habit::retell(int layer) {
  float* features = &features_[size_t(layer) * kFeatures * experts_];
  for (int life = 0; life < kLives; ++life)
    describe(features + life * experts_, features + (kLives + life) * experts_, &rate_[(size_t(layer) * kLives + life) * experts_], experts_,
             keep(life), share_);
}

void Habit::learn(int layer, const float* target) {
  miss(error_.data(), said_.data(), target, experts_);
  for (int f = 0; f < kFeatures; ++f) {
    float gradient = 0;
    const float* feature = &before_[size_t(f) * experts_];
    for (int e = 0; e < experts_; ++e) gradient += error_[e] * feature[e];
    gradient /= float(experts_);
    slope_[f] += gradient * gradient;
    weight_[f] -= kPace * gradient / std::sqrt(slope_[f]);
  }
  add(&bias_[size_t(layer) * experts_], error_.data(), experts_, -kBiasPace);
  weigh(layer);
}

void Habit::weigh(int layer) {
  float* logits = &logits_[size_t(layer) * experts_];
  const float* bias = &bias_[size_t(layer) * experts_];
  for (int e = 0; e < experts_; ++e) logits[e] = base_ + bias[e];
  for (int f = 0; f < kFeatures; ++f) add(logits, &features_[(size_t(layer) * kFeatures + f) * experts_], experts_, weight_[f]);
}

void Habit::learned(std::vector<Learned>& out) {
  out.push_back({"habit.rate", rate_.data(), rate_.size() * sizeof(float)});
  out.push_back({"habit.weight", weight_.data(), weight_.size() * sizeof(float)});
  out.push_back({"habit.slope", slope_.data(), slope_.size() * sizeof(float)});
  out.push_back({"habit.bias", bias_.data(), bias_.size() * sizeof(float)});
}

}  // namespace edgemoe
