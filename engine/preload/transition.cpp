#include "preload/transition.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <mutex>
#include <numeric>
#include <system_error>
#include <thread>

namespace edgemoe {

namespace {

constexpr float kHalfLives[Transition::kDecays] = {1.5f, 5.0f, 20.0f, 100.0f};
constexpr float kHidden = 0.2f;  // of the facts are left out in training, lest it lean on single ones
constexpr float kLeak = 0.01f;   // slope of the hidden units below zero
constexpr int64_t kMost = 48 << 20;  // bytes of weights, about

float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

}  // namespace

Transition::Transition(Shape shape, int top_k, uint32_t seed) : shape_(shape), top_k_(top_k), vectors_(vectors()) {
  const int s = shape.layers, e = shape.experts;
  const auto bytes = [&](int rows, int hidden) { return int64_t(s) * rows * e * hidden * 4; };
  hidden_ = bytes(2 * s, 256) <= kMost && s * e > 256 ? 256 : 128;
  before_ = after_ = s;
  while (before_ > 2 && bytes(before_ + after_, hidden_) > kMost) {
    --before_;
    after_ = std::max(3, before_ - 1);
  }
  std::mt19937 dice(seed);
  std::uniform_real_distribution<float> draw(-1, 1);
  layers_.resize(size_t(s));
  for (int l = 0; l < s; ++l) {
    Layer& layer = layers_[size_t(l)];
    const int rows = (l - first_before(l) + end_after(l) - first_after(l)) * e + kFar;
    layer.rows.resize(size_t(rows) * hidden_);
    for (float& w : layer.rows) w = 0.05f * draw(dice);
    layer.bias.assign(size_t(hidden_), 0.0f);
    layer.outputs.resize(size_t(e) * hidden_);
    for (float& w : layer.outputs) w = draw(dice) / std::sqrt(float(hidden_));
    layer.base.assign(size_t(e), std::log(float(top_k) / float(std::max(1, e - top_k))));
    layer.decays.assign(2 * kDecays, 0.0f);
  }
  token_.resize(size_t(s) * top_k);
  last_.resize(size_t(s) * top_k);
  known_.resize(size_t(s));
  last_known_.resize(size_t(s));
  nothing_.resize(size_t(s));
  uses_.resize(size_t(s) * kDecays * e);
}

void Transition::begin_request() {
  std::fill(known_.begin(), known_.end(), uint8_t(0));
  std::fill(last_known_.begin(), last_known_.end(), uint8_t(0));
  std::fill(uses_.begin(), uses_.end(), 0.0f);
}

void Transition::routed(int layer, const int32_t* experts, int count, bool prefill) {
  if (prefill || count > top_k_) return;
  if (layer == 0) {
    token_.swap(last_);
    known_.swap(last_known_);
    std::fill(known_.begin(), known_.end(), uint8_t(0));
  }
  int16_t* chosen = token_.data() + size_t(layer) * top_k_;
  float* uses = uses_.data() + size_t(layer) * kDecays * shape_.experts;
  std::copy(experts, experts + count, chosen);
  std::fill(chosen + count, chosen + top_k_, int16_t(-1));  // a router may choose fewer
  if (learning_) {
    gather(work_, layer, 1, token_.data(), known_.data(), last_.data(), last_known_.data());
    run(work_, layer, uses);
    learn(work_, layer, uses, chosen);
  }
  known_[size_t(layer)] = 1;
  age(uses, chosen);
}

bool Transition::predict(int layer, int ahead, float* odds) {
  // Where the layer comes only in the next token, this one is the token before.
  const bool next = known_[size_t(layer)] != 0;
  if (next)
    gather(work_, layer, ahead, nullptr, nothing_.data(), token_.data(), known_.data());
  else
    gather(work_, layer, ahead, token_.data(), known_.data(), last_.data(), last_known_.data());
  run(work_, layer, uses_.data() + size_t(layer) * kDecays * shape_.experts);
  for (int i = 0; i < shape_.experts; ++i) odds[i] = sigmoid(work_.logits[size_t(i)]);
  return true;
}

// The rows of what is known: of this token, less the layers nearer than `distance`, and of the one before.
void Transition::gather(Work& work, int layer, int distance, const int16_t* token, const uint8_t* known, const int16_t* last,
                        const uint8_t* last_known) const {
  const int e = shape_.experts, first = first_before(layer), after = first_after(layer);
  work.facts.clear();
  for (int l = first; l < layer - (distance - 1); ++l)
    if (known[l] != 0)
      for (int i = 0; i < top_k_; ++i)
        if (token[l * top_k_ + i] >= 0) work.facts.push_back((l - first) * e + token[l * top_k_ + i]);
  const int base = (layer - first) * e;
  for (int l = after; l < end_after(layer); ++l)
    if (last_known[l] != 0)
      for (int i = 0; i < top_k_; ++i)
        if (last[l * top_k_ + i] >= 0) work.facts.push_back(base + (l - after) * e + last[l * top_k_ + i]);
  work.facts.push_back(base + (end_after(layer) - after) * e + std::min(distance, int(kFar)) - 1);
}

void Transition::run(Work& work, int l, const float* uses) const {
  const Layer& layer = layers_[size_t(l)];
  const int e = shape_.experts;
  work.hidden = layer.bias;
  for (int fact : work.facts) vectors_.add(work.hidden.data(), layer.rows.data() + size_t(fact) * hidden_, 1.0f, hidden_);
  for (float& h : work.hidden) h = h > 0 ? h : kLeak * h;
  work.logits = layer.base;
  for (int i = 0; i < e; ++i) work.logits[size_t(i)] += vectors_.dot(layer.outputs.data() + size_t(i) * hidden_, work.hidden.data(), hidden_);
  for (int d = 0; d < kDecays; ++d)
    for (int i = 0; i < e; ++i) {
      const float use = uses[d * e + i];
      work.logits[size_t(i)] += layer.decays[size_t(2 * d)] * use + layer.decays[size_t(2 * d + 1)] * std::sqrt(use);
    }
}

// One step of Adagrad on the cross-entropy of every expert's being chosen; `work` holds what `run` made of the facts.
void Transition::learn(Work& work, int l, const float* uses, const int16_t* chosen) {
  Layer& layer = layers_[size_t(l)];
  const int e = shape_.experts;
  if (layer.rows_seen.empty()) {
    layer.rows_seen.assign(layer.rows.size() / size_t(hidden_), 1e-2f);
    layer.bias_seen.assign(layer.bias.size(), 1e-2f);
    layer.outputs_seen.assign(layer.outputs.size(), 1e-3f);
    layer.base_seen.assign(layer.base.size(), 1e-2f);
    layer.decays_seen.assign(layer.decays.size(), 1e-1f);
  }
  work.back.assign(size_t(hidden_), 0.0f);
  float decays[2 * kDecays] = {};
  for (int i = 0; i < e; ++i) {
    const bool is = std::find(chosen, chosen + top_k_, int16_t(i)) != chosen + top_k_;
    const float g = sigmoid(work.logits[size_t(i)]) - (is ? 1.0f : 0.0f);
    float* out = layer.outputs.data() + size_t(i) * hidden_;
    vectors_.add(work.back.data(), out, g, hidden_);
    vectors_.learn(out, layer.outputs_seen.data() + size_t(i) * hidden_, work.hidden.data(), g, output_rate_, hidden_);
    const float one = 1.0f;
    vectors_.learn(&layer.base[size_t(i)], &layer.base_seen[size_t(i)], &one, g, output_rate_, 1);
    for (int d = 0; d < kDecays; ++d) {
      decays[2 * d] += g * uses[d * e + i];
      decays[2 * d + 1] += g * std::sqrt(uses[d * e + i]);
    }
  }
  vectors_.learn(layer.decays.data(), layer.decays_seen.data(), decays, 1.0f, output_rate_, 2 * kDecays);
  for (int i = 0; i < hidden_; ++i) work.back[size_t(i)] *= work.hidden[size_t(i)] > 0 ? 1.0f : kLeak;
  const float norm = vectors_.dot(work.back.data(), work.back.data(), hidden_) / float(hidden_);
  for (int fact : work.facts) {
    float& seen = layer.rows_seen[size_t(fact)];
    seen += norm;
    vectors_.add(layer.rows.data() + size_t(fact) * hidden_, work.back.data(), -rate_ / std::sqrt(seen), hidden_);
  }
  vectors_.learn(layer.bias.data(), layer.bias_seen.data(), work.back.data(), 1.0f, output_rate_, hidden_);
}

void Transition::age(float* uses, const int16_t* chosen) const {
  const int e = shape_.experts;
  for (int d = 0; d < kDecays; ++d) {
    const float keep = std::exp2(-1 / kHalfLives[d]);
    for (int i = 0; i < e; ++i) uses[d * e + i] *= keep;
    for (int i = 0; i < top_k_; ++i)
      if (chosen[i] >= 0) uses[d * e + chosen[i]] += 1 - keep;
  }
}

bool Transition::train(const Trace& trace, int epochs, int threads, const std::function<bool(double)>& report) {
  std::vector<int64_t> starts(size_t(trace.requests) + 1, 0);
  for (int r = 0; r < trace.requests; ++r) starts[size_t(r) + 1] = starts[size_t(r)] + trace.lengths[r];
  std::atomic<int> next{0}, done{0};
  std::atomic<bool> going{true};
  std::mutex telling;
  const auto work = [&] {
    Work own;
    for (int layer; going && (layer = next++) < shape_.layers;) {
      std::mt19937 dice{uint32_t(layer + 1)};
      for (int epoch = 0; epoch < epochs && going; ++epoch) {
        learn_requests(layer, trace, starts, dice, own);
        std::lock_guard<std::mutex> lock(telling);
        if (!report(double(++done) / double(epochs * shape_.layers))) going = false;
      }
    }
  };
  std::vector<std::thread> others;
  try {
    for (int i = 1; i < threads; ++i) others.emplace_back(work);
  } catch (const std::system_error&) {  // fewer do the same work
  }
  work();
  for (std::thread& other : others) other.join();
  return going;
}

// Mostly the next layer; all others as well, so that it learns to do with less.
int Transition::drawn_distance(float which, float how_far) const {
  if (which < 0.6f) return 1;
  if (which < 0.75f) return 2;
  if (which < 0.82f) return 3;
  if (which < 0.88f) return 4;
  return std::min(shape_.layers, kFar + int(how_far * float(std::max(0, shape_.layers - kFar))));
}

void Transition::learn_requests(int layer, const Trace& trace, const std::vector<int64_t>& starts, std::mt19937& dice, Work& work) {
  const int e = shape_.experts, row = shape_.layers * top_k_;
  std::vector<int> order(size_t(trace.requests), 0);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), dice);
  std::vector<float> uses(size_t(kDecays) * e);
  const std::vector<uint8_t> all(size_t(shape_.layers), 1);
  std::vector<uint8_t> last_known(size_t(shape_.layers), 0);
  std::uniform_real_distribution<float> draw(0, 1);
  for (int request : order) {
    std::fill(uses.begin(), uses.end(), 0.0f);
    for (int64_t t = starts[size_t(request)]; t < starts[size_t(request) + 1]; ++t) {
      const int16_t* token = trace.experts + t * row;
      const bool first = t == starts[size_t(request)];
      const int distance = drawn_distance(draw(dice), draw(dice));
      // Of the token before, too, the layers nearer than that are not known yet.
      for (int l = 0; l < shape_.layers; ++l) last_known[size_t(l)] = !first && l <= shape_.layers + layer - distance;
      gather(work, layer, distance, token, all.data(), first ? token : token - row, last_known.data());
      const size_t kept = work.facts.size() - 1;
      const int marker = work.facts.back();
      size_t left = 0;
      for (size_t i = 0; i < kept; ++i)
        if (draw(dice) >= kHidden) work.facts[left++] = work.facts[i];
      work.facts.resize(left);
      work.facts.push_back(marker);
      run(work, layer, uses.data());
      learn(work, layer, uses.data(), token + layer * top_k_);
      age(uses.data(), token + layer * top_k_);
    }
  }
}

std::vector<float>& Transition::array(int index) {
  Layer& layer = layers_[size_t(index / kArrays)];
  std::vector<float>* arrays[kArrays] = {&layer.rows, &layer.bias, &layer.outputs, &layer.base, &layer.decays};
  return *arrays[index % kArrays];
}

std::string Transition::name(int index) const {
  static const char* const names[kArrays] = {"rows", "bias", "outputs", "base", "decays"};
  return std::to_string(index / kArrays) + "." + names[index % kArrays];
}

}  // namespace edgemoe
