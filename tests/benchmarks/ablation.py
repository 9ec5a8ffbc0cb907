"""The paper's ablation on the demo model: on demand at 16 bits, then with quantized experts, with preloading, with a buffer.

    python tests/benchmarks/ablation.py [--tokens 60]

Each step is the profile of that name; s a token are of decoding, the speed-up is against the first step. Beside it the paper's figures for
Switch-base-8 on a Jetson TX2 (arXiv 2308.14352): 0.789, 0.392, 0.305 and 0.245 s. Storage is imitated, computing is this machine's.
"""

from __future__ import annotations

import argparse

import numpy as np
from _demo import demo_store, generate, open_session, prompts

from engine.events import TOKEN, Batch, Phase
from profiles.profile import find

STEPS = (("io-exp", 0.789), ("io-qexp", 0.392), ("preload", 0.305), ("buffer", 0.245))
DEVICES = ("jetson-like", "pi-like")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=60)
    args = parser.parse_args()
    store, texts = demo_store(), [*prompts("prose", 2), *prompts("code", 2)]
    print(f"{'':24}{'ms a token':>12}{'speed-up':>10}{'MB a token':>12}{'paper s':>9}{'speed-up':>10}")
    for device in DEVICES:
        first = 0.0
        for name, paper in STEPS:
            batches: list[object] = []
            session = open_session(store, batches.append, **dict(find(name).settings), device=device, max_tokens=args.tokens)
            for text in texts:
                generate(session, text)
            session.close()
            rows = np.frombuffer(b"".join(b.tables.get("tokens", b"") for b in batches if isinstance(b, Batch)), TOKEN)
            rows = rows[rows["phase"] == Phase.DECODE]
            took = float(rows["duration"].mean()) / 1e6
            read = sum(float(rows[column].mean()) for column in ("demand_bytes", "preload_useful_bytes", "preload_wasted_bytes")) / 1e6
            first = first or took
            print(f"{device:14}{name:10}{took:12.2f}{first / took:9.2f}x{read:12.2f}{paper:9.3f}{STEPS[0][1] / paper:9.2f}x", flush=True)


if __name__ == "__main__":
    main()
