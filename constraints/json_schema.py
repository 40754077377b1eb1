"""JSON texts that a JSON Schema, or a Python type, describes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, Final, Literal

import jsonschema
import pydantic
from typing_extensions import is_typeddict

from decodekit.constraints.base import Bound, vocabulary_for
from decodekit.constraints.cursor import Compiled
from decodekit.constraints.engines.llguidance import Grammar, GrammarError
from decodekit.constraints.vocabulary import Vocabulary
from decodekit.errors import ConstraintError
from decodekit.kit import Run
from decodekit.registry import plugin

WHITESPACE: Final[dict[str, dict[str, object]]] = {
    "compact": {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"},
    # never endless: between two tokens of JSON at most one line break and sixteen spaces
    "flexible": {"whitespace_pattern": r"\n? {0,16}"},
}


@plugin(role="constraint", keeps="exact", gives=("mask", "admits"))
class JsonSchema:
    """JSON that `schema` allows; the result's value is the parsed, for a Python type the validated, object.

    schema: a JSON Schema as dict, bool, JSON text or path of a .json file; or a pydantic model, dataclass, TypedDict,
    or any other type that pydantic knows (its objects have no other keys than its fields). whitespace: none at all
    ("compact"), or between any two tokens at most one line break and sixteen spaces ("flexible").

    Keys come in the order of the schema. Keywords that cannot be enforced are refused by name, never ignored.
    """

    schema: Any
    whitespace: Literal["compact", "flexible"] = "compact"

    def __post_init__(self) -> None:
        self.source()

    def source(self) -> Source:
        """The schema as a document, and the Python type it came from."""
        return read(self.schema)

    def compile(self, vocabulary: Vocabulary) -> Compiled:
        """For one vocabulary. Raises ConstraintError where a keyword cannot be enforced."""
        document = self.source().document
        whole = {} if document is True else dict(document)
        whole["x-guidance"] = WHITESPACE[self.whitespace]
        try:
            return Grammar("start: %json " + json.dumps(whole), vocabulary)
        except GrammarError as error:
            raise _refusal(str(error), document) from None

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


@dataclass(frozen=True)
class Source:
    """A schema that was read. document: the JSON Schema; adapter: the validator of its Python type, if it has one."""

    document: dict[str, Any] | Literal[True]
    adapter: pydantic.TypeAdapter[Any] | None = field(default=None, compare=False)


def is_type(value: object) -> bool:
    """Whether `value` is a type with fields: a pydantic model, a dataclass or a TypedDict."""
    return isinstance(value, type) and (
        issubclass(value, pydantic.BaseModel) or is_dataclass(value) or is_typeddict(value)
    )


def read(schema: Any) -> Source:
    """Any form of a schema, read and checked.

    Raises:
        ConstraintError: it cannot be read, or is no JSON Schema; the message holds the JSON pointer.
    """
    if isinstance(schema, os.PathLike):
        return Source(_checked(_file(Path(schema))))
    if isinstance(schema, str):
        return Source(_checked(_text(schema)))
    if isinstance(schema, bool | dict):
        return Source(_checked(schema))
    if schema is None or isinstance(schema, int | float | list | tuple):
        raise ConstraintError(
            f"a JSON Schema is an object, true or false, and this is of type {type(schema).__name__}; "
            f"give a dict, JSON text, a path, or a Python type"
        )
    try:
        adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(schema)
        document = adapter.json_schema()
    except pydantic.errors.PydanticUserError as error:
        reason = str(error).splitlines()[0]
        raise ConstraintError(
            f"{schema!r} cannot be made a JSON Schema: {reason}; give a pydantic model, dataclass, TypedDict or dict"
        ) from None
    _close(document)
    return Source(_checked(document), adapter)


def _text(text: str) -> object:
    if text.lstrip()[:1] in ("{", "[", '"') or text.strip() in ("true", "false", "null"):
        return _loads(text, "the schema")
    return _file(Path(text))


def _file(path: Path) -> object:
    try:
        return _loads(path.read_text(encoding="utf-8"), f"the schema file {path}")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        if isinstance(error, ConstraintError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise ConstraintError(
            f"the schema {str(path)[:80]!r} is neither JSON text nor a file that can be read ({reason})"
        ) from None


def _loads(text: str, what: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f" at line {error.lineno} column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise ConstraintError(f"{what} is not JSON{where}: {reason}") from None


def _checked(document: object) -> dict[str, Any] | Literal[True]:
    """The document, if it is a schema that allows something."""
    if document is False:
        raise ConstraintError("the schema false allows no text at all; give a schema that some value satisfies")
    if document is True:
        return True
    if not isinstance(document, dict):
        raise ConstraintError(
            f"a JSON Schema is an object, true or false, and this is of type {type(document).__name__}"
        )
    try:
        jsonschema.validators.validator_for(document, default=jsonschema.Draft202012Validator).check_schema(document)
    except jsonschema.SchemaError as error:
        found = _deepest(error)
        raise ConstraintError(f"not a JSON Schema: at {pointer(found.absolute_path)}, {_clip(found.message)}") from None
    return document


def _deepest(error: Any) -> Any:
    while error.context:
        error = max(error.context, key=lambda one: len(one.absolute_path))
    return error


def pointer(path: Any) -> str:
    """A JSON pointer (RFC 6901) in words: `#` for the whole document, else `#/properties/a`."""
    return "#" + "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def _close(node: object) -> None:
    """A Python type has no other fields than its own: its objects get `additionalProperties: false`."""
    if isinstance(node, dict):
        if node.get("type") == "object" and "properties" in node:
            node.setdefault("additionalProperties", False)
        for child in node.values():
            _close(child)
    elif isinstance(node, list):
        for child in node:
            _close(child)


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
        return ConstraintError(f"the schema cannot be enforced: {_clip(reason)}; change that part of it")
    keys: list[str] = json.loads(listed[1])
    found = [pointer(place) for key in keys for place in _places(document, key)][:3]
    where = f" (at {', '.join(found)})" if found else ""
    names = ", ".join(repr(key) for key in keys)
    return ConstraintError(
        f"the schema uses {names}{where}, which cannot be enforced while a text is written; "
        f"leave it out and check the value afterwards"
    )


def _clip(text: str, most: int = 160) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"


def _refuse(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _validator(document: dict[str, Any] | Literal[True]) -> Any:
    kind = jsonschema.validators.validator_for(document, default=jsonschema.Draft202012Validator)
    return kind(document)
