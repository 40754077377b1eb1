"""For a family that nobody has tested: does its cached reading agree with its plain forward pass?"""

from __future__ import annotations

from typing import Any

import torch

from decodekit.core.cost import Cost
from decodekit.core.rows import Rows
from decodekit.errors import DecodekitError, ModelError
from decodekit.models.append_only_cache import HolesReader
from decodekit.models.causal import CausalReader
from decodekit.models.forward import Forward

_LENGTHS = (13, 7)


def fitting_cache(hf: Any, name: str) -> Any:
    """The kind of cache with which model `hf` reads ragged rows, rolled back once, as it reads them plainly.

    Raises:
        ModelError: it has state that cannot be rolled back, by any means that we have.
    """
    try:
        forward = Forward(hf, name, None)
        if _agrees(CausalReader(forward, Cost(), "probe"), forward):
            return "slab"
        if _agrees(HolesReader(forward, Cost(), "probe"), forward):
            return "holes"
    except DecodekitError:
        raise
    except Exception as problem:  # whatever an unknown architecture does with a cache that is not its own
        raise ModelError(
            f"{hf.config.model_type} cannot be read through a cache ({type(problem).__name__}); "
            "load it with cache='none', which re-reads the text at every step"
        ) from problem
    raise ModelError(
        f"{hf.config.model_type} does not read through a cache as it reads plainly; "
        "load it with cache='none', which re-reads the text at every step"
    )


def _agrees(reader: CausalReader | HolesReader, forward: Forward) -> bool:
    ids = torch.arange(2 * max(_LENGTHS)).reshape(2, -1) * 7919 % min(forward.vocab, 997)
    n = torch.tensor(_LENGTHS, device=forward.device)
    rows = Rows([ids[r, :length].tolist() for r, length in enumerate(_LENGTHS)], n + 9, n * 0, n * 0, n * 0)
    worst = 0.0
    for _ in range(4):  # read, guess, read on, and roll the second guess back
        at = rows.n[:, None] + torch.arange(3, device=forward.device)
        rows.write(at[:, :2], at[:, :2] * 31 % min(forward.vocab, 997), torch.ones_like(at[:, :2], dtype=torch.bool))
        logits = reader.read(rows, at)  # [2, 3, V]
        for r in range(2):
            truth = forward.alone(rows.tokens[r : r + 1, : int(at[r, -1])])[0, -3:]
            worst = max(worst, float((logits[r] - truth).abs().max() / truth.abs().max().clamp(min=1.0)))
        rows.commit(at[:, :1], at[:, :1] * 17 % min(forward.vocab, 997), torch.ones_like(at[:, :1], dtype=torch.bool))
    return worst < (1e-4 if forward.dtype in (torch.float32, torch.float64) else 5e-2)
