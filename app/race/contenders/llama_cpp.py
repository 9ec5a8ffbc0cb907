"""llama.cpp, through xllamacpp: the same weights as GGUF, mapped from disk, or copied and repacked where memory holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.race.contenders.contender import Contender, Course, Job, Progress

_RECIPES = {4: "Q4_0", 8: "Q8_0", 16: "BF16"}
_ROOM = 1.15
"""Memory to have beside the file's size before it is copied rather than mapped."""


class LlamaCpp(Contender):
    """It thrashes where the file does not fit: a mapped file is read again page by page."""

    name = "llama.cpp"
    about = "llama.cpp, its GGUF mapped; repacked in memory where the limit leaves room for it"
    packages = ("xllamacpp", "gguf")
    module = __name__

    def unavailable(self, course: Course, bits: int) -> str:
        from app.race.gguf import unfit

        if bits not in _RECIPES:
            return f"{bits} bits are none of {', '.join(map(str, _RECIPES))}"
        return super().unavailable(course, bits) or unfit(course.architecture)

    def weights(self, course: Course, bits: int) -> Path:
        return course.file(f"-{_RECIPES[bits]}.gguf")

    def prepare(self, course: Course, bits: int, progress: Progress) -> None:
        from app.race.gguf import write_gguf

        file = self.weights(course, bits)
        if not file.is_file():
            write_gguf(course.model, file, _RECIPES[bits], progress)


def main() -> None:
    """Race, in a process of its own."""
    from app.race.meter import Meter, fail

    job, meter = Job.told(), Meter()
    import xllamacpp

    mapped = bool(job.memory) and job.memory < _ROOM * Path(job.weights).stat().st_size
    params = xllamacpp.CommonParams()
    params.model.path = job.weights
    params.n_ctx, params.n_parallel, params.n_gpu_layers = job.context + 8, 1, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = job.threads
    params.warmup, params.fit_params, params.verbosity = False, False, 1
    params.cache_ram_mib = 0  # of prompts to come, of which there are none
    params.load_mode = xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_MMAP
    params.no_extra_bufts = mapped  # repacked weights are copies, which the limit would not hold
    server = xllamacpp.Server(params)
    meter.ready(way="mapped" if mapped else "repacked", threads=job.threads)

    def told(chunk: Any) -> bool:
        if "error" in chunk:
            fail(chunk["error"])
        text = chunk["choices"][0]["text"]
        if text:
            meter.token(int(text[1:]) if text[:1] == "t" and text[1:].isdigit() else -1)
        return False

    ask = {
        "prompt": job.prompt, "n_predict": job.tokens, "stream": True, "temperature": 0, "top_k": 1, "samplers": ["top_k"],
        "ignore_eos": True, "cache_prompt": False,
    }  # fmt: skip
    failed = server.handle_completions(ask, told)
    if failed:
        fail(failed)
    meter.end()


if __name__ == "__main__":
    main()
