"""decodekit: constrained and speculative decoding of language models, as plugins around one generation loop.

Every registered plugin is an attribute: `decodekit.temperature(0.8)`, `decodekit.json_schema(User)`.
Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from decodekit.analysis import diagnostics as diagnostics
    from decodekit.api import Decoder, generate, stream
    from decodekit.comparison import compare
    from decodekit.errors import DecodekitError
    from decodekit.integrations.transformers import hf
    from decodekit.models.load import load
    from decodekit.particles import critics as critics
    from decodekit.particles import potentials as potentials
    from decodekit.registry.declaration import plugin
    from decodekit.registry.spec import Strategy
    from decodekit.run.results import Piece, Result, Sample
    from decodekit.scores.evaluate import score
    from decodekit.trace.trace import Trace
    from decodekit.vision import images as images

_HOME = {
    "Adaptive": "decodekit.ensembles.adaptive",
    "Bundle": "decodekit.ensembles.adaptive",
    "Decoder": "decodekit.api",
    "DecodekitError": "decodekit.errors",
    "Piece": "decodekit.run.results",
    "Probe": "decodekit.ensembles.adaptive",
    "Result": "decodekit.run.results",
    "Sample": "decodekit.run.results",
    "Strategy": "decodekit.registry.spec",
    "Trace": "decodekit.trace.trace",
    "compare": "decodekit.comparison",
    "generate": "decodekit.api",
    "hf": "decodekit.integrations.transformers",
    "load": "decodekit.models.load",
    "plugin": "decodekit.registry.declaration",
    "score": "decodekit.scores.evaluate",
    "stream": "decodekit.api",
}

_MODULES = {
    "critics": "decodekit.particles.critics",
    "diagnostics": "decodekit.analysis.diagnostics",
    "images": "decodekit.vision.images",
    "potentials": "decodekit.particles.potentials",
}

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
        return import_module(_MODULES[name])
    from decodekit.errors import UnknownPlugin
    from decodekit.registry.discovery import load as plugin_class

    try:
        return plugin_class(name)
    except UnknownPlugin as problem:
        raise AttributeError(f"module 'decodekit' has no attribute {name!r}: {problem}") from None


def __dir__() -> list[str]:
    from decodekit.registry.discovery import names

    return sorted({*__all__, *_MODULES, *names()})
