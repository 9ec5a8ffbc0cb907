"""fastllm with its experts on disk and a byte budget of them in memory.

It knows Qwen3-MoE and not OLMoE, which differ in the norm of queries and keys alone: so an OLMoE checkpoint is given to it as
Qwen3-MoE, the same matrices with that family's norm. On disk it takes 4 bits as Q4_K, as long as Q4_0.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from app.race.contenders.contender import Contender, Course, Job, Progress

_RECIPES = {4: "Q4_K", 8: "Q8_0"}
_ROOM = 1.3
"""Memory to have beside the file's size before experts stay in memory."""
_PAGE = 256
_FILE, _TWIN = "model.gguf", "model"
_SLACK = 128 << 20
"""Bytes left to keys and values, activations and the allocator."""


class Fastllm(Contender):
    """The nearest relative: explicit reads, an expert cache of fixed bytes."""

    name = "fastllm"
    about = "fastllm, experts on disk, its cache what the memory limit leaves, or all in memory"
    packages = ("ftllm", "gguf")
    module = __name__

    def unavailable(self, course: Course, bits: int) -> str:
        if bits not in _RECIPES:
            return f"{bits} bits are none of {', '.join(map(str, _RECIPES))}"
        if course.architecture not in ("OlmoeForCausalLM", "Qwen3MoeForCausalLM"):
            return f"{course.architecture} is not among what is written for it here"
        return super().unavailable(course, bits)

    def weights(self, course: Course, bits: int) -> Path:
        """A folder with the GGUF file, and configuration and tokenizer beside it."""
        return course.file(f"-fastllm-{_RECIPES[bits]}")

    def prepare(self, course: Course, bits: int, progress: Progress) -> None:
        from app.race.gguf import write_gguf

        folder = self.weights(course, bits)
        if not (folder / _FILE).is_file():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            _as_qwen3(course, folder / _TWIN)
            write_gguf(folder / _TWIN, folder / _FILE, _RECIPES[bits], progress)


def _as_qwen3(course: Course, twin: Path) -> None:
    """The checkpoint as Qwen3-MoE: its own shards, linked, and norms of one head's length where it had longer ones."""
    import torch
    from safetensors.torch import save_file

    twin.mkdir()
    config = json.loads((course.model / "config.json").read_text("utf-8"))
    for file in (*course.model.glob("*.safetensors"), course.model / "tokenizer.json"):
        (twin / file.name).symlink_to(file.resolve())
    index = course.model / "model.safetensors.index.json"
    where = json.loads(index.read_text("utf-8")) if index.is_file() else {"weight_map": _single(course.model)}
    if course.architecture == "OlmoeForCausalLM":
        head = config["hidden_size"] // config["num_attention_heads"]
        norms = [name for name in where["weight_map"] if name.endswith(("q_norm.weight", "k_norm.weight"))]
        save_file({name: torch.ones(head, dtype=torch.bfloat16) for name in norms}, twin / "norms.safetensors", {"format": "pt"})
        where["weight_map"].update(dict.fromkeys(norms, "norms.safetensors"))
        config |= {
            "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "head_dim": head, "decoder_sparse_step": 1,
            "moe_intermediate_size": config["intermediate_size"], "mlp_only_layers": [],
        }  # fmt: skip
    (twin / index.name).write_text(json.dumps(where), "utf-8")
    (twin / "config.json").write_text(json.dumps(config), "utf-8")
    # The one class of tokenizer that it reads from tokenizer.json as it stands.
    (twin / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}), "utf-8")


def _single(model: Path) -> dict[str, str]:
    from engine.store.checkpoint import Checkpoint

    with Checkpoint.open(model) as checkpoint:
        return {name: entry.file.name for name, entry in checkpoint.entries.items()}


def main() -> None:
    """Race, in a process of its own."""
    import ctypes
    import time

    from app.race.meter import Meter, fail

    job, meter = Job.told(), Meter()
    import psutil
    from ftllm import llm

    folder = Path(job.weights)
    file = folder / _FILE
    from_disk = bool(job.memory) and job.memory < _ROOM * file.stat().st_size
    llm.set_cpu_threads(job.threads)
    llm.set_device_map("cpu")
    llm.set_device_map("disk" if from_disk else "cpu", True)
    llm.set_max_tokens(-(-job.context // _PAGE) * _PAGE)  # left alone, it takes hundreds of MB for keys and values to come
    model = llm.model(str(file), ori_model_path=str(folder / _TWIN))
    model.set_max_batch(1)
    cache = 0
    if from_disk:
        cache = max(0, job.memory - psutil.Process().memory_info().rss - _SLACK)
        llm.set_moe_cpu_cache(cache)
    stops, stop_list = model.stop_token_ctypes(None)
    library, prompt = llm.fastllm_lib, (ctypes.c_int * len(job.prompt))(*job.prompt)
    meter.ready(way="experts on disk" if from_disk else "resident", cache=cache, threads=job.threads)
    handle = library.launch_response_llm_model(
        model.model, len(job.prompt), prompt, job.tokens, job.tokens, False, ctypes.c_float(1.0), 1, ctypes.c_float(1.0),
        ctypes.c_float(1.0), False, stops, stop_list,
    )  # fmt: skip
    while True:
        while not library.can_fetch_response_llm_model(model.model, handle):
            time.sleep(0.0001)  # its own client spins here, on a core that its threads need
        token = library.fetch_response_llm_model(model.model, handle)
        if token == -2:
            fail("the prompt is too long")
        if token < 0:
            break
        meter.token(token)
    meter.end()


if __name__ == "__main__":
    main()
