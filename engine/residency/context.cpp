#include "residency/context.h"

#include <algorithm>
#include <cmath>

#include "residency/vector.h"

namespace edgemoe {

namespace {

constexpr float kRank = 0.85f;   // what a choice says against the one before it in the router's order
constexpr float kFade = 0.95f;   // of evidence, when newer comes
constexpr float kKept = 0.3f;    // of evidence, after the turn it was about
constexpr float kPace = 0.02f, kRare = 300.f;  // of learning, and after how many choices it is down to 0.7 of that
constexpr float kUnit = 1 / 4096.f;            // of weights: they reach from -8 to 8
constexpr int kMostShared = 4096;
constexpr int kMostEvidence = 768;  // J * E: what a turn of a layer costs grows with it

// sum = fade * sum + the weighted rows
EDGEMOE_WIDEST void add_rows(float* sum, float fade, const int16_t* const* rows, const float* weights, int count, int n) {
  for (int e = 0; e < n; ++e) sum[e] *= fade;
  for (int i = 0; i < count; ++i) {
    const int16_t* row = rows[i];
    const float weight = weights[i] * kUnit;
    for (int e = 0; e < n; ++e) sum[e] += weight * float(row[e]);
  }
}

// Rounds up or down as a throw of dice tells, the same for a whole row, so that no step is too small to count.
EDGEMOE_WIDEST void push_row(int16_t* row, const float* push, float weight, float dither, int n) {
  for (int e = 0; e < n; ++e) {
    float value = float(row[e]) - weight * push[e] + dither;
    value = value > 32766.f ? 32766.f : value < -32766.f ? -32766.f : value;
    row[e] = int16_t(int32_t(value + 32768.f) - 32768);  // rounds down
  }
}

EDGEMOE_WIDEST void accumulate(float* push, const float* error, float weight, int n) {
  for (int e = 0; e < n; ++e) push[e] = kFade * push[e] + weight * error[e];
}

int hashed(uint64_t key, int rows) {
  key *= 0x9E3779B97F4A7C15u;
  key ^= key >> 29;
  key *= 0xBF58476D1CE4E5B9u;
  return int((key >> 33) % uint64_t(rows));
}

}  // namespace

Context::Context(Shape shape, int64_t most) : layers_(shape.layers), experts_(shape.experts) {
  const size_t square = size_t(experts_) * experts_, n = size_t(shape.count());
  shared_ = int(std::min<int64_t>(kMostShared, most / 3 / int64_t(2 * n * sizeof(Weight))));
  for (;; ++stride_) {
    listened_ = earlier(layers_);
    size_t rows = 0;
    first_.clear();
    for (int layer = 0; layer < layers_; ++layer) {
      first_.push_back(rows);
      rows += square * size_t(listened_ + earlier(layer));
    }
    const bool quick = listened_ * experts_ <= kMostEvidence;
    if ((quick && int64_t((rows + shared_ * 2 * n) * sizeof(Weight)) <= most) || listened_ == 1) {
      rows_.resize(rows);
      break;
    }
  }
  shared_rows_.resize(size_t(shared_) * 2 * n);
  seen_.resize(size_t(listened_) * experts_);
  seen_together_.resize(size_t(shared_));
  known_.resize(size_t(layers_) * stages() * experts_);
  fresh_.resize(size_t(experts_));
  push_.resize(size_t(experts_));
  stage_.resize(size_t(layers_));
  chosen_.resize(size_t(listened_));
  forget();
}

void Context::forget() {
  now_.experts.fill(-1);
  now_.keys.fill(-1);
  std::fill(chosen_.begin(), chosen_.end(), now_);
  before_ = chosen_;
  std::fill(known_.begin(), known_.end(), 0.f);
  std::fill(stage_.begin(), stage_.end(), 0);
}

Context::Choice Context::choice(int layer, const int32_t* experts, int count) const {
  Choice made;
  made.experts.fill(-1);
  made.keys.fill(-1);
  std::copy_n(experts, std::min(count, kTop), made.experts.begin());
  if (!listens(layer) || shared_ == 0 || count == 0) return made;
  std::array<int32_t, 3> best{-1, -1, -1};
  std::copy_n(experts, std::min(count, 3), best.begin());
  std::sort(best.begin(), best.end());
  uint64_t together = uint64_t(layer) * 2;
  for (int32_t e : best) together = together * uint64_t(experts_ + 1) + uint64_t(e + 1);
  const uint64_t last = uint64_t(chosen_[layer / stride_].experts[0] + 1);
  made.keys = {hashed(together, shared_), hashed((uint64_t(layer) * 2 + 1) * 1000003 + uint64_t(experts[0] + 1) * 4099 + last, shared_)};
  return made;
}

// The rows by which this choice of the layer listened to at `place` speaks about `layer`, and their weights.
void Context::collect(int layer, int place, bool same_token, const Choice& choice, bool learning) {
  const auto take = [&](Weight* row, float weight, float seen) {
    found_.push_back(row);
    weight_.push_back(learning ? weight * std::sqrt(kRare / (kRare + seen)) : weight);
  };
  found_.clear();
  weight_.clear();
  const size_t square = size_t(experts_) * experts_;
  Weight* first = rows_.data() + first_[layer] + square * size_t(place + (same_token ? listened_ : 0));
  float weight = 1;
  for (int i = 0; i < kTop && choice.experts[i] >= 0; ++i, weight *= kRank)
    take(first + size_t(choice.experts[i]) * experts_, weight, seen_[size_t(place) * experts_ + choice.experts[i]]);
  for (int32_t key : choice.keys)
    if (key >= 0) take(&shared_rows_[((size_t(key) * 2 + same_token) * layers_ + layer) * experts_], 1, seen_together_[key]);
}

const float* Context::hear(int layer, const int32_t* experts, int count) {
  now_ = choice(layer, experts, count);
  const float* old = evidence(layer);
  for (int e = 0; e < experts_; ++e) fresh_[e] = kKept * old[e];
  for (int place = 0; place * stride_ <= layer; ++place) {
    collect(layer, place, false, place * stride_ < layer ? chosen_[place] : now_, false);
    add_rows(fresh_.data(), kFade, found_.data(), weight_.data(), int(found_.size()), experts_);
  }
  return fresh_.data();
}

void Context::learn(int layer, const float* error) {
  const auto push = [this](float pace) {
    for (size_t i = 0; i < found_.size(); ++i) {
      dither_ = dither_ * 1664525u + 1013904223u;
      push_row(found_[i], push_.data(), weight_[i] * pace / kUnit, float(dither_ >> 8) * 0x1p-24f, experts_);
    }
  };
  std::fill(push_.begin(), push_.end(), 0.f);
  const int next = layer / stride_ + 1;  // the place that was listened to first after the layer's last turn
  const float share = 1 - 0.8f * kFade;
  for (int stage = stage_[layer]; stage > 0; --stage) {
    accumulate(push_.data(), error + size_t(stage) * experts_, share, experts_);
    const int place = (next + stage - 1) % listened_;
    collect(layer, place, place * stride_ < layer, chosen_[place], true);
    push(kPace);
  }
  accumulate(push_.data(), error, share, experts_);
  float pace = kPace;
  for (int place = layer / stride_; place >= 0; --place, pace *= kFade) {
    collect(layer, place, false, (place * stride_ < layer ? before_ : chosen_)[place], true);
    push(pace);
  }
}

void Context::pass_on(int layer) {
  if (layer == 0) before_ = chosen_;
  std::copy(fresh_.begin(), fresh_.end(), known_.begin() + int64_t(size_t(layer) * stages() * experts_));
  stage_[layer] = 0;
  if (!listens(layer)) return;
  const int place = layer / stride_;
  for (int32_t e : now_.experts)
    if (e >= 0) seen_[size_t(place) * experts_ + e] += 1;
  for (int32_t key : now_.keys)
    if (key >= 0) seen_together_[key] += 1;
  chosen_[place] = now_;
  for (int other = 0; other < layers_; ++other) {
    if (other == layer) continue;
    const int stage = std::min(stage_[other] + 1, listened_);
    float* sum = &known_[(size_t(other) * stages() + stage) * experts_];
    if (stage != stage_[other]) std::copy_n(evidence(other), experts_, sum);
    collect(other, place, layer < other, now_, false);
    add_rows(sum, kFade, found_.data(), weight_.data(), int(found_.size()), experts_);
    stage_[other] = stage;
  }
}

void Context::learned(std::vector<Learned>& out) {
  out.push_back({"context.rows", rows_.data(), rows_.size() * sizeof(Weight)});
  out.push_back({"context.shared_rows", shared_rows_.data(), shared_rows_.size() * sizeof(Weight)});
  out.push_back({"context.seen", seen_.data(), seen_.size() * sizeof(float)});
  out.push_back({"context.seen_together", seen_together_.data(), seen_together_.size() * sizeof(float)});
}

}  // namespace edgemoe
