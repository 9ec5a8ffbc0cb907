"""transformers with accelerate's disk offload: whole modules, read before use and dropped after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.race.contenders.contender import Contender, Course, Job, Progress


class Accelerate(Contender):
    """It knows layers, not experts: every expert of a layer is read for every token."""

    name = "accelerate"
    about = "transformers with accelerate, bfloat16, layers offloaded to disk where they do not fit"
    packages = ("accelerate",)
    module = __name__

    def bits(self, bits: int) -> int:
        return 16

    def weights(self, course: Course, bits: int) -> Path:
        return course.model

    def prepare(self, course: Course, bits: int, progress: Progress) -> None:
        """It reads the checkpoint itself."""


def main() -> None:
    """Race, in a process of its own."""
    from app.race.meter import Meter

    job, meter = Job.told(), Meter()
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(job.threads)
    options: dict[str, Any] = {}
    if job.memory:
        # Half the limit for what stays: the other half takes the layer that comes and what computes it.
        options = {"device_map": "auto", "max_memory": {"cpu": job.memory // 2}, "offload_folder": job.scratch}
    model = AutoModelForCausalLM.from_pretrained(job.weights, dtype=torch.bfloat16, local_files_only=True, **options).eval()
    meter.ready(threads=job.threads, way="offloaded" if job.memory else "resident")
    ids, cache = torch.tensor([job.prompt]), None
    with torch.inference_mode():
        for _ in range(job.tokens):
            out = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache, token = out.past_key_values, int(out.logits[0, -1].argmax())
            meter.token(token)
            ids = torch.tensor([[token]])
    meter.end()


if __name__ == "__main__":
    main()
