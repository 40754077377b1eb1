"""Masks of a Lark grammar."""

from __future__ import annotations

from decodekit.constraints.engines.states import States


class Spots(States):
    """A grammar compiled for one vocabulary."""
