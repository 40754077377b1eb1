"""A codebook: the vectors behind the tokens of a visual model, and who is near whom."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from decodekit.core.rows import NONE
from decodekit.errors import CompositionError

FILE: Final = "codebook.safetensors"
"""Beside a model's weights: the tensor `codebook` [N, W], and `first` [1] where token 0 is not its first entry."""
_ROWS: Final = 512  # of the distance matrix at a time: 16,384 entries would need 2 GB at once


class Codebook:
    """Vectors of N codes; entry i is token `first` + i.

    Args:
        vectors: [N, W], as the image decoder sees them (normalised, where it normalises).
        first: token id of the first entry.
    """

    def __init__(self, vectors: Tensor, first: int = 0) -> None:
        self.vectors, self.first = vectors, first
        self._tables: dict[tuple[int, int], Tensor] = {}

    def __len__(self) -> int:
        return len(self.vectors)

    def near(self, k: int, vocab: int) -> Tensor:
        """[vocab, k] token ids: the k nearest entries by Euclidean distance, nearest first, without the token itself.

        NONE throughout for tokens that are no codes. Computed once for each k, in float64.

        Raises:
            CompositionError: fewer than k other entries, or entries past the vocabulary.
        """
        count = len(self)
        if k >= count:
            raise CompositionError(
                f"neighbours={k} asks for more than a codebook of {count} entries has beside the token itself; "
                f"give at most {count - 1}"
            )
        if self.first + count > vocab:
            raise CompositionError(
                f"the codebook has tokens {self.first} to {self.first + count - 1}, and the model's end at "
                f"{vocab - 1}; give the codebook of this model"
            )
        if (k, vocab) not in self._tables:
            exact = self.vectors.double()
            parts = []
            for begin in range(0, count, _ROWS):
                apart = torch.cdist(exact[begin : begin + _ROWS], exact)  # [B, N]
                here = torch.arange(begin, begin + len(apart), device=apart.device)
                apart[torch.arange(len(apart), device=apart.device), here] = torch.inf
                parts.append(apart.topk(k, largest=False, sorted=True).indices)
            table = torch.full((vocab, k), NONE, dtype=torch.int64, device=exact.device)
            table[self.first : self.first + count] = torch.cat(parts) + self.first
            self._tables[k, vocab] = table
        return self._tables[k, vocab]


def codebook_beside(folder: str | os.PathLike[str]) -> Codebook | None:
    """The codebook that lies in a model's folder, or None."""
    path = Path(folder) / FILE
    return _read(path) if path.is_file() else None


def codebook_of(given: Any) -> Codebook:
    """A codebook from what a user gives: one, an array [N, W] of any kind, or the path of a safetensors file.

    The file's tensor is the one called `codebook`, or the only one with two dimensions.

    Raises:
        CompositionError: none of these; the sentence says what was found.
    """
    if isinstance(given, Codebook):
        return given
    if isinstance(given, str | os.PathLike):
        path = Path(given)
        if not path.is_file():
            raise CompositionError(f"there is no codebook file {os.fspath(given)!r}; give a safetensors file")
        return _read(path)
    try:
        vectors = torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError):
        raise CompositionError(
            f"codebook= is of type {type(given).__name__}; give an array [N, W] or the path of a safetensors file"
        ) from None
    return _checked(vectors, 0, "the codebook given")


def _read(path: Path) -> Codebook:
    try:
        tensors = load_file(str(path))
    except (OSError, SafetensorError) as problem:
        said = " ".join(str(problem).split())
        raise CompositionError(
            f"the codebook file {str(path)!r} cannot be read: {said}; give a safetensors file"
        ) from None
    tables = [name for name, value in tensors.items() if value.dim() == 2]
    name = "codebook" if "codebook" in tensors else tables[0] if len(tables) == 1 else ""
    if not name:
        held = ", ".join(sorted(tensors)) or "nothing"
        raise CompositionError(f"the codebook file {str(path)!r} holds {held}; name the table `codebook`")
    first = int(tensors["first"][0]) if "first" in tensors else 0
    return _checked(tensors[name], first, f"the codebook file {str(path)!r}")


def _checked(vectors: Tensor, first: int, what: str) -> Codebook:
    if vectors.dim() != 2 or len(vectors) < 2:
        raise CompositionError(
            f"{what} has the shape {list(vectors.shape)}; a codebook is [N, W] with two entries or more"
        )
    if not bool(vectors.double().isfinite().all()):
        raise CompositionError(f"{what} holds values that are no finite numbers; repair it")
    return Codebook(vectors, first)
