// From a router's logits to the experts of one token and their weights.
//
// E experts, k of them a token.
#pragma once
#include <cmath>
#include <cstdint>
#include <vector>

namespace edgemoe {

enum Scoring : int32_t { SOFTMAX = 0, SIGMOID = 1 };

// Mirrored by engine/kernels/library.py; engine/models/lean.py says what each means.
struct Routing {
  int32_t experts, top_k, scoring, normalize, groups, top_groups;
  float epsilon, floor, scale;
  const float* correction;  // [E], or null
};

// The `count` largest of `scores`, largest first, the lower index first among equals; taken ones are set to -infinity.
inline void take_largest(float* scores, int n, int count, int32_t* out) {
  for (int rank = 0; rank < count; ++rank) {
    int best = 0;
    for (int i = 1; i < n; ++i)
      if (scores[i] > scores[best]) best = i;
    out[rank] = best;
    scores[best] = -INFINITY;
  }
}

inline void softmax(float* x, int n) {
  float largest = -INFINITY, total = 0.0f;
  for (int i = 0; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
  for (int i = 0; i < n; ++i) total += x[i] = std::exp(x[i] - largest);
  for (int i = 0; i < n; ++i) x[i] /= total;
}

// Leaves only the best groups to choose from: a group counts as much as its two best experts together.
inline void keep_best_groups(const Routing& r, std::vector<float>& choice) {
  const int size = r.experts / r.groups;
  std::vector<float> worth(r.groups), members(size);
  std::vector<int32_t> best(r.top_groups), two(2);
  for (int g = 0; g < r.groups; ++g) {
    members.assign(choice.begin() + g * size, choice.begin() + (g + 1) * size);
    std::vector<float> left = members;
    take_largest(left.data(), size, size < 2 ? size : 2, two.data());
    worth[g] = members[two[0]] + (size < 2 ? 0.0f : members[two[1]]);
  }
  take_largest(worth.data(), r.groups, r.top_groups, best.data());
  std::vector<bool> kept(r.groups, false);
  for (int32_t g : best) kept[g] = true;
  for (int e = 0; e < r.experts; ++e)
    if (!kept[e / size]) choice[e] = 0.0f;
}

// From logits to what the experts are chosen by, where a correction plays a part: in place.
inline void correct(const Routing& r, float* logits) {
  if (r.scoring == SOFTMAX) softmax(logits, r.experts);
  for (int e = 0; e < r.experts; ++e) logits[e] = (r.scoring == SIGMOID ? 1.0f / (1.0f + std::exp(-logits[e])) : logits[e]) + r.correction[e];
}

// `logits` [E] are used up; `chosen` and `weights` [k].
inline void route(const Routing& r, float* logits, int32_t* chosen, float* weights, std::vector<float>& choice) {
  if (r.scoring == SOFTMAX) softmax(logits, r.experts);
  if (r.scoring == SIGMOID)
    for (int e = 0; e < r.experts; ++e) logits[e] = 1.0f / (1.0f + std::exp(-logits[e]));
  choice.assign(logits, logits + r.experts);
  if (r.correction != nullptr)
    for (int e = 0; e < r.experts; ++e) choice[e] += r.correction[e];
  if (r.groups > 1) keep_best_groups(r, choice);
  take_largest(choice.data(), r.experts, r.top_k, chosen);
  float total = r.epsilon;
  for (int i = 0; i < r.top_k; ++i) total += weights[i] = logits[chosen[i]];
  total = total < r.floor ? r.floor : total;
  for (int i = 0; i < r.top_k; ++i) weights[i] = (r.normalize ? weights[i] / total : weights[i]) * r.scale;
}

}  // namespace edgemoe
