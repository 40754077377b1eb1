"""decodekit: constrained and speculative decoding of language models, as plugins around one generation loop."""

__version__ = "0.1.0"
