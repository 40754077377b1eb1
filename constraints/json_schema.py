"""JSON texts that a JSON Schema, or a Python type, describes."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import jsonschema
from pydantic import Field

from decodekit.constraints.base import Bound, vocabulary_for
from decodekit.constraints.cursor import Compiled
from decodekit.constraints.engines import json_keywords as keywords
from decodekit.constraints.engines.json_judge import QUIET, Judge
from decodekit.constraints.engines.json_reader import Layout
from decodekit.constraints.engines.json_residual import Residual, SchemaMachine
from decodekit.constraints.engines.llguidance import Grammar, GrammarError
from decodekit.constraints.json_formats import FORMATS
from decodekit.constraints.json_source import Source, clip, pointer, read
from decodekit.constraints.schemas.compile import compiled
from decodekit.constraints.schemas.masks import JsonStates
from decodekit.constraints.vocabulary import Vocabulary
from decodekit.errors import ConstraintError, ConstraintWarning
from decodekit.kit import Run
from decodekit.registry import plugin

WHITESPACE: Final[dict[str, dict[str, object]]] = {
    "compact": {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"},
    # never endless: between two tokens of JSON at most one line break and sixteen spaces
    "flexible": {"whitespace_pattern": r"\n? {0,16}"},
}
LATE: Final = ("multipleOf", "unevaluatedItems", "unevaluatedProperties", "$recursiveRef")
"""Keywords of which the residual engine says little before a value closes."""


@plugin(role="constraint", keeps="exact", gives=("mask", "admits"))
class JsonSchema:
    """JSON that `schema` allows; the result's value is the parsed, for a Python type the validated, object.

    schema: a JSON Schema as dict, bool, JSON text or path of a .json file; or a pydantic model, dataclass, TypedDict,
    or any other type that pydantic knows (its objects have no other keys than its fields); or a function, whose
    arguments the object then holds. whitespace: none at all ("compact"), or between any two tokens at most one line
    break and sixteen spaces ("flexible").

    engine: "llguidance" (a grammar; keys come in the order of the schema), "residual" (a reader of JSON with a judge
    of what is open; keys in any order; every keyword of drafts 4 to 2020-12), or "auto": llguidance where it can
    enforce the whole schema, else residual. order: "any" lets keys come in any order, which only residual can.
    formats: assert `format`, where it is known (llguidance always does); as a mere remark only residual takes it.
    digits: characters of a number at most, in residual. lenient: no warnings about what means nothing or is easily
    misunderstood: unknown keywords and formats, patterns that are not anchored.

    An invalid value is never closed. What only the end of a value can tell (`late`) may lead to a dead end.
    """

    schema: Any
    whitespace: Literal["compact", "flexible"] = "compact"
    engine: Literal["auto", "llguidance", "residual", "machine"] = "auto"
    order: Literal["schema", "any"] = "schema"
    formats: bool = True
    digits: Annotated[int, Field(ge=1)] = 64
    lenient: bool = False

    def __post_init__(self) -> None:
        if self.order == "any" and self.engine == "llguidance":
            raise ConstraintError("json_schema: llguidance writes keys in order; drop order='any', or engine=")
        self.source()

    def source(self) -> Source:
        """The schema as a document, and the Python type it came from."""
        return read(self.schema)

    def compile(self, vocabulary: Vocabulary) -> Compiled:
        """For one vocabulary. Raises ConstraintError where a keyword cannot be enforced."""
        document = self.source().document
        self._warn(document)
        if self.engine == "machine":
            return self._machine(document, vocabulary)
        if self.engine == "residual" or self.order == "any" or not self.formats:
            return self._residual(document, vocabulary)
        whole = {} if document is True else dict(document)
        whole["x-guidance"] = WHITESPACE[self.whitespace]
        try:
            return Grammar("start: %json " + json.dumps(whole), vocabulary)
        except GrammarError as error:
            if self.engine == "llguidance" or "Unsatisfiable" in str(error):
                raise _refusal(str(error), document) from None
        return self._residual(document, vocabulary)

    def _machine(self, document: Any, vocabulary: Vocabulary) -> Compiled:
        machine, notes = compiled(
            document, self.formats, self.order == "schema", self.whitespace == "flexible", self.digits
        )
        for said in [] if self.lenient else notes:
            warnings.warn(f"json_schema: {said}; lenient=True says nothing", ConstraintWarning, stacklevel=4)
        return JsonStates(machine, vocabulary)

    def _residual(self, document: Any, vocabulary: Vocabulary) -> Compiled:
        layout = Layout(16, True, self.digits) if self.whitespace == "flexible" else Layout(digits=self.digits)
        try:
            return Residual(SchemaMachine(Judge(document, self.formats), layout), vocabulary)
        except RecursionError:
            raise ConstraintError("the schema is nested too deeply to be read; flatten it") from None

    def _warn(self, document: Any) -> None:
        for said in [] if self.lenient else remarks(document, self.formats):
            warnings.warn(f"json_schema: {said}; lenient=True says nothing", ConstraintWarning, stacklevel=3)

    def late(self) -> list[str]:
        """JSON pointers of what the residual engine judges only where the value closes."""
        document = self.source().document
        return sorted({pointer(place) for name in LATE for place in _places(document, name)})

    def bind(self, run: Run) -> Bound:
        """Compiled for the run's model, following its rows."""
        return Bound(self.compile(vocabulary_for(run)), run)

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


@plugin(role="constraint", keeps="exact", gives=("mask", "admits"))
class Json:
    """Any JSON value. whitespace: as for `json_schema`. The result's value is the parsed text."""

    whitespace: Literal["compact", "flexible"] = "compact"

    def compile(self, vocabulary: Vocabulary) -> Compiled:
        """For one vocabulary."""
        return JsonSchema(True, self.whitespace).compile(vocabulary)

    def bind(self, run: Run) -> Bound:
        """Compiled for the run's model, following its rows."""
        return Bound(self.compile(vocabulary_for(run)), run)

    def judge(self, text: str) -> bool:
        """Whether `text` is JSON."""
        return JsonSchema(True).judge(text)

    def value(self, text: str) -> Any:
        """The parsed text; None where it is not complete."""
        return JsonSchema(True).value(text)


def remarks(document: Any, formats: bool = True) -> list[str]:
    """What in a schema means nothing, or less than it seems to, each in a few words."""
    if not isinstance(document, dict):
        return []
    kind = jsonschema.validators.validator_for(document, default=jsonschema.Draft202012Validator)
    known = {*kind.VALIDATORS, *QUIET}
    out = []
    for path, schema in _schemas(document, ()):
        out += [
            f"the keyword {name!r} at {pointer(path)} is unknown to the draft" for name in schema if name not in known
        ]
        name = schema.get("format")
        if isinstance(name, str) and formats and name not in FORMATS and name != "regex":
            out.append(f"the format {name!r} at {pointer(path)} is not known here and asserts nothing")
        text = schema.get("pattern")
        if isinstance(text, str) and not (text.startswith("^") and text.endswith("$")):
            out.append(f"the pattern {text!r} at {pointer(path)} is not anchored, so it need only occur in the text")
    return out


def _schemas(schema: Any, path: tuple[object, ...]) -> Iterator[tuple[tuple[object, ...], dict[str, Any]]]:
    """Every subschema with its path, those under $defs included."""
    if isinstance(schema, dict):
        yield path, schema
        for steps, one in keywords.places_below(schema):
            yield from _schemas(one, (*path, *steps))


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
