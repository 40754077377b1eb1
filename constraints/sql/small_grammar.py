r"""A grammar of SELECT statements over the tables and columns of one database, in llguidance's Lark dialect.

Which columns may stand in the select list depends on the tables after FROM, which come later. So there is one copy of
the rules for each *scope*, a set of tables that are read together, and a statement is a statement of some scope.

The lexer of the dialect is greedy and never goes back. Every terminal is therefore written so that, once it could
have ended, reading on either stays a match or fails at once; white space is part of terminals: one space, or none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, permutations
from typing import Final

from .database import Database, Table, alike, reserved, written

SCOPES: Final = 48
"""The most scopes: single tables always, then linked pairs, other pairs and linked triples as far as they fit."""

_TERMINALS: Final = r"""
SELECT: /{select} /
DISTINCT: /{distinct} /
FROM: / {from} /
WHERE: / {where} /
GROUP: / {group} {by} /
HAVING: / {having} /
ORDER: / {order} {by} /
LIMIT: / {limit} [0-9]{{1,6}}/
OFFSET: / {offset} [0-9]{{1,6}}/
WAY: / ({asc}|{desc})/
AS: / {as} /
JOIN: / ({inner} |{left} ({outer} )?)?{join} /
ON: / {on} /
AND: / {and} /
OR: / {or} /
NOT: /{not} /
COMMA: / ?, ?/
OPEN: "("
CLOSE: ")"
SAME: / ?= ?/
COMPARE: / ?(=|==|<>|!=|<|<=|>|>=) ?/
LIKE: / ({not} )?{like} /
IN: / ({not} )?{in} \(/
BETWEEN: / ({not} )?{between} /
ISNULL: / {is} ({not} )?{null}/
INNER: /\({select} /
TALLY: /{count}\(\*\)/
CALL: /({count}|{sum}|{avg}|{min}|{max})\(/
NUMBER: /-?[0-9]{{1,15}}(\.[0-9]{{1,15}})?/
STRING: /'([^'\x00-\x1f\x7f]|''){{0,120}}'/
ALIAS: /[A-Za-z_][A-Za-z0-9_]{{0,40}}/ & ~/{reserved}/
literal: NUMBER | STRING
literals: literal (COMMA literal)*
"""

_RULES: Final = """
query_{i}: SELECT DISTINCT? item_{i} (COMMA item_{i})* FROM tables_{i} (WHERE test_{i})? (rest_{i} | groups_{i}) page?
item_{i}: (STAR_{i} | value_{i} (AS ALIAS)?)
value_{i}: COLUMN_{i} | call_{i}
call_{i}: TALLY | CALL DISTINCT? COLUMN_{i} CLOSE
rest_{i}: (ORDER COLUMN_{i} WAY? (COMMA COLUMN_{i} WAY?)*)?
groups_{i}: GROUP COLUMN_{i} (COMMA COLUMN_{i})* (HAVING grouped_{i})? (ORDER value_{i} WAY? (COMMA value_{i} WAY?)*)?
test_{i}: part_{i} ((AND | OR) part_{i})*
part_{i}: NOT? (OPEN test_{i} CLOSE | COLUMN_{i} check_{i})
grouped_{i}: share_{i} ((AND | OR) share_{i})*
share_{i}: NOT? (OPEN grouped_{i} CLOSE | value_{i} check_{i})
check_{i}: COMPARE (literal | COLUMN_{i} | single) | LIKE STRING | IN (literals | several) CLOSE
  | BETWEEN literal AND literal | ISNULL
"""

_INNER: Final = """
single_{i}: INNER call_{i} FROM tables_{i} (WHERE test_{i})? CLOSE
several_{i}: SELECT COLUMN_{i} FROM tables_{i} (WHERE test_{i})?
"""


def grammar(database: Database, any_case: bool = False) -> str:
    """The grammar of `database`; its start rule is one SELECT statement without a semicolon.

    any_case: letters of names and key words may have either case; else names are those of the schema, and each key
    word is in upper or in lower case.
    """
    name = folded if any_case else exact
    found = list(scopes(database))
    words = "select distinct from where group by having order limit offset asc desc as inner left outer join on and or"
    words += " not like in between is null count sum avg min max"
    fill = {word: folded(word) if any_case else f"({word.upper()}|{word})" for word in words.split()}
    lines = [_TERMINALS.format(**fill, reserved="|".join(folded(word) for word in sorted(reserved())))]
    singles = [i for i, scope in enumerate(found) if len(scope) == 1]
    lines.append("page: LIMIT OFFSET?\n")
    lines.append("start: " + " | ".join(f"query_{i}" for i in range(len(found))))
    lines.append("single: " + " | ".join(f"single_{i}" for i in singles))
    lines.append("several: " + " | ".join(f"several_{i}" for i in singles))
    number = {table.name: k for k, table in enumerate(database.tables)}
    for table, k in zip(database.tables, number.values(), strict=True):
        lines.append(f"TABLE_{k}: /{name(written(table.name))}/")
        lines.append(f"KEY_{k}: /{_any(name, (f'{written(table.name)}.{written(c)}' for c in table.columns))}/")
    for i, scope in enumerate(found):
        stars = ["*", *(f"{written(table.name)}.*" for table in scope)]
        lines.append(f"STAR_{i}: /{_any(name, stars)}/")
        lines.append(f"COLUMN_{i}: /{_any(name, columns(scope))}/")
        lines.append(f"tables_{i}: " + " | ".join(_orders(scope, number, database)))
        lines.append(_RULES.format(i=i) + (_INNER.format(i=i) if len(scope) == 1 else ""))
    return "\n".join(lines)


def scopes(database: Database, most: int = SCOPES) -> Iterator[tuple[Table, ...]]:
    """The sets of tables that a statement may read together."""
    count = len(database.tables)
    yield from ((table,) for table in database.tables)

    def linked(*tables: Table) -> int:
        return sum(frozenset((a.name, b.name)) in database.links for a, b in combinations(tables, 2))

    pairs = sorted(combinations(database.tables, 2), key=lambda pair: not linked(*pair))
    triples = [three for three in combinations(database.tables, 3) if linked(*three) >= 2]
    near = [pair for pair in pairs if linked(*pair)]
    for scope in [*near, *triples, *pairs[len(near) :]]:
        if count >= most:
            return
        count += 1
        yield scope


def columns(scope: Sequence[Table]) -> list[str]:
    """How a statement over `scope` may name its columns: with the table, and without where only one has the name."""
    out = list[str]()
    for table in scope:
        others = alike(column for other in scope if other is not table for column in other.columns)
        out += [written(column) for column in table.columns if not alike([column]) & others]
        out += [f"{written(table.name)}.{written(column)}" for column in table.columns]
    return out


def _orders(scope: Sequence[Table], number: dict[str, int], database: Database) -> Iterator[str]:
    """What may follow FROM: the tables in any order, each tied by one equation to one before it."""
    for order in permutations(scope):
        text = f"TABLE_{number[order[0].name]}"
        possible = True
        for at, table in enumerate(order[1:], 1):
            k = number[table.name]
            before = [t for t in order[:at] if len(scope) == 2 or frozenset((t.name, table.name)) in database.links]
            pairs = [pair for other in before for pair in permutations((number[other.name], k))]
            ties = [f"KEY_{a} SAME KEY_{b}" for a, b in pairs]
            possible &= bool(ties)
            text += f" JOIN TABLE_{k} ON ({' | '.join(ties)})"
        if possible:
            yield text


def _any(name: Callable[[str], str], texts: Iterator[str] | Sequence[str]) -> str:
    return "(" + "|".join(name(text) for text in texts) + ")"


def exact(text: str) -> str:
    """A regular expression for `text` as it is."""
    return "".join(_letter(letter, False) for letter in text)


def folded(text: str) -> str:
    """A regular expression for `text` in which ASCII letters may have either case, as SQLite reads names."""
    return "".join(_letter(letter) for letter in text)


def _letter(letter: str, folds: bool = True) -> str:
    if folds and letter.isascii() and letter.isalpha():
        return f"[{letter.lower()}{letter.upper()}]"
    return letter if (letter.isascii() and letter.isalnum()) or letter == "_" else f"\\x{{{ord(letter):X}}}"
