"""The race: this engine and what a user would pick instead, on the same weights, prompt, threads and memory."""
