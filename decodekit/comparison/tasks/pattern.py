"""Pattern matching: write a text that a regular expression matches, look-around and back-references included."""

from __future__ import annotations

from typing import Annotated

import regex
from pydantic import Field

from decodekit.comparison.task import Item, constraint, first, lines, texts
from decodekit.errors import ConstraintError
from decodekit.registry.declaration import plugin

PATTERNS = (
    r"([a-z]{3})-\1",
    r"(\d\d)(\d\d)-\2\1",
    r"(?=.*\d)(?=.*[A-Z])[A-Za-z0-9]{6,10}",
    r"(?!.*aa)[ab]{5,9}",
    r"(\w)(\w)\2\1",
    r"(['\"])[a-z ]{2,12}\1",
    r"<([a-z]{1,4})>[a-z]{1,8}</\1>",
    r"[a-z]+(?<!s)s?x",
    r"(?:(\d)(?!\1)){4}\d",
    r"[0-9a-f]{8}-[0-9a-f]{4}",
    r"(?i)hello,? world!?",
    r"(19|20)\d{2}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])",
)
"""Half of them beyond finite automata."""


@plugin(role="task", paper="arXiv 2504.05410, pattern matching")
class Pattern:
    """A text for a regular expression; score: 1 where the `regex` module matches all of it.

    Args:
        path: JSONL with a key `regex` (and `id`) a line; patterns that do not compile are left out. None: a dozen
            built-in ones.
        limit: how many items, or all.
        most: tokens that an answer may have.
    """

    path: str | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    most: Annotated[int, Field(ge=1)] = 60

    def items(self) -> list[Item]:
        """One item for each usable pattern."""
        return first((self._item(name, text) for name, text in self._patterns() if _usable(text)), self.limit)

    def _patterns(self) -> list[tuple[str, str]]:
        if self.path is None:
            return [(f"{number}", text) for number, text in enumerate(PATTERNS)]
        found = lines(self.path, "pattern", texts("regex"))
        return [(str(row.get("id", number)), row["regex"]) for number, row in found]

    def _item(self, name: str, text: str) -> Item:
        prompt = f"A text that matches the regular expression {text}\n"
        return Item(name, prompt, constraint("regex", text), text, self.most)

    def score(self, item: Item, text: str) -> float:
        """Full match, by an engine that knows look-around, back-references and recursion."""
        try:
            return float(regex.fullmatch(item.gold, text, timeout=1.0) is not None)
        except TimeoutError:
            return 0.0


def _usable(text: str) -> bool:
    """Whether the pattern means something here: PCRE's own syntax does not."""
    try:
        regex.compile(text)
        constraint("regex", text)
    except (regex.error, ConstraintError):
        return False
    return True
