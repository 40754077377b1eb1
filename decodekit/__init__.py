"""decodekit: constrained and speculative decoding of language models, as plugins around one generation loop.

Every registered plugin is an attribute: `decodekit.temperature(0.8)`, `decodekit.json_schema(User)`.
Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from decodekit import critics as critics
    from decodekit import diagnostics as diagnostics
    from decodekit import images as images
    from decodekit import potentials as potentials
    from decodekit.api import Decoder, generate, stream
    from decodekit.bridge import hf
    from decodekit.compare import compare
    from decodekit.errors import DecodekitError
    from decodekit.models.load import load
    from decodekit.registry import plugin
    from decodekit.results import Piece, Result, Sample
    from decodekit.scores.evaluate import score
    from decodekit.spec import Strategy
    from decodekit.trace import Trace

_HOME = {
    "Adaptive": "decodekit.adaptive",
    "Bundle": "decodekit.adaptive",
    "Decoder": "decodekit.api",
    "DecodekitError": "decodekit.errors",
    "Piece": "decodekit.results",
    "Probe": "decodekit.adaptive",
    "Result": "decodekit.results",
    "Sample": "decodekit.results",
    "Strategy": "decodekit.spec",
    "Trace": "decodekit.trace",
    "compare": "decodekit.compare",
    "generate": "decodekit.api",
    "hf": "decodekit.bridge",
    "load": "decodekit.models.load",
    "plugin": "decodekit.registry",
    "score": "decodekit.scores.evaluate",
    "stream": "decodekit.api",
}

_MODULES = ("critics", "diagnostics", "images", "potentials")

__all__ = [
    "Adaptive",
    "Bundle",
    "DecodekitError",
    "Decoder",
    "Piece",
    "Probe",
    "Result",
    "Sample",
    "Strategy",
    "Trace",
    "__version__",
    "compare",
    "generate",
    "hf",
    "load",
    "plugin",
    "score",
    "stream",
]


def __getattr__(name: str) -> Any:
    """What a user calls, imported when it is used; then any registered plugin."""
    if name.startswith("_"):
        raise AttributeError(f"module 'decodekit' has no attribute {name!r}")
    if name in _HOME:
        found = getattr(import_module(_HOME[name]), name)
        globals()[name] = found
        return found
    if name in _MODULES:
        return import_module(f"decodekit.{name}")
    from decodekit.errors import UnknownPlugin
    from decodekit.registry import load as plugin_class

    try:
        return plugin_class(name)
    except UnknownPlugin as problem:
        raise AttributeError(f"module 'decodekit' has no attribute {name!r}: {problem}") from None


def __dir__() -> list[str]:
    from decodekit.registry import names

    return sorted({*globals(), *_HOME, *_MODULES, *names()})
