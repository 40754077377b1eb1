"""JSON texts that a JSON Schema, or a Python type, describes."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Any, Final, Literal

import jsonschema
from pydantic import Field

from decodekit.core.bound import BindContext
from decodekit.errors import ConstraintError, ConstraintWarning
from decodekit.registry.declaration import plugin

from ..automata.patterns import Tree
from ..backends.llguidance import Grammar, GrammarError
from ..core.bound import Bound
from ..core.compile_cache import bound
from ..core.cursor import Compiled
from ..core.vocabulary import Vocabulary
from .as_pattern import flat_schema
from .compile import compiled, late
from .layout import Layout, Whitespace
from .masks import JsonStates
from .remarks import remarks
from .satisfiability import Bounds
from .source import Source, clip, pointer, read

DIGITS: Final = 64


@plugin(role="constraint", exactness="exact", provides=("mask", "admits"))
class JsonSchema:
    """JSON that `schema` allows; the result's value is the parsed, for a Python type the validated, object.

    schema: a JSON Schema as dict, bool, JSON text or path of a .json file; or a pydantic model, dataclass, TypedDict,
    or any other type that pydantic knows (its objects have no other keys than its fields); or a function, whose
    arguments the object then holds.

    whitespace: between the tokens of JSON; never before or after the whole text.
        "flexible": what models write: between any two tokens nothing, one space, or a line break with at most four
            spaces or one tab for each level of nesting that the schema allows (16 levels where it allows any number);
        "compact": none; "single": one space after ":" and ",", exactly as `json.dumps(x)` writes it;
        0 to 8: exactly as `json.dumps(x, indent=whitespace)` writes it, by the machine.

    engine: "llguidance" (a grammar; keys come in the order of the schema), "machine" (formulas followed byte by byte;
    every keyword of drafts 4 to 2020-12), or "auto": llguidance where it can enforce the whole schema, else machine.
    order: keys in the order of the "schema", or in "any" (by the machine); None leaves it to the engine: llguidance
    keeps it, the machine does not. formats: assert `format`, where it is known; as a mere remark only the
    machine takes it. digits, max_string, max_items: the most digits of a number, characters of a string, and items of
    an array (and properties of an object that the schema does not name) where the schema sets no bound of its own; a
    bound, like order="any", needs the machine. Without one its numbers end after 64 digits. lenient: no warnings about
    what means nothing or is easily misunderstood: unknown keywords and formats, patterns that are not anchored.

    An invalid value is never closed. What only the end of a value can tell (`late`) may lead to a dead end.
    """

    schema: Any
    whitespace: Whitespace = "flexible"
    engine: Literal["auto", "llguidance", "machine"] = "auto"
    order: Literal["schema", "any"] | None = None
    formats: bool = True
    digits: Annotated[int, Field(ge=1)] | None = None
    max_string: Annotated[int, Field(ge=1)] | None = None
    max_items: Annotated[int, Field(ge=1)] | None = None
    lenient: bool = False

    def __post_init__(self) -> None:
        if self.order == "any" and self.engine == "llguidance":
            raise ConstraintError("json_schema: llguidance writes keys in order; drop order='any', or engine=")
        if self._bounded() and self.engine == "llguidance":
            raise ConstraintError(
                "json_schema: llguidance knows no bounds but those of the schema; drop digits, max_string and "
                "max_items, or engine="
            )
        if isinstance(self.whitespace, int) and self.engine == "llguidance":
            raise ConstraintError(
                "json_schema: llguidance cannot count the levels that exact indentation needs; "
                "take whitespace='flexible', or drop engine="
            )
        self.source()

    def source(self) -> Source:
        """The schema as a document, and the Python type it came from."""
        return self._read

    @cached_property
    def _read(self) -> Source:
        return read(self.schema)

    def compile(self, vocabulary: Vocabulary) -> Compiled:
        """For one vocabulary. Raises ConstraintError where a keyword cannot be enforced."""
        document = self.source().document
        self._warn(document)
        apart = self.order == "any" or not self.formats or self._bounded() or isinstance(self.whitespace, int)
        if self.engine == "machine" or (apart and self.engine == "auto"):
            return self._machine(document, vocabulary)
        whole = {} if document is True else dict(document)
        layout = Layout.of(self.whitespace, document)
        whole["x-guidance"] = layout.guidance()
        skipped = b" \t\r\n" if layout.flexible else b""
        try:
            return Grammar("start: %json " + json.dumps(whole), vocabulary, skipped=skipped)
        except GrammarError as error:
            if self.engine == "llguidance":
                raise _refusal(str(error), document) from None
        return self._machine(document, vocabulary)

    def flat(self) -> list[Tree]:
        """What an automaton can hold of the schema, for canvases. Raises ConstraintError where that is not all."""
        return [flat_schema(self.source().document, self.whitespace)]

    def _bounded(self) -> bool:
        return not (self.digits is self.max_string is self.max_items is None)

    def _machine(self, document: Any, vocabulary: Vocabulary) -> Compiled:
        bounds = Bounds(self.digits or DIGITS, self.max_string, self.max_items)
        machine = compiled(document, self.formats, self.order == "schema", self.whitespace, bounds)
        return JsonStates(machine, vocabulary)

    def _warn(self, document: Any) -> None:
        for said in [] if self.lenient else remarks(document, self.formats):
            warnings.warn(f"json_schema: {said}; lenient=True says nothing", ConstraintWarning, stacklevel=3)

    def late(self) -> list[str]:
        """What the machine judges only where the value closes: JSON pointers, and why."""
        return late(self.source().document)

    def meaning(self) -> object:
        """What it consists of, whatever form the schema has (:mod:`decodekit.constraints.core.compile_cache`)."""
        bounds = (self.digits, self.max_string, self.max_items)
        return (self.source().document, self.whitespace, self.engine, self.order, self.formats, self.lenient, bounds)

    def bind(self, run: BindContext) -> Bound:
        """Compiled for the run's model, following its rows."""
        return bound(self, run)

    def judge(self, text: str) -> bool:
        """Whether `text` is JSON and satisfies the schema, by the jsonschema library (formats are not looked at)."""
        try:
            return bool(_validator(self.source().document).is_valid(json.loads(text, parse_constant=_refuse)))
        except (ValueError, RecursionError):
            return False

    def value(self, text: str) -> Any:
        """The parsed text; for a Python type the validated object. None where `text` is not complete or not valid.

        The value `null` gives None as well; `judge` tells the two apart.
        """
        source = self.source()
        try:
            if source.adapter is not None:
                return source.adapter.validate_json(text)
            return json.loads(text) if self.judge(text) else None
        except (ValueError, RecursionError):  # a pydantic.ValidationError is a ValueError
            return None


@plugin(role="constraint", exactness="exact", provides=("mask", "admits"))
class Json:
    """Any JSON value. whitespace, digits, max_string, max_items: as for `json_schema`. The value is the parsed text."""

    whitespace: Whitespace = "flexible"
    digits: Annotated[int, Field(ge=1)] | None = None
    max_string: Annotated[int, Field(ge=1)] | None = None
    max_items: Annotated[int, Field(ge=1)] | None = None

    def compile(self, vocabulary: Vocabulary) -> Compiled:
        """For one vocabulary."""
        return JsonSchema(
            True, self.whitespace, digits=self.digits, max_string=self.max_string, max_items=self.max_items
        ).compile(vocabulary)

    def bind(self, run: BindContext) -> Bound:
        """Compiled for the run's model, following its rows."""
        return bound(self, run)

    def judge(self, text: str) -> bool:
        """Whether `text` is JSON."""
        return JsonSchema(True).judge(text)

    def value(self, text: str) -> Any:
        """The parsed text; None where it is not complete."""
        return JsonSchema(True).value(text)


def _places(node: object, key: str, path: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    """Where `key` stands in a schema; names of properties are no keywords."""
    if isinstance(node, dict):
        named = bool(path) and path[-1] in ("properties", "$defs", "definitions", "patternProperties")
        if key in node and not named:
            yield (*path, key)
        for name, child in node.items():
            if name not in ("enum", "const", "default", "examples") or named:
                yield from _places(child, key, (*path, name))
    elif isinstance(node, list):
        for i, child in enumerate(node):
            yield from _places(child, key, (*path, i))


def _refusal(message: str, document: dict[str, Any] | Literal[True]) -> ConstraintError:
    """The engine's refusal as one sentence that names the keyword and where it stands."""
    lines = [line.strip() for line in message.splitlines()]
    first = next((line for line in lines if "failed to compile JSON schema" in line), lines[0])
    detail = next((line for line in lines if line.startswith("error: ")), "")  # of a regular expression inside
    reason = detail.removeprefix("error: ") or first.split("failed to compile JSON schema:")[-1].strip()
    listed = re.search(r"Unimplemented keys: (\[.*\])", reason)
    if not listed:
        return ConstraintError(f"the schema cannot be enforced: {clip(reason)}; change that part of it")
    keys: list[str] = json.loads(listed[1])
    found = [pointer(place) for key in keys for place in _places(document, key)][:3]
    where = f" (at {', '.join(found)})" if found else ""
    names = ", ".join(repr(key) for key in keys)
    return ConstraintError(
        f"the schema uses {names}{where}, which cannot be enforced while a text is written; "
        f"leave it out and check the value afterwards"
    )


def _refuse(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _validator(document: dict[str, Any] | Literal[True]) -> Any:
    kind = jsonschema.validators.validator_for(document, default=jsonschema.Draft202012Validator)
    return kind(document)
