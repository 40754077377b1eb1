"""Uncertainty scores: functions of the trace, planned before the run and the same during it and afterwards."""

from __future__ import annotations

from decodekit.scores.base import Samples, Score, ScoreError, Text
from decodekit.scores.evaluate import Scores, score
from decodekit.scores.needs import Needs
from decodekit.scores.tools import ToolError, Tools

__all__ = ["Needs", "Samples", "Score", "ScoreError", "Scores", "Text", "ToolError", "Tools", "score"]
