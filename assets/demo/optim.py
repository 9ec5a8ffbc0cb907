"""The optimizer: Muon for matrices, one expert at a time, and Adam for the rest.

The model may compute at 16 bits; the optimizer keeps the weights themselves at 32 bits and writes them back rounded
after every step. Muon replaces a matrix's averaged gradient by the nearest orthogonal matrix, so that all its directions
learn alike. Fused experts are a stack of matrices, and the two halves of a fused gate and up projection are two
matrices: each is made orthogonal alone.

Letters in shapes: S matrices in a stack, O outputs, I inputs.
"""

import torch

# An odd quintic whose iteration drives singular values into about 0.7..1.2: steep at zero on purpose, exact nowhere.
QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalise(stack, dtype=torch.bfloat16, rounds=5):
    """Return the nearly orthogonal matrices closest to those of `stack` [S, O, I], computed in `dtype`."""
    a, b, c = QUINTIC
    x = stack.to(dtype)
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.transpose(1, 2).contiguous()
    x = x / (x.float().flatten(1).norm(dim=1).to(dtype)[:, None, None] * 1.02 + 1e-7)
    for _ in range(rounds):
        gram = torch.bmm(x, x.transpose(1, 2))
        inner = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, inner, x, beta=a)
    return x.transpose(1, 2) if tall else x


def as_stack(name, tensor):
    """View a parameter as a stack of the matrices it is made of, [S, O, I]."""
    if name.endswith("experts.gate_up_proj"):
        return tensor.view(tensor.shape[0] * 2, tensor.shape[1] // 2, tensor.shape[2])
    return tensor if tensor.dim() == 3 else tensor[None]


def is_matrix(name, tensor):
    """Whether Muon takes this parameter: the tables of tokens and the routers are lists of vectors, not maps."""
    return tensor.dim() >= 2 and "embed_tokens" not in name and not name.endswith("mlp.gate.weight")


class Optimizer:
    """Weights at 32 bits and their moments, as plain named tensors."""

    def __init__(self, model, muon_rate, adam_rate, decay=0.05):
        """Rates are the plateau's; `step` scales them. decay: weight decay of matrices, times the rate."""
        self.rates, self.decay = {"muon": muon_rate, "adam": adam_rate}, decay
        self.live = dict(model.named_parameters())
        self.weights = {name: p.detach().float().clone() for name, p in self.live.items()}
        self.first = {name: torch.zeros_like(w) for name, w in self.weights.items()}
        self.second = {name: torch.zeros_like(w) for name, w in self.weights.items() if not is_matrix(name, w)}
        self.steps = 0

    @torch.no_grad()
    def step(self, scale):
        """Apply the gradients with the rates times `scale`, and clear them. Returns the gradients' norm."""
        self.steps += 1
        grads = {name: p.grad for name, p in self.live.items() if p.grad is not None}
        norm = float(sum(g.float().square().sum() for g in grads.values()).sqrt())
        for name, grad in grads.items():
            if name in self.second:
                self._adam(name, grad.float() / max(1.0, norm), self.rates["adam"] * scale)
            else:
                self._muon(name, grad.float(), self.rates["muon"] * scale)
            self.live[name].copy_(self.weights[name])
            self.live[name].grad = None
        return norm

    def _muon(self, name, grad, rate, momentum=0.95):
        weight, first = self.weights[name], self.first[name]
        first.lerp_(grad, 1 - momentum)
        direction = orthogonalise(as_stack(name, grad.lerp(first, momentum)), self.live[name].dtype)
        outputs, inputs = direction.shape[1:]
        weight.mul_(1 - rate * self.decay)
        # A matrix with more outputs than inputs must step further to change its output as much.
        as_stack(name, weight).add_(direction, alpha=-rate * max(1.0, outputs / inputs) ** 0.5)

    def _adam(self, name, grad, rate, betas=(0.9, 0.95)):
        first, second = self.first[name].lerp_(grad, 1 - betas[0]), self.second[name]
        second.lerp_(grad.square(), 1 - betas[1])
        mean, spread = first / (1 - betas[0] ** self.steps), second / (1 - betas[1] ** self.steps)
        self.weights[name].addcdiv_(mean, spread.sqrt().add_(1e-8), value=-rate)

    def tensors(self):
        """Return the whole state by name: what `restore` takes."""
        groups = {"weight": self.weights, "first": self.first, "second": self.second}
        return {f"{group}:{name}": t for group, named in groups.items() for name, t in named.items()}

    @torch.no_grad()
    def restore(self, tensors, steps):
        """Take over a saved state and write its weights into the model."""
        for key, mine in self.tensors().items():
            mine.copy_(tensors[key])
        for name, p in self.live.items():
            p.copy_(self.weights[name])
        self.steps = steps
