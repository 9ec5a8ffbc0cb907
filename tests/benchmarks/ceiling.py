"""The budget is a ceiling: bytes resident, and the process's memory, while the budget is changed at random every few tokens.

Measured in a fresh process (converting leaves memory behind). The level is the process's resident memory once the model is
loaded and no expert is; the system's own peak (VmHWM) is reset at every change of the budget, so that no instant escapes.
Exit status 1 where the peak passed level + budget + 32 MiB, or a resident byte the budget.
"""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from _demo import demo_store, open_session, prompts

from engine.store import Store

MIB = 1 << 20
SLACK = 32 * MIB
BUDGETS = ("5%", "10%", "20%", "35%", "50%", "75%", "100%")
REQUESTS, TOKENS, SEED = 6, 150, 3


def main() -> int:
    if len(sys.argv) == 1:
        return subprocess.run([sys.executable, __file__, str(demo_store().path)], check=False).returncode
    store = Store.open(Path(sys.argv[1]))
    session = open_session(store, bits=16, budget="20%", max_tokens=TOKENS)
    level = _reset_peak()
    texts = [*prompts("prose", REQUESTS // 2), *prompts("code", REQUESTS // 2)]
    dice, peaks, left = random.Random(SEED), [], 0
    for text in texts:
        session.begin(text)
        while session.request is not None:
            if left == 0:
                session.change("budget", dice.choice(BUDGETS))
                _reset_peak()
                left = dice.randint(1, 8)
            session.step()
            left -= 1
            if left == 0 or session.request is None:
                peaks.append((_peak() - level - session.budget.granted, session.budget.granted))
    session.buffer.clear()
    after = _resident() - level
    over, evictions = session.buffer.most_over, session.buffer.evictions
    session.close()
    beyond, at = max(peaks)
    print(f"demo model at 16 bits, {len(peaks)} stretches of a budget between {BUDGETS[0]} and {BUDGETS[-1]}, "
          f"{evictions:,} evictions")  # fmt: skip
    print(f"experts in memory, read-ahead ones too, against the budget: at most {over:,} bytes above it at any change of a state")
    print(f"process: {level / MIB:.1f} MiB with no expert resident; beyond that and the budget at most {beyond / MIB:.1f} MiB "
          f"(budget then {at / MIB:.1f} MiB), allowed {SLACK / MIB:.0f}")  # fmt: skip
    print(f"after everything was evicted: {after / MIB:.1f} MiB above the level")
    return 1 if over > 0 or beyond > SLACK else 0


def _reset_peak() -> int:
    """Forget the peak of resident memory; returns what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")
    return _resident()


def _resident() -> int:
    return _status("VmRSS")


def _peak() -> int:
    return _status("VmHWM")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


if __name__ == "__main__":
    sys.exit(main())
