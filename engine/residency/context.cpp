#include "residency/context.h"

#include <algorithm>
#include <cmath>

#include "residency/vector.h"

namespace edgemoe {

namespace {

constexpr int kTop = 8;          // choices of a layer that are listened to, at most
constexpr float kRank = 0.85f;   // what a choice says against the one before it in the router's order
constexpr float kFade = 0.95f;   // of evidence, when newer comes
constexpr float kKept = 0.3f;    // of evidence, after the turn it was about
constexpr float kPace = 0.02f, kRare = 300.f;  // of learning, and after how many choices it is down to 0.7 of that

// sum = fade * sum + the weighted rows
EDGEMOE_WIDEST void add_rows(float* sum, float fade, float* const* rows, const float* weights, int count, int n) {
  for (int e = 0; e < n; ++e) sum[e] *= fade;
  for (int i = 0; i < count; ++i) {
    const float* row = rows[i];
    const float weight = weights[i];
    for (int e = 0; e < n; ++e) sum[e] += weight * row[e];
  }
}

EDGEMOE_WIDEST void push_rows(float* const* rows, const float* weights, int count, const float* push, float pace, int n) {
  for (int i = 0; i < count; ++i) {
    float* row = rows[i];
    const float weight = weights[i] * pace;
    for (int e = 0; e < n; ++e) row[e] -= weight * push[e];
  }
}

EDGEMOE_WIDEST void accumulate(float* push, const float* error, float weight, int n) {
  for (int e = 0; e < n; ++e) push[e] = kFade * push[e] + weight * error[e];
}

}  // namespace

Context::Context(Shape shape, int64_t most) : layers_(shape.layers), experts_(shape.experts) {
  const size_t square = size_t(experts_) * experts_;
  for (;; ++stride_) {
    listened_ = earlier(layers_);
    size_t rows = 0;
    first_.clear();
    for (int layer = 0; layer < layers_; ++layer) {
      first_.push_back(rows);
      rows += square * size_t(listened_ + earlier(layer));
    }
    if (int64_t(rows * sizeof(float)) <= most || listened_ == 1) {
      rows_.resize(rows);
      break;
    }
  }
  seen_.resize(size_t(listened_) * experts_);
  known_.resize(size_t(layers_) * stages() * experts_);
  fresh_.resize(size_t(experts_));
  push_.resize(size_t(experts_));
  stage_.resize(size_t(layers_));
  chosen_.resize(size_t(listened_) * kTop);
  before_.resize(chosen_.size());
  now_.resize(kTop);
  forget();
}

void Context::forget() {
  std::fill(chosen_.begin(), chosen_.end(), -1);
  std::fill(before_.begin(), before_.end(), -1);
  std::fill(known_.begin(), known_.end(), 0.f);
  std::fill(stage_.begin(), stage_.end(), 0);
}

// The rows by which these choices of the layer listened to at `place` speak about `layer`, and their weights.
void Context::collect(int layer, int place, bool same_token, const int32_t* experts, bool learning) {
  row_.clear();
  weight_.clear();
  const size_t square = size_t(experts_) * experts_;
  float* first = rows_.data() + first_[layer] + square * size_t(place + (same_token ? listened_ : 0));
  float weight = 1;
  for (int i = 0; i < kTop && experts[i] >= 0; ++i, weight *= kRank) {
    row_.push_back(first + size_t(experts[i]) * experts_);
    weight_.push_back(learning ? weight * std::sqrt(kRare / (kRare + seen_[size_t(place) * experts_ + experts[i]])) : weight);
  }
}

const float* Context::hear(int layer, const int32_t* experts, int count) {
  std::fill(now_.begin(), now_.end(), -1);
  std::copy_n(experts, std::min(count, kTop), now_.begin());
  const float* old = evidence(layer);
  for (int e = 0; e < experts_; ++e) fresh_[e] = kKept * old[e];
  for (int place = 0; place * stride_ <= layer; ++place) {
    collect(layer, place, false, place * stride_ < layer ? &chosen_[size_t(place) * kTop] : now_.data(), false);
    add_rows(fresh_.data(), kFade, row_.data(), weight_.data(), int(row_.size()), experts_);
  }
  return fresh_.data();
}

void Context::learn(int layer, const float* error) {
  std::fill(push_.begin(), push_.end(), 0.f);
  const int next = layer / stride_ + 1;  // the place that was listened to first after the layer's last turn
  const float share = 1 - 0.8f * kFade;
  for (int stage = stage_[layer]; stage > 0; --stage) {
    accumulate(push_.data(), error + size_t(stage) * experts_, share, experts_);
    const int place = (next + stage - 1) % listened_;
    collect(layer, place, place * stride_ < layer, &chosen_[size_t(place) * kTop], true);
    push_rows(row_.data(), weight_.data(), int(row_.size()), push_.data(), kPace, experts_);
  }
  accumulate(push_.data(), error, share, experts_);
  float pace = kPace;
  for (int place = layer / stride_; place >= 0; --place, pace *= kFade) {
    collect(layer, place, false, &(place * stride_ < layer ? before_ : chosen_)[size_t(place) * kTop], true);
    push_rows(row_.data(), weight_.data(), int(row_.size()), push_.data(), pace, experts_);
  }
}

void Context::pass_on(int layer) {
  if (layer == 0) before_ = chosen_;
  std::copy(fresh_.begin(), fresh_.end(), known_.begin() + int64_t(size_t(layer) * stages() * experts_));
  stage_[layer] = 0;
  if (!listens(layer)) return;
  const int place = layer / stride_;
  for (int i = 0; i < kTop && now_[i] >= 0; ++i) seen_[size_t(place) * experts_ + now_[i]] += 1;
  std::copy(now_.begin(), now_.end(), chosen_.begin() + int64_t(place) * kTop);
  for (int other = 0; other < layers_; ++other) {
    if (other == layer) continue;
    const int stage = std::min(stage_[other] + 1, listened_);
    float* sum = &known_[(size_t(other) * stages() + stage) * experts_];
    std::copy_n(evidence(other), experts_, sum);
    collect(other, place, layer < other, now_.data(), false);
    add_rows(sum, kFade, row_.data(), weight_.data(), int(row_.size()), experts_);
    stage_[other] = stage;
  }
}

void Context::learned(std::vector<Learned>& out) {
  out.push_back({"context.rows", rows_.data(), rows_.size()});
  out.push_back({"context.seen", seen_.data(), seen_.size()});
}

}  // namespace edgemoe
