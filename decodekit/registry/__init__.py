"""Plugins: how one declares itself, how it is found, spec strings, and the composition of a strategy."""
