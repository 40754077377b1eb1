"""The zoo: three tiny models that travel inside the package, with the data and the script that made them.

``base`` (a causal LM), ``draft`` (a much smaller causal LM for speculation) and ``masked`` (a bidirectional masked
diffusion LM) share one byte-level tokenizer and two tasks: a sentence to a JSON record, a question to a SQL statement.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from decodekit.errors import UnknownModel

FOLDER: Final = Path(__file__).parent
"""Where the embedded models lie."""
_NAMES = ("base", "draft", "masked", "deep", "skip", "exits", "hops", "sums", "visual", "visual-draft")


def names() -> tuple[str, ...]:
    """Names of the embedded models, in the order of the documentation."""
    return _NAMES


def path(name: str) -> Path:
    """Folder of the embedded model ``name``, in the Hugging Face layout.

    Raises:
        decodekit.errors.UnknownModel: no embedded model has this name, or its weights are not installed.
    """
    if name not in _NAMES:
        raise UnknownModel(f"no embedded model is called {name!r}; the zoo holds {', '.join(_NAMES)}")
    folder = FOLDER / name
    if not (folder / "model.safetensors").is_file():
        raise UnknownModel(
            f"the weights of zoo model {name!r} are missing from {folder.name}/; reinstall decodekit "
            f"or train them with `python -m training.train {name}`"
        )
    return folder


__all__ = ["names", "path"]
