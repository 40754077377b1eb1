"""Molecules as SMILES, after examples."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Annotated

from pydantic import Field

from decodekit.comparison.task import Item, constraint
from decodekit.errors import OptionError
from decodekit.registry.declaration import plugin

KNOWN = (
    "CCO",
    "CC(=O)O",
    "c1ccccc1",
    "CC(=O)Oc1ccccc1C(=O)O",
    "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",
    "CC(C)Cc1ccc(cc1)C(C)C(=O)O",
    "CC(=O)Nc1ccc(O)cc1",
    "OCC1OC(O)C(O)C(O)C1O",
    "NC(=O)c1cccnc1",
    "CC(N)C(=O)O",
    "c1ccc2ccccc2c1",
    "C1CCCCC1",
    "CCN(CC)CC",
    "COc1cc(C=O)ccc1O",
    "OC(=O)CC(O)(CC(O)=O)C(O)=O",
    "CSCCC(N)C(=O)O",
)
"""Well-known small molecules, ethanol to methionine."""


@plugin(role="task", paper="arXiv 2504.05410, molecular synthesis (there scored by drug-likeness)")
class Smiles:
    """A new molecule after `shots` examples; score: 1 where it is a valid SMILES text of at least two atoms that is
    none of the examples.

    RDKit judges where it is installed, else the constraint `smiles` itself, and a score is then about the strategy's
    use of it only.

    Args:
        path: a file with one SMILES text a line; None: sixteen built-in ones.
        limit: how many prompts, each with its own draw of examples.
        shots: examples in a prompt.
        seed: of the draws.
        most: tokens that an answer may have.
    """

    path: str | None = None
    limit: Annotated[int, Field(ge=1)] = 20
    shots: Annotated[int, Field(ge=1)] = 8
    seed: int = 0
    most: Annotated[int, Field(ge=1)] = 100

    def items(self) -> list[Item]:
        """Prompts of `shots` molecules, one a line."""
        pool = self._pool()
        rng = random.Random(self.seed)
        limit = constraint("smiles")
        draws = [rng.sample(pool, min(self.shots, len(pool))) for _ in range(self.limit)]
        return [
            Item(f"{number}", "\n".join(shown) + "\n", limit, tuple(shown), self.most)
            for number, shown in enumerate(draws)
        ]

    def _pool(self) -> list[str]:
        if self.path is None:
            return list(KNOWN)
        try:
            found = Path(self.path).read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise OptionError(f"smiles: {self.path!r} cannot be read ({error}); give one SMILES text a line") from None
        if not found:
            raise OptionError(f"smiles: {self.path!r} is empty; give one SMILES text a line")
        return found

    def score(self, item: Item, text: str) -> float:
        """Validity and novelty against the prompt."""
        atoms = sum(letter.isalpha() for letter in text)
        return float(atoms > 1 and text not in item.gold and _valid(text))


def _valid(text: str) -> bool:
    try:
        from rdkit import Chem, RDLogger
    except ImportError:
        return bool(constraint("smiles").judge(text))
    RDLogger.DisableLog("rdApp.*")
    return Chem.MolFromSmiles(text) is not None
