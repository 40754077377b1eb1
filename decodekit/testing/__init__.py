"""For plugin authors: an exact oracle, tiny models whose laws are known, and the conformance suite."""

from decodekit.testing.conformance import Check, check_plugin, checks_for
from decodekit.testing.harness import Outcome, run
from decodekit.testing.oracle import FALSE_ALARM, Laws, chi_square, enumerate_law
from decodekit.testing.subject import ConformanceError
from decodekit.testing.tables import TableModel, ToyTokenizer
from decodekit.testing.toy import ToyConstraint

__all__ = [
    "FALSE_ALARM",
    "Check",
    "ConformanceError",
    "Laws",
    "Outcome",
    "TableModel",
    "ToyConstraint",
    "ToyTokenizer",
    "check_plugin",
    "checks_for",
    "chi_square",
    "enumerate_law",
    "run",
]
