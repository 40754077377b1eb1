"""Canvases of masked language models: which cells to fill, constraints on them, information per round."""
