"""Keywords about arrays and objects, asked of open values (:mod:`json_judge`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from decodekit.constraints.engines.json_judge import BOTH, FAIL, HOLD, Node, Says, every, may
from decodekit.constraints.engines.json_keywords import may_occur, occurs
from decodekit.constraints.engines.json_values import NOTHING, Arr, Obj, Open, Str, extends, same

# --- arrays ----------------------------------------------------------------------------------------------------------


def _elements(node: Node) -> tuple[list[Any], Any]:
    """(schemas of the first elements, the schema of all others), in the words of any draft."""
    items = node.schema.get("items", True)
    if "prefixItems" in node.judge.asserts:
        return node.schema.get("prefixItems", []), items
    if isinstance(items, list):
        return items, node.schema.get("additionalItems", True)
    return [], items


def _of(node: Node, at: int) -> Node:
    first, rest = _elements(node)
    return node.child(first[at] if at < len(first) else rest)


def _items(node: Node, given: Any, value: Open, depth: int) -> int:
    if not isinstance(value, Arr):
        return HOLD
    said = every(_each_item(node, value, depth))
    first, rest = _elements(node)
    more = BOTH if said & HOLD else FAIL
    return said if said == HOLD and rest is True and len(value.items) >= len(first) else more


def _each_item(node: Node, value: Arr, depth: int) -> Iterator[int]:
    for at, one in enumerate(value.items):
        yield HOLD if _of(node, at).valid(one) else FAIL
    if value.open is not None:
        yield _of(node, len(value.items)).look(value.open, depth + 1)


def _count(value: Arr) -> int:
    return len(value.items) + (value.open is not None)


def _least_items(node: Node, given: Any, value: Open, depth: int) -> int:
    if not isinstance(value, Arr):
        return HOLD
    if _count(value) >= given:
        return HOLD
    next_one = _of(node, _count(value))
    room = node.schema.get("maxItems", given) >= given
    return may(room and bool(next_one.look(NOTHING, depth + 1) & HOLD))


def _most_items(node: Node, given: Any, value: Open, depth: int) -> int:
    return may(_count(value) <= given) if isinstance(value, Arr) else HOLD


def _unique(node: Node, given: Any, value: Open, depth: int) -> int:
    if not isinstance(value, Arr) or not given:
        return HOLD
    late = range(max(0, len(value.items) - 3), len(value.items))  # earlier ones were compared when they closed
    if any(same(value.items[at], old) for at in late for old in value.items[:at]):
        return FAIL
    if value.open is None:
        return BOTH
    schema = _of(node, len(value.items)).schema
    choice = schema.get("enum", [schema["const"]] if "const" in schema else None) if isinstance(schema, dict) else None
    if choice is None:
        return BOTH
    left = [one for one in choice if not any(same(one, old) for old in value.items)]
    return may(any(extends(value.open, one) for one in left))


def _contains(node: Node, given: Any, value: Open, depth: int) -> int:
    if not isinstance(value, Arr):
        return HOLD
    counts = "minContains" if "prefixItems" in node.judge.asserts or "unevaluatedItems" in node.judge.asserts else ""
    least = node.schema.get("minContains", 1) if counts else 1
    most = node.schema.get("maxContains") if counts else None
    inner = node.child(given)
    found = sum(inner.valid(one) for one in value.items)
    if most is not None and found > most:
        return FAIL
    if found >= least:
        return HOLD if most is None else BOTH
    limit = node.schema.get("maxItems")
    if limit is not None and found + limit - len(value.items) < least:
        return FAIL
    return may(bool(inner.look(NOTHING, depth + 1) & HOLD))


# --- objects ---------------------------------------------------------------------------------------------------------


def _schemas(node: Node, name: str) -> list[Any]:
    """The schemas that speak of the member `name`."""
    schema = node.schema
    found = [schema["properties"][name]] if name in schema.get("properties", {}) else []
    found += [one for pattern, one in schema.get("patternProperties", {}).items() if occurs(pattern, name)]
    return found or [schema.get("additionalProperties", True)]


def _members(node: Node, given: Any, value: Open, depth: int) -> int:
    if not isinstance(value, Obj):
        return HOLD
    said = every(_each_member(node, value, depth))
    return BOTH if said & HOLD else FAIL


def _each_member(node: Node, value: Obj, depth: int) -> Iterator[int]:
    for name, one in value.members.items():
        for schema in _schemas(node, name):
            yield HOLD if node.child(schema).valid(one) else FAIL
    if value.key is not None:
        for schema in _schemas(node, value.key):
            yield node.child(schema).look(value.open, depth + 1)
    elif value.typing is not None or value.more:
        yield may(_can_be_named(node, value, depth))


def _can_be_named(node: Node, value: Obj, depth: int) -> bool:
    """Whether the key that is being written may become one that is allowed and not there yet."""
    schema = node.schema
    if node.child(schema.get("additionalProperties", True)).look(NOTHING, depth + 1) & HOLD:
        return True  # there is always a longer key
    typing = Str(b'"', 0) if value.typing is None else value.typing
    for name, one in schema.get("properties", {}).items():
        if name not in value.members and typing.fits(name) and node.child(one).look(NOTHING, depth + 1) & HOLD:
            return True
    patterns = [one for one, below in schema.get("patternProperties", {}).items() if below is not False]
    return any(may_occur(one, prefix) for one in patterns for prefix in typing.beginnings())


def _names(node: Node, given: Any, value: Open, depth: int) -> int:
    if not isinstance(value, Obj):
        return HOLD
    inner = node.child(given)
    if any(not inner.valid(name) for name in (*value.members, *([] if value.key is None else [value.key]))):
        return FAIL
    if value.typing is None and not value.more:
        return BOTH
    typing = Str(b'"', 0) if value.typing is None else value.typing
    if isinstance(given, dict) and "enum" in given:  # names that are there already are no choice
        left = [name for name in given["enum"] if isinstance(name, str) and name not in value.members]
        return may(any(typing.fits(name) for name in left))
    return may(bool(inner.look(typing, depth + 1) & HOLD))


def _required(node: Node, given: Any, value: Open, depth: int) -> int:
    if not isinstance(value, Obj) or not isinstance(given, list):
        return HOLD if not isinstance(value, Obj) else BOTH
    return _need(node, given, value, depth)


def _need(node: Node, names: list[str], value: Obj, depth: int) -> int:
    missing = [name for name in names if name not in value.members and name != value.key]
    if not missing:
        return HOLD
    limit = node.schema.get("maxProperties")
    if limit is not None and len(value.members) + (value.key is not None) + len(missing) > limit:
        return FAIL
    possible = (node.child(one).look(NOTHING, depth + 1) & HOLD for name in missing for one in _schemas(node, name))
    return may(all(possible))


def _least_members(node: Node, given: Any, value: Open, depth: int) -> int:
    if not isinstance(value, Obj):
        return HOLD
    count = len(value.members) + (value.key is not None)
    if count >= given:
        return HOLD
    more = Obj(value.members, None, None, None, True)
    return may(node.schema.get("maxProperties", given) >= given and _can_be_named(node, more, depth))


def _most_members(node: Node, given: Any, value: Open, depth: int) -> int:
    if not isinstance(value, Obj):
        return HOLD
    coming = value.key is not None or value.typing is not None or value.more
    return may(len(value.members) + coming <= given)


def _dependent(node: Node, given: Any, value: Open, depth: int) -> int:
    """`dependentRequired`, `dependentSchemas`, and `dependencies`, which is both."""
    if not isinstance(value, Obj):
        return HOLD
    said = every(_each_dependent(node, given, value, depth))
    return BOTH if said & HOLD else FAIL


def _each_dependent(node: Node, given: Any, value: Obj, depth: int) -> Iterator[int]:
    for name, needs in given.items():
        if name in value.members or name == value.key:
            if isinstance(needs, list):
                yield _need(node, needs, value, depth)
            elif isinstance(needs, str):
                yield _need(node, [needs], value, depth)
            else:
                yield node.child(needs).look(value, depth + 1)


TABLE: Final[dict[str, Says]] = {
    "items": _items,
    "prefixItems": _items,
    "additionalItems": _items,
    "minItems": _least_items,
    "maxItems": _most_items,
    "uniqueItems": _unique,
    "contains": _contains,
    "properties": _members,
    "patternProperties": _members,
    "additionalProperties": _members,
    "propertyNames": _names,
    "required": _required,
    "minProperties": _least_members,
    "maxProperties": _most_members,
    "dependentRequired": _dependent,
    "dependentSchemas": _dependent,
    "dependencies": _dependent,
}
