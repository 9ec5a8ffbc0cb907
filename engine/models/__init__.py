"""A Hugging Face MoE model whose experts are ours, and the spec of those experts. Importing a submodule may import torch."""
