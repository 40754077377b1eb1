"""Where the schemas of a document stand: references, base addresses, dynamic scopes, and the draft that counts."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any, Final

import referencing
import referencing.exceptions
import referencing.jsonschema

from decodekit.errors import ConstraintError

from .source import step_of

REGISTRY: Any = importlib.import_module("jsonschema_specifications").REGISTRY  # typed nowhere
"""The descriptions of the drafts themselves."""
DRAFTS: Final = {"draft-04": 4, "draft-06": 6, "draft-07": 7, "2019-09": 2019, "2020-12": 2020}


@dataclass(frozen=True)
class Place:
    """A schema in its surroundings. pointer: for messages; scope: the addresses on the way here, outermost last."""

    schema: Any
    pointer: str
    resolver: Any = field(compare=False)
    draft: int = 2020

    def key(self) -> tuple[Any, ...]:
        """Equal for equal meanings."""
        scope = tuple(dict.fromkeys(reversed([uri for uri, _ in self.resolver.dynamic_scope()])))
        return id(self.schema), self.resolver._base_uri, scope, self.draft

    def below(self, schema: Any, *steps: object) -> Place:
        """A schema inside this one."""
        pointer = self.pointer + "".join(map(step_of, steps))
        return Place(schema, pointer, self.resolver, self.draft).entered()

    def entered(self) -> Place:
        """With the base address and the draft that the schema itself states."""
        if not isinstance(self.schema, dict):
            return self
        draft = draft_of(self.schema, self.draft)
        resource = specification(draft).create_resource(self.schema)
        return Place(self.schema, self.pointer, self.resolver.in_subresource(resource), draft)

    def target(self, reference: str, recursive: bool = False) -> Place:
        """Where a reference leads.

        Raises:
            ConstraintError: it leads to another document or to nothing.
        """
        try:
            if recursive:
                found = referencing.jsonschema.lookup_recursive_ref(self.resolver)
            else:
                found = self.resolver.lookup(reference)
        except (referencing.exceptions.Unresolvable, referencing.exceptions.NoSuchResource) as error:
            inside = reference.startswith("#") or isinstance(
                error, referencing.exceptions.PointerToNowhere | referencing.exceptions.NoSuchAnchor
            )
            why = "where the schema has nothing" if inside else "which is not part of it (nothing is fetched)"
            raise ConstraintError(
                f"at {self.pointer}/$ref, the schema refers to {reference!r}, {why}; put what is meant under '$defs'"
            ) from None
        draft = self.draft
        if isinstance(found.contents, dict):
            draft = draft_of(found.contents, draft)
        pointer = reference if reference.startswith("#") else f"{reference.split('#')[0]}#"
        return Place(found.contents, pointer, found.resolver, draft)


def draft_of(schema: dict[str, Any], default: int) -> int:
    """The draft that `$schema` names; 3 for older ones, `default` for none or unknown ones."""
    named = schema.get("$schema")
    if not isinstance(named, str):
        return default
    if "draft-03" in named or "draft-02" in named:
        return 3
    return next((number for name, number in DRAFTS.items() if name in named and "json-schema.org" in named), default)


def specification(draft: int) -> Any:
    """The library's own description of a draft."""
    return {
        4: referencing.jsonschema.DRAFT4, 6: referencing.jsonschema.DRAFT6, 7: referencing.jsonschema.DRAFT7,
        2019: referencing.jsonschema.DRAFT201909, 2020: referencing.jsonschema.DRAFT202012,
    }[draft]  # fmt: skip


def root(document: Any) -> Place:
    """The whole document. Raises ConstraintError for drafts before 4."""
    draft = draft_of(document, 2020) if isinstance(document, dict) else 2020
    if draft == 3:
        raise ConstraintError("the schema is of draft 3 or older, which is not supported; write it in draft 4 or later")
    resource = specification(draft).create_resource(document)
    address = (resource.id() if isinstance(document, dict) else None) or ""
    registry = REGISTRY.with_resource(address, resource)
    return Place(document, "#", registry.resolver(base_uri=address), draft)


def items_of(place: Place) -> tuple[list[Any], Any, str]:
    """The schemas of the first items, of all others (None: any), and the keyword of those."""
    schema = place.schema
    if place.draft == 2020:
        return schema.get("prefixItems", []), schema.get("items"), "items"
    items = schema.get("items")
    if isinstance(items, list):
        return items, schema.get("additionalItems"), "additionalItems"
    return [], items, "items"
