"""What is registered, as rows: for the command line, for the reference in docs/plugins.md, for reports.

`python -m decodekit.registry.catalogue --write docs/plugins.md` writes the reference, `--check` fails if it is stale.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from decodekit.errors import BrokenPlugin
from decodekit.registry import discovery
from decodekit.registry.metadata import ROLES, Option, info_of, options_of

if TYPE_CHECKING:
    from rich.table import Table

OWN: Final = "decodekit"
BEGIN: Final = "<!-- plugins: from here to the end mark written by `python -m decodekit.registry.catalogue --write` -->"
END: Final = "<!-- plugins: end -->"


@dataclass(frozen=True)
class Row:
    """One plugin. options: in the order of the constructor. summary: the first line of its docstring."""

    name: str
    roles: tuple[str, ...]
    options: tuple[Option, ...]
    exactness: str
    requires: tuple[str, ...]
    provides: tuple[str, ...]
    conflicts_with: tuple[str, ...]
    paper: str
    distribution: str
    version: str
    summary: str

    @property
    def role(self) -> str:
        """All roles in one word."""
        return " + ".join(self.roles)

    @property
    def call(self) -> str:
        """How the plugin is written: `awrs(max_rejects: int >= 1 = 64)`."""
        return f"{self.name}({', '.join(map(str, self.options))})"


def table(distribution: str | None = None) -> list[Row]:
    """A row for every plugin that can be imported, by role and name; of one distribution, or of all.

    Imports all plugins. Those that fail are in :func:`decodekit.registry.discovery.broken`.
    """
    rows = []
    for name in discovery.names():
        try:
            origin, cls = discovery.origin(name), discovery.load(name)
        except BrokenPlugin:
            continue
        about = info_of(cls)
        if about is None or (distribution and origin.distribution != distribution):
            continue
        rows.append(
            Row(
                name=name,
                roles=about.roles,
                options=options_of(cls),
                exactness=about.exactness,
                requires=about.requires,
                provides=about.provides,
                conflicts_with=about.conflicts_with,
                paper=about.paper,
                distribution=origin.distribution,
                version=origin.version,
                summary=_summary(cls),
            )
        )
    return sorted(rows, key=lambda row: (min(map(ROLES.index, row.roles)), row.name))


def _summary(cls: type) -> str:
    text = inspect.cleandoc(cls.__doc__ or "")
    if text.startswith(f"{cls.__name__}("):  # what dataclass writes where there is no docstring
        return ""
    return " ".join(text.split("\n\n")[0].split())


def rich_table(rows: Sequence[Row] | None = None) -> Table:
    """The registry for a terminal; all of it unless `rows` are given."""
    from rich.table import Table
    from rich.text import Text

    found = Table(title="Plugins", title_justify="left", show_lines=True)
    found.add_column("plugin and its options", overflow="fold", max_width=36)  # two columns fit 80 characters
    found.add_column("what it does", overflow="fold")
    for row in table() if rows is None else rows:
        facts = [row.role, row.exactness, *_facts(row), *([row.paper] if row.paper else [])]
        what = "\n".join([row.summary, "; ".join([*facts, f"{row.distribution} {row.version}".strip()])])
        found.add_row(Text("\n  ".join([row.name, *map(str, row.options)])), Text(what))  # Text: [ ] is no markup
    return found


def _facts(row: Row) -> list[str]:
    given = (("requires", row.requires), ("provides", row.provides), ("conflicts with", row.conflicts_with))
    return [f"{said} {', '.join(words)}" for said, words in given if words]


def broken_table() -> Table:
    """The plugins that cannot be used, and why, for a terminal."""
    from rich.table import Table
    from rich.text import Text

    found = Table(title="Plugins that cannot be used", title_justify="left", show_lines=True)
    found.add_column("name")
    found.add_column("why", overflow="fold")
    for name, why in discovery.broken().items():
        found.add_row(Text(name), Text(why))
    return found


def markdown(rows: Sequence[Row] | None = None) -> str:
    """The reference of the built-in plugins (or of `rows`) in Markdown: an overview and a paragraph for each."""
    rows = table(OWN) if rows is None else rows
    lines = ["| plugin | role | exactness | what it does |", "| --- | --- | --- | --- |"]
    lines += [f"| [`{row.name}`](#{row.name}) | {row.role} | {row.exactness} | {_cell(row.summary)} |" for row in rows]
    for row in rows:
        lines += ["", f"### {row.name}", "", *_paragraph(row)]
    return "\n".join(lines) + "\n"


def _paragraph(row: Row) -> list[str]:
    lines = [row.summary, "", "; ".join([f"Role: {row.role}", f"exactness: {row.exactness}", *_facts(row)]) + "."]
    lines += ["", f"Paper: {row.paper}."] if row.paper else []
    if row.options:
        lines += ["", "| option | type | default |", "| --- | --- | --- |"]
    for option in row.options:
        default = "required" if option.default is None else f"`{_cell(option.default)}`"
        kind = f"`{_cell(option.type)}`" + (f": {_cell(option.summary)}" if option.summary else "")
        lines.append(f"| `{option.name}` | {kind} | {default} |")
    return lines


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _with_reference(text: str, reference: str) -> str:
    """A document with the part between the marks replaced; the marks are added at the end where there are none."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        before, after = (text.rstrip() + "\n\n" if text.strip() else "# Plugins\n\n"), "\n"
    return f"{before}{BEGIN}\n\n{reference}\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """`--write FILE` or `--check FILE`; 1 if the file is stale or a built-in plugin cannot be imported."""
    parser = argparse.ArgumentParser(
        prog="python -m decodekit.registry.catalogue", description="The reference of the plugins."
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", type=Path, metavar="FILE", help="write the reference between the marks in FILE")
    what.add_argument("--check", type=Path, metavar="FILE", help="fail if the reference in FILE is stale")
    given = parser.parse_args(arguments)
    path: Path = given.write or given.check
    lost = {name: why for name, why in discovery.broken().items() if f"of {OWN} " in why or f"by {OWN} " in why}
    for why in lost.values():
        print(why, file=sys.stderr)
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    new = _with_reference(old, markdown())
    if given.check and new != old:
        print(f"{path} is stale; run python -m decodekit.registry.catalogue --write {path}", file=sys.stderr)
        return 1
    if given.write and new != old:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(new, encoding="utf-8")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
