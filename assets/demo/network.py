"""The model being trained: a Qwen3-MoE of transformers, run through its own modules by a loop that is quicker to train.

The loop differs from the model's own forward pass in two ways only. It keeps the router's logits, for the balancing
loss of each layer; and it runs the experts as grouped products whose way back is a gather, since scattering with
addition is slow on a processor.

Letters in shapes: B sequences, T tokens in each, N = B*T, K experts a token, P = N*K pairs, E experts, D hidden width,
V vocabulary.
"""

import torch
from torch.nn import functional as F
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM
from transformers.models.qwen3_moe.modeling_qwen3_moe import load_balancing_loss_func


def compute_type():
    """Return the number type that training computes in: 16 bits where the processor multiplies them fast, else 32."""
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32


def build(shape, vocabulary, end_id, context, seed):
    """Return an untrained model at 32 bits.

    shape: a dictionary with layers, experts, top_k, hidden, expert_hidden, heads, key_value_heads.
    """
    config = Qwen3MoeConfig(
        vocab_size=vocabulary,
        hidden_size=shape["hidden"],
        intermediate_size=shape["expert_hidden"] * shape["top_k"],  # of dense layers; there are none
        moe_intermediate_size=shape["expert_hidden"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["key_value_heads"],
        head_dim=shape["hidden"] // shape["heads"],
        num_experts=shape["experts"],
        num_experts_per_tok=shape["top_k"],
        norm_topk_prob=True,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        initializer_range=0.04,
        router_aux_loss_coef=0.01,
        bos_token_id=end_id,
        eos_token_id=end_id,
        pad_token_id=end_id,
    )
    torch.manual_seed(seed)
    model = Qwen3MoeForCausalLM(config)
    model.generation_config.update(do_sample=True, temperature=0.8, top_p=0.95, max_new_tokens=200)
    return model


class _Dispatch(torch.autograd.Function):
    """Rows [N, D] to the pairs sorted by expert [P, D]."""

    @staticmethod
    def forward(ctx, rows, order, inverse, top_k):
        ctx.save_for_backward(inverse)
        ctx.top_k = top_k
        return rows[order // top_k]

    @staticmethod
    def backward(ctx, grad):
        (inverse,) = ctx.saved_tensors
        return grad[inverse].view(-1, ctx.top_k, grad.shape[-1]).sum(1), None, None, None


class _Restore(torch.autograd.Function):
    """Pairs sorted by expert [P, D] back to the order of tokens [P, D]."""

    @staticmethod
    def forward(ctx, pairs, order, inverse):
        ctx.save_for_backward(order)
        return pairs[inverse]

    @staticmethod
    def backward(ctx, grad):
        (order,) = ctx.saved_tensors
        return grad[order], None, None


def run_experts(experts, rows, index, weights):
    """Return the weighted sum of each token's experts, [N, D].

    rows: [N, D]; index: int64 [N, K]; weights: [N, K].
    """
    top_k = index.shape[1]
    chosen = index.reshape(-1)  # [P]
    order = torch.argsort(chosen, stable=True)
    inverse = torch.empty_like(order).scatter_(0, order, torch.arange(order.numel()))
    # [E]: where each expert's pairs stop
    stops = (chosen[:, None] == torch.arange(experts.num_experts)).sum(0).cumsum(0).to(torch.int32)
    pairs = _Dispatch.apply(rows, order, inverse, top_k)
    both = F.grouped_mm(pairs, experts.gate_up_proj.transpose(1, 2), offs=stops)
    gate, up = both.chunk(2, dim=-1)
    out = F.grouped_mm(F.silu(gate) * up, experts.down_proj.transpose(1, 2), offs=stops)
    out = _Restore.apply(out, order, inverse).view(-1, top_k, rows.shape[1])
    return (out * weights[..., None]).sum(1)


def run_layer(layer, hidden, cos, sin):
    """Return the layer's output [B, T, D] and its router's logits [N, E]."""
    mixed, _ = layer.self_attn(layer.input_layernorm(hidden), position_embeddings=(cos, sin), attention_mask=None)
    hidden = hidden + mixed
    rows = layer.post_attention_layernorm(hidden).view(-1, hidden.shape[-1])
    logits, weights, index = layer.mlp.gate(rows)
    return hidden + run_experts(layer.mlp.experts, rows, index, weights).view_as(hidden), logits


def token_loss(hidden, norm, table, targets):
    """Return each token's loss in nats [N]; hidden: [B, T, D], table: [V, D], targets: [B, T]."""
    logits = F.linear(norm(hidden).flatten(0, 1), table)
    return F.cross_entropy(logits.float(), targets.flatten(), reduction="none")


class Trainee:
    """A model with its training pass, compiled where asked: one graph serves every layer."""

    def __init__(self, model, compiled):
        self.model, self.config = model, model.config
        wrap = (lambda f: torch.compile(f, dynamic=False)) if compiled else (lambda f: f)
        self._layer, self._loss = wrap(run_layer), wrap(token_loss)

    def losses(self, windows):
        """Return (loss in nats of each token [B, T], balancing loss summed over layers, loads [layers, E]).

        windows: int64 [B, T + 1]. The balancing loss is transformers' own, of each layer alone: over all layers at
        once an expert could starve in one layer and feast in another without showing.
        """
        body, inputs, targets = self.model.model, windows[:, :-1].contiguous(), windows[:, 1:].contiguous()
        hidden = body.embed_tokens(inputs)
        cos, sin = body.rotary_emb(hidden, torch.arange(inputs.shape[1])[None])
        balance, loads = 0.0, []
        for layer in body.layers:
            hidden, logits = self._layer(layer, hidden, cos, sin)
            logits = logits.float()
            experts, top_k = self.config.num_experts, self.config.num_experts_per_tok
            balance = balance + load_balancing_loss_func((logits,), experts, top_k)
            with torch.no_grad():
                loads.append(torch.bincount(logits.topk(top_k).indices.flatten(), minlength=experts))
        loss = self._loss(hidden, body.norm, self.model.lm_head.weight, targets)
        return loss.view_as(targets), balance, torch.stack(loads)
