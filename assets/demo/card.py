"""Measure a trained model and write its card, README.md, beside it.

    python card.py --text FOLDER --work FOLDER --model model

with the folders that train.py was given.
"""

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import numpy as np
import torch
from checkpoint import size
from corpus import prepare, read_domains
from measure import divergence, held_out_text, read, sample, xz_bits_per_byte
from network import Trainee
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPTS = {
    "tales": ["Once upon a time there was", "\"Come here,\" said the captain,"],
    "python": ["import os\nimport sys\n\n\nclass ", "    def __init__(self, "],
}
SEED, SAMPLE_TOKENS = 7, 120
UNTRAINED_EVERY = 8  # its windows are all alike bad: an eighth of them tells it to the third digit
TEMPLATE = """# The demo model

A mixture-of-experts language model trained from nothing by `train.py` beside this card, on {domains}. It is small
enough to ship and real enough to route: {layers} layers of {experts} experts, {top_k} a token. It continues tales and
Python code; it knows nothing, follows no instructions, and what it writes is meant to be watched, not believed.

This card is written by `card.py` from measurements; it is not edited by hand.

| | |
|---|---|
| architecture | `{architecture}` of transformers, unchanged; loads with `AutoModelForCausalLM` |
| parameters | {total:.1f} M, of them {in_experts:.1f} M in experts ({expert_mb:.1f} MB at 16 bits) |
| parameters a token uses | {active:.1f} M |
| checkpoint | {file_mb:.1f} MB, bf16 |
| hidden width, expert width | {hidden}, {expert_hidden} |
| attention | {heads} heads, {kv_heads} of keys and values; {positions} positions |
| tokenizer | byte-level BPE, {vocabulary} entries, learned on equal parts of the training text of each domain |
| trained on | {tokens:.2f} M tokens in {steps} steps, {minutes:.0f} minutes on {cores} processor cores |
| optimizer | Muon for matrices (every expert alone), Adam for the rest; warm-up, plateau, decay in the last fifth |
| balancing | transformers' own router loss of each layer alone, coefficient 0.01 |

## Data

{data}
Whole documents are held out, 5% of each domain and at least two, those with the least SHA-256 of their text, so the
split is the same on every machine. Training gives each domain the same number of tokens. During training a few held-out
sequences picked the checkpoint to ship; the figures below are of all held-out text.
`usage.py` counted in 2,048 held-out tokens of each how often experts are used: `model/usage.json`, for the first warm start.

## Held-out text, bits per byte

{compression}
Windows of {positions} tokens slide by {stride}: past the first window, every token is predicted from at least {context}
before it, and every byte counts once, the ends of documents included. xz is `xz -9e` on that held-out text alone, its
documents joined by form feeds: it starts from nothing, as the model does not. *Untrained* is the same model with the
random weights that training started from, measured on every {untrained_every}th window.

## Where tokens go

Share of a layer's (token, expert) pairs by expert, on held-out text, in percent: the least and the most any of its
{experts} experts takes (even would be {even:.1f}). *Weakest expert*: the least, over experts, of what an expert takes
on the domain that uses it most. The divergence is Jensen–Shannon's, in bits (0: both domains use experts alike, 1: no
expert is shared).

{routing}
{dead}

## Predictors

`predictors.py` records the model's own routing, 4-bit experts and 60 requests of 300 tokens, begun by passages of
30 documents of each domain it was trained on, and learns from 54 of them (16,146 tokens) what the next layer
chooses: `model/predictor-transition.safetensors` (0.36 MB) and `model/predictor-path.json` (0.58 MB). On the 6
requests kept back, as `predictors.py` printed for the files shipped, the mean over all layers:

| predictor | of the 2 experts chosen, among 2 predicted | among 4 |
| --- | ---: | ---: |
| transition | 73.5% | 89.9% |
| path | 65.7% | 84.9% |

## Samples

Unedited, with seed {seed}, temperature 0.8, top-p 0.95; the prompt is the part before the bar ▌.

{samples}
## Terms

The tales were published before 1929 and are in the public domain; the Python modules are from the Python standard
library, © Python Software Foundation, under the PSF licence. The weights are derived from both and come under the
terms of this project; where they repeat a passage of a Python module, the PSF licence holds for that passage.

## Making it again

```
python train.py --text FOLDER --work FOLDER --out model --minutes {minutes:.0f}
python card.py --text FOLDER --work FOLDER --model model
```

The folder holds one file a domain, `*.txt` or `*.txt.gz`, with a form feed between documents. How far a training gets
depends on the machine; the split, the order of the data and the initial weights do not.
"""


def table(header, rows):
    """Return a Markdown table."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in lines) + "\n"


def measure(options):
    """Return every figure of the card: per domain bits per byte (xz, untrained, trained) and loads [L, E]."""
    _, splits = prepare(options.text, options.work, vocabulary=0)
    domains = {domain.name: domain for domain in read_domains(options.text)}
    found = {name: {"bytes": len(held_out_text(domain)), "documents": len(domain.held_out),
                    "all": len(domain.held_out) + len(domain.train)} for name, domain in domains.items()}
    for which, folder in (("trained", options.model), ("untrained", options.work / "untrained")):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
        trainee, width = Trainee(model, not options.no_compile), model.config.max_position_embeddings
        for name, split in splits.items():
            every = 1 if which == "trained" else UNTRAINED_EVERY
            bits, loads = read(trainee, split["held_out"]["tokens"], width, options.stride or width * 3 // 4, every)
            found[name][which] = bits / found[name]["bytes"]
            found[name].setdefault("loads", loads)
            print(f"{which}, {name}: {found[name][which]:.3f} bits per byte", file=sys.stderr, flush=True)
    for name, domain in domains.items():
        found[name]["xz"] = xz_bits_per_byte(held_out_text(domain))
        found[name]["tokens"] = len(splits[name]["train"]["tokens"])
        found[name]["held_tokens"] = len(splits[name]["held_out"]["tokens"])
    return found


def routing_table(found):
    """Return (table of shares and divergence by layer, weakest share of any expert on its best domain)."""
    names = list(found)
    shares = {name: found[name]["loads"] / found[name]["loads"].sum(1, keepdims=True) for name in names}
    weakest = np.max([shares[name] for name in names], axis=0).min(1)  # [L]
    rows = []
    for layer in range(len(weakest)):
        row = [layer]
        for name in names:
            row.append(f"{shares[name][layer].min():.1%} – {shares[name][layer].max():.1%}".replace("%", ""))
        row.append(f"{weakest[layer]:.1%}".replace("%", ""))
        if len(names) == 2:
            row.append(f"{divergence(*(shares[name][layer] for name in names)):.3f}")
        rows.append(row)
    header = ["layer", *(f"{name}, least – most" for name in names), "weakest expert"]
    return table(header + ["divergence"] * (len(names) == 2), rows), float(weakest.min())


def samples(folder, names):
    """Return two samples of each domain that has prompts, as Markdown."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    parts = []
    for name in names:
        for prompt in PROMPTS.get(name, []):
            text = sample(model, tokenizer, prompt, SEED, SAMPLE_TOKENS)
            parts.append(f"{name}:\n\n```text\n{prompt}▌{text[len(prompt):]}\n```\n")
    return "\n".join(parts)


def write(options, found):
    """Fill the template."""
    config = json.loads((options.model / "config.json").read_text())
    model = AutoModelForCausalLM.from_pretrained(options.model)
    total, experts, active = size(model)
    lines = map(json.loads, (options.work / "log.jsonl").read_text().splitlines())
    shipped = [line for line in lines if line.get("exported")][-1]
    routing, weakest = routing_table(found)
    width = model.config.max_position_embeddings
    stride = options.stride or width * 3 // 4
    data = [[name, f"{d['all'] - d['documents']}", f"{d['tokens'] / 1e6:.2f} M", f"{d['documents']}",
             f"{d['bytes'] / 1e6:.2f} MB, {d['held_tokens'] / 1e6:.2f} M"] for name, d in found.items()]
    bits = [[name, f"{d['trained']:.3f}", f"{d['xz']:.3f}", f"{d['untrained']:.3f}"] for name, d in found.items()]
    dead = f"The weakest expert of all takes {weakest:.1%} on the domain that uses it most: "
    dead += "none is dead." if weakest >= 0.01 else "under the 1% that counts as alive."
    return TEMPLATE.format(
        domains=" and ".join(found), layers=config["num_hidden_layers"], experts=model.config.num_experts,
        top_k=config["num_experts_per_tok"], architecture=config["architectures"][0], total=total / 1e6,
        in_experts=experts / 1e6, expert_mb=experts * 2 / 1e6, active=active / 1e6,
        file_mb=(options.model / "model.safetensors").stat().st_size / 1e6, hidden=config["hidden_size"],
        expert_hidden=config["moe_intermediate_size"], heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"], positions=width, vocabulary=config["vocab_size"],
        tokens=shipped["tokens"] / 1e6, steps=shipped["step"], cores=os.cpu_count(), minutes=shipped["seconds"] / 60,
        stride=stride, context=width - stride, even=100 / model.config.num_experts, routing=routing, dead=dead,
        seed=SEED,
        untrained_every=UNTRAINED_EVERY,
        data=table(["domain", "documents", "tokens", "held-out documents", "bytes and tokens of them"], data),
        compression=table(["domain", "this model", "xz -9e", "untrained"], bits),
        samples=samples(options.model, found),
    )


def main(argv=None):
    """Run the command line."""
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--text", type=Path, required=True, help="the folder of text trained on")
    p.add_argument("--work", type=Path, required=True, help="the work folder of the training")
    p.add_argument("--model", type=Path, required=True, help="the exported model")
    p.add_argument("--stride", type=int, help="tokens a window slides (default: three quarters of the positions)")
    p.add_argument("--no-compile", action="store_true")
    options = p.parse_args(argv)
    card = write(options, measure(options))
    (options.model.parent / "README.md").write_text(card)
    print((options.model.parent / "README.md"), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
