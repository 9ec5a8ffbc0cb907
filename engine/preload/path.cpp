#include "preload/path.h"

#include <algorithm>

namespace edgemoe {

void Path::add(int level, int layer, const int32_t* key, int length, float seen, const int32_t* experts, const float* counts, int count) {
  Entry& entry = entries_[hash(level, layer, key, length)];
  entry.seen = seen;
  for (int i = 0; i < count; ++i) entry.counts.emplace_back(experts[i], counts[i]);
}

void Path::routed(int layer, const int32_t* experts, int count, bool prefill) {
  known_[size_t(layer)] = !prefill && count == top_k_;
  if (!known_[size_t(layer)]) return;
  int32_t* chosen = chosen_.data() + size_t(layer) * top_k_;
  std::copy(experts, experts + count, chosen);
  std::sort(chosen, chosen + count);
}

bool Path::predict(int layer, int ahead, float* odds) {
  if (ahead > 1) return false;  // the dictionary knows only what comes next
  std::fill(odds, odds + shape_.experts, 0.0f);
  lean(find(3, layer, nullptr, 0), odds);
  const int32_t *one = before(layer, 1), *two = before(layer, 2);
  if (one == nullptr) return true;
  std::vector<float> mean(size_t(shape_.experts), 0.0f);
  for (int i = 0; i < top_k_; ++i) {
    std::copy(odds, odds + shape_.experts, odds_.begin());
    lean(find(2, layer, one + i, 1), odds_.data());
    for (int e = 0; e < shape_.experts; ++e) mean[size_t(e)] += odds_[size_t(e)] / float(top_k_);
  }
  std::copy(mean.begin(), mean.end(), odds);
  lean(find(1, layer, one, top_k_), odds);
  if (two == nullptr) return true;
  key_.assign(two, two + top_k_);
  key_.insert(key_.end(), one, one + top_k_);
  lean(find(0, layer, key_.data(), 2 * top_k_), odds);
  return true;
}

// From what is thought so far to what the counts of a key say, the more the oftener it was seen.
void Path::lean(const Entry* entry, float* odds) const {
  if (entry == nullptr) return;
  const float keep = kTrust / (entry->seen + kTrust);
  for (int e = 0; e < shape_.experts; ++e) odds[e] *= keep;
  for (const auto& [expert, count] : entry->counts) odds[expert] += count / (entry->seen + kTrust);
}

// What the layer that many steps before chose, in this token or the one before; null where that is not known.
const int32_t* Path::before(int layer, int steps) const {
  const int l = (layer - steps + 2 * shape_.layers) % shape_.layers;
  return known_[size_t(l)] ? chosen_.data() + size_t(l) * top_k_ : nullptr;
}

const Path::Entry* Path::find(int level, int layer, const int32_t* key, int length) const {
  const auto found = entries_.find(hash(level, layer, key, length));
  return found == entries_.end() ? nullptr : &found->second;
}

// FNV-1a over level, layer and experts; two keys of 64 bits that meet are not worth a thought.
uint64_t Path::hash(int level, int layer, const int32_t* key, int length) {
  uint64_t h = 14695981039346656037ull;
  const auto add = [&h](uint32_t value) { h = (h ^ value) * 1099511628211ull; };
  add(uint32_t(level));
  add(uint32_t(layer));
  for (int i = 0; i < length; ++i) add(uint32_t(key[i]) + 1);
  return h ^ (h >> 29);
}

}  // namespace edgemoe
