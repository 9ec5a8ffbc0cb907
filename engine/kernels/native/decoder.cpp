#include "decoder.h"

#include "half.h"

namespace edgemoe {

Decoder::Decoder(const ModelSpec& spec, const Means& context, Stream* stream)
    : spec_(spec), context_(context), stream_(stream), records_(stream->records()) {
  const size_t d = size_t(spec.hidden);
  x_.resize(d);
  norm_.resize(d);
  update_.resize(d);
  logits_.resize(size_t(spec.vocabulary));
}

void Decoder::set_cache(float* keys, float* values, int64_t places) {
  keys_ = keys;
  values_ = values;
  places_ = places;
}

void Decoder::begin(int32_t token, int position) {
  position_ = position;
  layer_ = 0;
  const uint8_t* row = spec_.embedding.codes + token * row_bytes(spec_.embedding);
  for (int i = 0; i < spec_.hidden; ++i) {
    const uint16_t bits = reinterpret_cast<const uint16_t*>(row)[spec_.embedding.kind == F32 ? 0 : i];
    const float value = spec_.embedding.kind == F32    ? reinterpret_cast<const float*>(row)[i]
                        : spec_.embedding.kind == BF16 ? from_bfloat(bits)
                                                       : from_half(bits);
    x_[i] = value * spec_.embedding_scale;
  }
}

int Decoder::run(int64_t patience) {
  records_.mark(ACCOUNT, -1);
  const int64_t until = records_.reached + patience;
  for (; layer_ < spec_.layer_count; ++layer_) {
    if (records_.reached > until) return AGAIN;
    const LayerSpec& layer = spec_.layers[layer_];
    attention(layer, layer_);
    context_.products->rms_norm(x_.data(), layer.mlp_norm, spec_.eps, norm_.data(), spec_.hidden);
    normed_.set(norm_.data(), 1, spec_.hidden, spec_.hidden);
    if (layer.moe >= 0) {
      route_token(layer);
      announce(layer);
      look_ahead();
      records_.mark(ACCOUNT, -1);
      if (!experts(layer)) return FAILED;
      combine();
    }
    if (layer.gate.codes != nullptr) mlp(layer);
    context_.products->add_scaled(x_.data(), update_.data(), spec_.residual_scale, spec_.hidden);
  }
  head();
  return DONE;
}

void Decoder::attention(const LayerSpec& layer, int place) {
  const AttentionSpec& a = layer.attention;
  const int64_t size = int64_t(a.kv_heads) * places_ * a.head_dim;
  context_.products->rms_norm(x_.data(), layer.attention_norm, spec_.eps, norm_.data(), spec_.hidden);
  normed_.set(norm_.data(), 1, spec_.hidden, spec_.hidden);
  const float* out = attention_.run(context_, a, spec_.eps, normed_, {keys_ + place * size, values_ + place * size, places_}, position_);
  mixed_.set(out, 1, a.heads * a.head_dim, a.heads * a.head_dim);
  linear(context_, a.o, mixed_, update_.data(), spec_.hidden);
  context_.products->add_scaled(x_.data(), update_.data(), spec_.residual_scale, spec_.hidden);
  records_.mark(ATTENTION, label(layer));
}

void Decoder::route_token(const LayerSpec& layer) {
  const int k = layer.routing.top_k;
  router_logits_.resize(layer.router.rows);
  chosen_.resize(k);
  weights_.resize(k);
  outputs_.resize(size_t(k) * spec_.hidden);
  while (int(work_.size()) < k) work_.push_back(std::make_unique<ExpertWork>());
  linear(context_, layer.router, normed_, router_logits_.data(), layer.router.rows);
  route(layer.routing, router_logits_.data(), chosen_.data(), weights_.data(), choice_);
  records_.mark(ROUTER, layer.moe);
}

void Decoder::announce(const LayerSpec& layer) {
  uses_.clear();
  for (int rank = 0; rank < top_k(); ++rank) uses_.push_back({number(layer, rank), rank, 1, weights_[rank]});
  stream_->routed(layer.moe, uses_.data(), top_k());
}

// Lets the stream read ahead, by what the routers of the next layers say of this layer's hidden state if they are asked.
void Decoder::look_ahead() {
  int distance = 0;
  if (foresight_ != nullptr)
    for (int later = layer_ + 1; later < spec_.layer_count && distance < Gate::kReach; ++later) {
      const LayerSpec& layer = spec_.layers[later];
      if (layer.moe >= 0 && ++distance <= stream_->ahead().depth && stream_->wants(layer.moe)) hand_on(layer, distance);
    }
  stream_->look_ahead();
}

void Decoder::hand_on(const LayerSpec& later, int distance) {
  early_norm_.resize(size_t(spec_.hidden));
  scores_.resize(size_t(later.router.rows));
  context_.products->rms_norm(x_.data(), later.mlp_norm, spec_.eps, early_norm_.data(), spec_.hidden);
  early_.set(early_norm_.data(), 1, spec_.hidden, spec_.hidden);
  linear(context_, later.router, early_, scores_.data(), later.router.rows);
  if (later.routing.correction != nullptr) correct(later.routing, scores_.data());
  foresight_->hand(later.moe, distance, scores_.data());
}

// Computes the layer's experts as the stream has them ready; false where one is not to be had.
bool Decoder::experts(const LayerSpec& layer) {
  ready_.resize(size_t(top_k()));
  int count;
  while ((count = stream_->take(ready_.data())) > 0) count == 1 || context_.pool->threads() == 1 ? one_by_one(layer, count) : together(layer, count);
  return count == 0;
}

void Decoder::one_by_one(const LayerSpec& layer, int count) {
  for (int i = 0; i < count; ++i) {
    const int rank = ready_[i], e = number(layer, rank);
    run_expert(context_, *work_[rank], record(e), layout(e), normed_, 1, outputs_.data() + size_t(rank) * spec_.hidden, spec_.hidden);
    records_.mark(EXPERT, layer.moe, chosen_[rank], layout(e).bits);
  }
}

// All experts' rows are handed out at once, since threads that wait for each other after every expert would mostly wait. The time all of
// them took is then divided among the experts as the threads' own time on each was.
void Decoder::together(const LayerSpec& layer, int count) {
  std::vector<Product> products(count);
  for (int i = 0; i < count; ++i) {
    ExpertWork& work = *work_[ready_[i]];
    const int e = number(layer, ready_[i]);
    work.begin(record(e), layout(e), 1);
    products[i] = {&work.up, &normed_.for_kind(*context_.products, work.up.kind), work.hidden.data(), work.up.rows, &work.spent};
  }
  multiply(context_, products.data(), count);
  context_.pool->run(count, 1, [&](int begin, int end) {
    for (int i = begin; i < end; ++i) {
      ExpertWork& work = *work_[ready_[i]];
      work.activate(*context_.products, layout(number(layer, ready_[i])), 1);
      work.ready.for_kind(*context_.products, work.down.kind);
    }
  });
  for (int i = 0; i < count; ++i) {
    ExpertWork& work = *work_[ready_[i]];
    const Activations& x = work.ready.for_kind(*context_.products, work.down.kind);
    products[i] = {&work.down, &x, outputs_.data() + size_t(ready_[i]) * spec_.hidden, spec_.hidden, &work.spent};
  }
  multiply(context_, products.data(), count);
  const int64_t began = records_.reached, wall = records_.now() - began;
  int64_t total = 1, so_far = 0;
  for (int i = 0; i < count; ++i) total += work_[ready_[i]]->spent;
  for (int i = 0; i < count; ++i) {
    so_far += work_[ready_[i]]->spent;
    const int64_t end = i + 1 == count ? began + wall : began + int64_t(double(wall) * double(so_far) / double(total));
    records_.until(end, EXPERT, layer.moe, chosen_[ready_[i]], layout(number(layer, ready_[i])).bits);
  }
}

// In the router's order, whatever order they were computed in: no bit depends on what was resident.
void Decoder::combine() {
  std::fill(update_.begin(), update_.end(), 0.0f);
  for (int rank = 0; rank < top_k(); ++rank)
    context_.products->add_scaled(update_.data(), outputs_.data() + size_t(rank) * spec_.hidden, weights_[rank], spec_.hidden);
}

// The dense layer's MLP, or the shared experts, added to what the routed ones gave.
void Decoder::mlp(const LayerSpec& layer) {
  const int d = spec_.hidden, n = layer.gate.rows;
  gate_.resize(n);
  up_.resize(n);
  const Product both[2] = {{&layer.gate, &normed_.for_kind(*context_.products, layer.gate.kind), gate_.data(), n},
                           {&layer.up, &normed_.for_kind(*context_.products, layer.up.kind), up_.data(), n}};
  multiply(context_, both, 2);
  context_.products->gate(Activation(spec_.activation), gate_.data(), up_.data(), 1, gate_.data(), n);
  inner_.set(gate_.data(), 1, n, n);
  if (layer.moe < 0) {
    linear(context_, layer.down, inner_, update_.data(), d);
  } else {
    routed_.resize(d);
    linear(context_, layer.down, inner_, routed_.data(), d);
    float weight = 1.0f;
    if (layer.mlp_gate.codes != nullptr) {
      linear(context_, layer.mlp_gate, normed_, &weight, 1);
      weight = 1.0f / (1.0f + std::exp(-weight));
    }
    context_.products->add_scaled(update_.data(), routed_.data(), weight, d);
  }
  records_.mark(SHARED, label(layer));
}

void Decoder::head() {
  context_.products->rms_norm(x_.data(), spec_.norm, spec_.eps, norm_.data(), spec_.hidden);
  normed_.set(norm_.data(), 1, spec_.hidden, spec_.hidden);
  linear(context_, spec_.head, normed_, logits_.data(), spec_.vocabulary);
  if (spec_.logits_scale != 1.0f) context_.products->scale(logits_.data(), spec_.logits_scale, spec_.vocabulary);
  records_.mark(HEAD, -1);
}

}  // namespace edgemoe
