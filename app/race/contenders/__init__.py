"""The contenders by name, one file each. Every one races in a process of its own and tells its tokens through a ``Meter``."""

from app.race.contenders import accelerate, fastllm, llama_cpp, ours
from app.race.contenders.contender import Contender, Course, Job

CONTENDERS: dict[str, Contender] = {
    contender.name: contender for contender in (*ours.CONTENDERS, llama_cpp.LlamaCpp(), fastllm.Fastllm(), accelerate.Accelerate())
}

__all__ = ["CONTENDERS", "Contender", "Course", "Job"]
