"""decodekit inside other libraries: transformers, lm-evaluation-harness."""
