"""What is wrong with a grammar, in one sentence, with its line, column and a caret."""

from __future__ import annotations

import re
from typing import Final

from lark.exceptions import GrammarError, LarkError, LexError

from decodekit.errors import ConstraintError

_AT: Final = re.compile(r"(?P<what>.*?),? at line (?P<line>\d+),? column (?P<column>\d+)", re.DOTALL)
_NAME: Final = re.compile(r"[\"'](\w+)[\"']|token (\w+):|\((\w+): ")
_RULES: Final = re.compile(r"- <(\w+) : ([^>]*)>")


def explained(error: Exception, grammar: str) -> ConstraintError:
    """Lark's own error about `grammar` as one of ours."""
    text = str(error)
    if "Reduce/Reduce" in text:
        return ConstraintError(_conflict(text, grammar))
    if isinstance(error, OSError):
        return ConstraintError(
            f"the grammar imports {getattr(error, 'filename', None) or text}, which was not found; grammars that Lark "
            f"ships are common, lark, python and unicode, others are looked for beside the grammar's own file"
        )
    found = _AT.match(text)
    if found:
        line, column = int(found["line"]), int(found["column"])
        rest = text[found.end() :].strip().splitlines()
        hints = [one.strip() for one in rest if one.strip().startswith(("Expect", "*"))]
        what = found["what"].strip().rstrip(":.") or "something else was expected"
        return ConstraintError(_told(what, line, column, grammar, hints))
    what = " ".join(text.split())
    name = _NAME.search(what)
    place = _where(grammar, next((part for part in name.groups() if part), "")) if name else None
    if isinstance(error, LexError):
        what = what.replace("Lexer does not allow zero-width terminals.", "a terminal may not match the empty text:")
    if place is None:
        kind = "" if isinstance(error, GrammarError | LarkError) else f"{type(error).__name__}: "
        return ConstraintError(f"the grammar cannot be used: {kind}{what[:300]}")
    return ConstraintError(_told(what[:300], *place, grammar, []))


def _told(what: str, line: int, column: int, grammar: str, hints: list[str]) -> str:
    lines = grammar.splitlines()
    shown = lines[line - 1] if 0 < line <= len(lines) else ""
    start = max(0, column - 60)
    caret = " " * (column - 1 - start) + "^"
    more = f"; expected {_listed(hints)}" if hints else ""
    head = f"the grammar cannot be read, line {line}, column {column}: {what[:1].lower() + what[1:]}{more}"
    return f"{head}\n  {shown[start : start + 100]}\n  {caret}"


def _listed(hints: list[str]) -> str:
    names = [hint.lstrip("* ") for hint in hints if hint.startswith("*")]
    return ", ".join(names[:12]) or "; ".join(hints)


def _where(grammar: str, name: str) -> tuple[int, int] | None:
    """Where `name` is defined, or stands first (in comments and literals too)."""
    if not name:
        return None
    defined = re.search(rf"^\s*[!?]*(?={re.escape(name)}\b[^:\n]*:)", grammar, re.MULTILINE)
    found = defined or re.search(rf"(?<!\w)(?={re.escape(name)}(?!\w))", grammar)
    if found is None:
        return None
    before = grammar[: found.end()]
    return before.count("\n") + 1, found.end() - (before.rfind("\n") + 1) + 1


def _conflict(text: str, grammar: str) -> str:
    """Two rules that LALR(1) cannot tell apart by the next terminal."""
    rules = sorted({f"{name}: {body}" for name, body in _RULES.findall(text)})
    after = re.search(r"Terminal\('([^']+)'\)", text)
    seen = "the end of the text" if after and after[1] == "$END" else f"a {after[1]}" if after else "the same terminal"
    return (
        f"LALR(1) cannot tell which of these rules is complete before {seen}: {'; '.join(rules[:4])}; merge them, give "
        f"one a priority (name.2: ...), or write the grammar in llguidance's dialect (dialect='llguidance'), whose "
        f"Earley parser takes ambiguous grammars"
    )
