"""What each kind of constraint can do with each engine: a table made by asking, not by claiming.

`python -m decodekit.constraints.kinds.abilities --write docs/constraints.md` puts it between the two marks of that
page.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints

from decodekit.registry.discovery import load

from ..automata.byte_machine import States
from ..core.cursor import Compiled
from ..core.vocabulary import Vocabulary

START: Final = "<!-- kinds and engines, made by decodekit.constraints.kinds.abilities -->"
END: Final = "<!-- end of kinds and engines -->"
BYTES: Final = Vocabulary(tuple(bytes([byte]) for byte in range(256)))
HEAD: Final = ("kind", "engine", "masks", "checks", "forced text", "distance to the end", "forks")


def examples() -> list[tuple[str, dict[str, Any]]]:
    """(kind, options) of one small constraint for each kind whose engine cannot be chosen, and of each engine."""
    pattern = {"pattern": "[ab]{1,3}c"}
    regex = _engines("regex", pattern)
    choice = _engines("choice", {"options": ("ab", "ac")})
    part = load("regex")("[ab]{1,3}")
    return [
        *regex,
        ("regex", {"pattern": "(?=.*b)[ab]{1,3}c", "engine": "partial"}),
        *choice,
        ("json_schema", {"schema": {"type": "integer"}}),
        ("json_schema", {"schema": {"type": "integer"}, "engine": "machine"}),
        ("json", {}),
        ("cfg", {"grammar": 'start: "a" "b"?'}),
        ("cfg", {"grammar": 'start: "a" "b"?', "dialect": "llguidance"}),
        ("sql", {"schema": "CREATE TABLE a (b TEXT)"}),
        ("smiles", {}),
        ("predicate", {"fn": str.isascii}),
        ("template", {"text": "a{x}", "holes": {"x": part}}),
        ("template", {"text": "a{x}", "holes": {"x": load("json_schema")({"type": "integer"})}}),
        ("all_of", {"parts": (part, load("regex")("a.*"))}),
        ("all_of", {"parts": (part, load("predicate")(str.isascii))}),
        ("any_of", {"parts": (part, load("choice")(("c",)))}),
        ("not_at_end", {"part": part}),
        ("canonical", {}),
    ]


def _engines(kind: str, options: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    names: tuple[str, ...] = get_args(get_type_hints(load(kind))["engine"])
    return [(kind, {**options, "engine": name}) for name in names if name not in ("auto", "partial", "xgrammar")]


def row(kind: str, options: dict[str, Any]) -> tuple[str, ...]:
    """The line of one example."""
    vocabulary = Vocabulary((b"a", b"b", b"c", b"1")) if kind == "canonical" else BYTES
    compiled = load(kind)(**options).compile(vocabulary)
    cursor = compiled.start()
    exact = getattr(compiled, "distances", None) is not None
    how = "exact" if exact else ("some way" if hasattr(cursor, "closing") else "-")
    dear = "calls Python" if getattr(compiled, "dear", False) else "yes"
    machine = getattr(compiled, "machine", None)
    plain = machine is not None and type(compiled).bits_of is States.bits_of and type(compiled).mark is States.mark
    masks = ("walks the vocabulary" if plain else "yes") + (
        ", on a thread" if getattr(compiled, "apart", False) else ""
    )
    forced = "bytes" if hasattr(cursor, "forced_text") else "tokens"
    copied = "one for each part" if hasattr(compiled, "parts") else ("on write" if _copies(compiled) else "free")
    return (f"`{kind}`", _named(compiled), masks, dear, forced, how, copied)


def _copies(compiled: Compiled) -> bool:
    return type(compiled).__name__ in ("Grammar", "Pushdown")


def _named(compiled: Compiled) -> str:
    """The engine behind a compiled constraint."""
    known = {
        "Grammar": "llguidance",
        "Table": "outlines_core",
        "Pushdown": "xgrammar",
        "Words": "words",
        "Spots": "Lark",
    }
    if hasattr(compiled, "parts"):
        return " + ".join(dict.fromkeys(map(_named, compiled.parts)))
    machine = getattr(compiled, "machine", None)
    return known.get(type(compiled).__name__) or type(machine if machine is not None else compiled).__name__.strip("_")


def table(some: Iterable[tuple[str, dict[str, Any]]] | None = None) -> str:
    """The table in Markdown."""
    rows = dict.fromkeys(row(kind, options) for kind, options in (examples() if some is None else some))
    lines = [HEAD, ("---",) * len(HEAD), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def renewed(text: str) -> str:
    """A page with the table of today between its marks."""
    head, _, rest = text.partition(START)
    _, _, tail = rest.partition(END)
    return f"{head}{START}\n\n{table()}\n\n{END}{tail}"


def main(argv: list[str] | None = None) -> int:
    """Write the table into a page, or check that it is fresh."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--write", type=Path)
    parser.add_argument("--check", type=Path)
    given = parser.parse_args(argv)
    if given.write is not None:
        given.write.write_text(renewed(given.write.read_text(encoding="utf-8")), encoding="utf-8")
    if given.check is not None and renewed(given.check.read_text(encoding="utf-8")) != given.check.read_text("utf-8"):
        print(f"{given.check} is not fresh: python -m decodekit.constraints.kinds.abilities --write {given.check}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
