"""The EdgeMoE engine: a library without Qt that runs a mixture-of-experts model from storage under a byte budget."""

__version__ = "0.1.0"
