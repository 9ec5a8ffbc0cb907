// A llama-like model as engine/models/lean.py describes it. All structs are mirrored by engine/kernels/library.py.
//
// d hidden, h query heads, n key/value heads, e dimensions a head, r rotated dimensions, V token ids.
#pragma once
#include "expert.h"
#include "router.h"

namespace edgemoe {

struct AttentionSpec {
  Matrix q, k, v, o;
  const float* q_norm;  // [e] or [h * e], or null
  const float* k_norm;
  const float* inv_freq;  // [r / 2], or null: not rotated
  int32_t q_norm_size, k_norm_size, norm_after_rotary;
  int32_t heads, kv_heads, head_dim, rotated, interleaved, window;
  float scale, clip, rotary_scale;
};

struct LayerSpec {
  const float* attention_norm;  // [d]
  const float* mlp_norm;
  AttentionSpec attention;
  int32_t moe;  // place among the MoE layers, or -1
  Matrix router;
  Routing routing;
  Matrix gate, up, down;  // dense or shared MLP; codes null: none
  Matrix mlp_gate;        // codes null: none
};

struct ModelSpec {
  const LayerSpec* layers;
  int32_t layer_count, hidden, vocabulary, experts, activation;
  float eps, embedding_scale, residual_scale, logits_scale;
  Matrix embedding;  // [V, d], plain
  Matrix head;
  const float* norm;
  const ExpertLayout* layouts;  // by index
  const uint64_t* records;      // [S * E]: where each resident expert's record lies, 0 for the absent
  const uint8_t* layout_of;     // [S * E]: index of its layout
};

}  // namespace edgemoe
