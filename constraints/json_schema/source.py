"""Schemas in any form that a user has them in: dict, JSON text, file, Python type, or the signature of a function."""

from __future__ import annotations

import inspect
import json
import os
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, Literal

import jsonschema
import pydantic
from typing_extensions import is_typeddict

from decodekit.errors import ConstraintError


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
        adapter = _signature(schema) if inspect.isroutine(schema) else pydantic.TypeAdapter(schema)
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
        kind: Any = jsonschema.validators.validator_for(document, default=jsonschema.Draft202012Validator)
        # Patterns are read by those who match them: what is a pattern there need not be one of Python's.
        kind.check_schema(document, format_checker=jsonschema.FormatChecker(formats=()))
    except jsonschema.SchemaError as error:
        found = _deepest(error)
        raise ConstraintError(f"not a JSON Schema: at {pointer(found.absolute_path)}, {clip(found.message)}") from None
    return document


def _deepest(error: Any) -> Any:
    while error.context:
        error = max(error.context, key=lambda one: len(one.absolute_path))
    return error


def pointer(path: Any) -> str:
    """A JSON pointer (RFC 6901) in words: `#` for the whole document, else `#/properties/a`."""
    return "#" + "".join(map(step_of, path))


def step_of(step: object) -> str:
    """One step of a JSON pointer; on one line, whatever is in a name."""
    text = str(step).replace("~", "~0").replace("/", "~1")
    return "/" + "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


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


def clip(text: str, most: int = 160) -> str:
    """`text` on one line, at most so long."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"


def _signature(function: Any) -> pydantic.TypeAdapter[Any]:
    """The arguments of a function as a model: every parameter is a field, those with defaults may be left out."""
    fields: dict[str, Any] = {}
    try:
        parameters = inspect.signature(function, eval_str=True).parameters.values()
    except (NameError, TypeError, ValueError) as error:
        raise ConstraintError(f"the signature of {function!r} cannot be read: {error}; give a model instead") from None
    for one in parameters:
        if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD, one.POSITIONAL_ONLY):
            raise ConstraintError(
                f"the parameter {one.name!r} of {function.__name__} cannot be given by name, so no JSON object can "
                f"hold it; give a function whose parameters all have names"
            )
        kind = Any if one.annotation is one.empty else one.annotation
        fields[one.name] = (kind, ... if one.default is one.empty else one.default)
    return pydantic.TypeAdapter(pydantic.create_model(function.__name__, **fields))
