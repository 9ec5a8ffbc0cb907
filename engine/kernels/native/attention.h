// Attention of one token over a static cache of keys and values.
//
// h query heads, n key/value heads, e dimensions a head, L places in the cache.
#pragma once
#include <cmath>

#include "model.h"

namespace edgemoe {

// Cosine and sine of a position's angles, made once a token for each rotary embedding of the model.
class Rotation {
 public:
  void turn(const AttentionSpec& a, int position) {
    if (a.inv_freq == made_for_ && position == position_) return;
    const int pairs = a.rotated / 2;
    cosine_.resize(pairs);
    sine_.resize(pairs);
    for (int i = 0; i < pairs; ++i) {
      const float angle = float(position) * a.inv_freq[i];
      cosine_[i] = std::cos(angle) * a.rotary_scale;
      sine_[i] = std::sin(angle) * a.rotary_scale;
    }
    made_for_ = a.inv_freq;
    position_ = position;
  }

  void apply(const AttentionSpec& a, float* head) const {
    const int pairs = a.rotated / 2, step = a.interleaved ? 2 : 1, apart = a.interleaved ? 1 : pairs;
    for (int i = 0; i < pairs; ++i) {
      float& x = head[i * step];
      float& y = head[i * step + apart];
      const float was = x;
      x = was * cosine_[i] - y * sine_[i];
      y = y * cosine_[i] + was * sine_[i];
    }
  }

 private:
  std::vector<float> cosine_, sine_;
  const float* made_for_ = nullptr;
  int position_ = -1;
};

// Keys and values of one layer: [n, L, e] each.
struct Cache {
  float* keys;
  float* values;
  int64_t places;
};

class AttentionWork {
 public:
  // out[h * e] for the token at `position`, whose normed hidden state is `x`; its key and value enter the cache.
  const float* run(const Means& c, const AttentionSpec& a, float eps, Prepared& x, const Cache& cache, int position) {
    const int e = a.head_dim;
    q_.resize(size_t(a.heads) * e);
    k_.resize(size_t(a.kv_heads) * e);
    v_.resize(size_t(a.kv_heads) * e);
    out_.resize(size_t(a.heads) * e);
    const Product products[3] = {product(c, a.q, x, q_), product(c, a.k, x, k_), product(c, a.v, x, v_)};
    multiply(c, products, 3);
    if (a.inv_freq != nullptr) rotation_.turn(a, position);
    finish(c, a, eps, q_, a.heads, a.q_norm, a.q_norm_size);
    finish(c, a, eps, k_, a.kv_heads, a.k_norm, a.k_norm_size);
    clip(v_, a.clip);
    store(a, cache, position);
    attend(c, a, cache, position);
    return out_.data();
  }

 private:
  static Product product(const Means& c, const Matrix& w, Prepared& x, std::vector<float>& y) {
    return {&w, &x.for_kind(*c.products, w.kind), y.data(), w.rows};
  }

  static void clip(std::vector<float>& x, float limit) {
    if (limit <= 0.0f) return;
    for (float& v : x) v = v > limit ? limit : v < -limit ? -limit : v;
  }

  void finish(const Means& c, const AttentionSpec& a, float eps, std::vector<float>& x, int heads, const float* norm, int size) {
    auto normed = [&] {
      for (int at = 0; norm != nullptr && at < int(x.size()); at += size) c.products->rms_norm(x.data() + at, norm, eps, x.data() + at, size);
    };
    if (!a.norm_after_rotary) normed();
    clip(x, a.clip);
    for (int i = 0; a.inv_freq != nullptr && i < heads; ++i) rotation_.apply(a, x.data() + size_t(i) * a.head_dim);
    if (a.norm_after_rotary) normed();
  }

  void store(const AttentionSpec& a, const Cache& cache, int position) const {
    for (int i = 0; i < a.kv_heads; ++i) {
      const int64_t at = (i * cache.places + position) * a.head_dim;
      std::memcpy(cache.keys + at, k_.data() + size_t(i) * a.head_dim, a.head_dim * sizeof(float));
      std::memcpy(cache.values + at, v_.data() + size_t(i) * a.head_dim, a.head_dim * sizeof(float));
    }
  }

  void attend(const Means& c, const AttentionSpec& a, const Cache& cache, int position) {
    const int first = a.window > 0 && position >= a.window ? position - a.window + 1 : 0, length = position - first + 1;
    scores_.resize(size_t(a.heads) * length);
    // A few positions are sooner read by one thread than handed out.
    const int chunk = int64_t(length) * a.head_dim * a.heads < (1 << 15) ? a.heads : 1;
    c.pool->run(a.heads, chunk, [&](int begin, int end) {
      for (int i = begin; i < end; ++i) {
        const int64_t at = (i / (a.heads / a.kv_heads) * cache.places + first) * a.head_dim;
        c.products->attend(q_.data() + size_t(i) * a.head_dim, cache.keys + at, cache.values + at, length, a.head_dim, a.scale,
                           scores_.data() + size_t(i) * length, out_.data() + size_t(i) * a.head_dim);
      }
    });
  }

  Rotation rotation_;
  std::vector<float> q_, k_, v_, out_, scores_;
};

}  // namespace edgemoe
