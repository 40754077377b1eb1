"""White space between the tokens of JSON: which of it each style of `json_schema` allows, for all of its engines.

No style has white space before a text or after it. "flexible" means what models and `json.dumps` write: between any two
tokens nothing, one space, or a line break with indentation. The indentation is bounded, so a model cannot write white
space for ever, by :data:`WIDTH` spaces or one tab for each level of nesting that the schema allows. A pattern, which is
what llguidance takes, cannot count the level that a text is at, so the bound is the same at every level of a text.
The other styles are exact: each token has one place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Field

Whitespace: TypeAlias = Literal["flexible", "compact", "single"] | Annotated[int, Field(ge=0, le=8, strict=True)]
"""An `int` is the indentation of `json.dumps(indent=...)`."""

WIDTH: Final = 4
"""The most spaces for one level, where white space is flexible."""
LEVELS: Final = 16
"""The levels of nesting that indentation is allowed for, where the schema allows any number."""


@dataclass(frozen=True)
class Layout:
    """The white space of one schema's texts. levels: of nesting that the schema allows, or :data:`LEVELS`."""

    style: Whitespace = "flexible"
    levels: int = LEVELS

    @classmethod
    def of(cls, style: Whitespace, document: Any) -> Layout:
        """For the texts of a schema."""
        found = levels(document)
        return cls(style, LEVELS if found is None else max(found, 1))

    @property
    def flexible(self) -> bool:
        """Whether white space is optional."""
        return self.style == "flexible"

    @property
    def pattern(self) -> str:
        """A regular expression of the white space between two tokens, where there is any; for "flexible" only."""
        return rf" |\r?\n( {{0,{WIDTH * self.levels}}}|\t{{0,{self.levels}}})"

    @property
    def colon(self) -> str:
        """What an exact style has after a colon."""
        return "" if self.style == "compact" else " "

    def line(self, depth: int) -> str:
        """What an exact style has after an opening bracket and before a closing one, unless nothing is between them.

        depth: how many brackets are open around what follows.
        """
        return "\n" + " " * (self.style * depth) if isinstance(self.style, int) else ""

    def comma(self, depth: int) -> str:
        """What an exact style has after a comma."""
        return " " if self.style == "single" else self.line(depth)

    @property
    def jump(self) -> int:
        """Tokens that a shortest completion may grow by indentation alone when one token opens something."""
        return 4 * self.style * self.levels if isinstance(self.style, int) else 0

    def guidance(self) -> dict[str, object]:
        """What llguidance is told. It cannot count the levels that exact indentation needs."""
        if self.flexible:
            return {"whitespace_pattern": self.pattern}
        commas = {"item_separator": f",{self.comma(0)}", "key_separator": f":{self.colon}"}
        return {"whitespace_flexible": False, **commas}


def levels(schema: Any) -> int | None:
    """A bound of how many objects and arrays are within each other in a value of `schema`; None where none is found."""
    return _Levels(schema).of(schema)


class _Levels:
    """Bounds of the parts of one document. A part that is not understood has none."""

    def __init__(self, document: Any) -> None:
        self._document = document
        # By reference, each looked at once: definitions that name each other have exponentially many paths. One that is
        # met while it is looked at has no bound, and neither has what led back to it.
        self._targets: dict[str, int | None] = {}

    def of(self, schema: Any) -> int | None:
        """The bound of one part."""
        if not isinstance(schema, dict):
            return None if schema else 0
        if "$ref" in schema:  # early drafts ignore what stands beside it
            return self._target(schema["$ref"])
        if "enum" in schema or "const" in schema:
            return max(map(_depth, schema.get("enum", [schema.get("const")])), default=0)
        bounds = [self._own(schema)]
        bounds += [self.of(part) for part in schema.get("allOf", ())]
        for word in ("anyOf", "oneOf"):
            if word in schema:
                bounds.append(_most(self.of(part) for part in schema[word]))
        return min((bound for bound in bounds if bound is not None), default=None)

    def _target(self, to: str) -> int | None:
        if to not in self._targets:
            self._targets[to] = None
            self._targets[to] = self._found(to)
        return self._targets[to]

    def _found(self, to: str) -> int | None:
        if to != "#" and not to.startswith("#/"):
            return None
        here = self._document
        for step in [step.replace("~1", "/").replace("~0", "~") for step in to.split("/")[1:]]:
            here = here.get(step) if isinstance(here, dict) else None
        return None if here is None else self.of(here)

    def _own(self, schema: dict[str, Any]) -> int | None:
        kinds = schema.get("type", ("object", "array"))
        kinds = {kinds} if isinstance(kinds, str) else set(kinds)
        inside: list[Any] = []
        if "object" in kinds:
            for word in ("properties", "patternProperties"):
                inside += schema.get(word, {}).values()
            inside.append(schema.get("additionalProperties", True))
        if "array" in kinds and schema.get("maxItems") != 0:
            items = schema.get("items", True)
            inside += [*schema.get("prefixItems", ()), *(items if isinstance(items, list) else [items])]
            inside += [schema.get("additionalItems", True)] if isinstance(items, list) else []
        if not kinds & {"object", "array"}:
            return 0
        found = _most(self.of(part) for part in inside)
        return None if found is None else found + 1


def _most(bounds: Any) -> int | None:
    most = 0
    for bound in bounds:
        if bound is None:
            return None
        most = max(most, bound)
    return most


def _depth(value: Any) -> int:
    """How many lists and dicts are within each other."""
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(_depth, value.values() if isinstance(value, dict) else value), default=0)
