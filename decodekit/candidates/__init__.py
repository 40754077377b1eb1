"""Choosing under a constraint by checking candidates before masking; unbiased weights of such a choice."""
