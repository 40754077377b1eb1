"""The SQL dialect as an LL(1) grammar: what follows a symbol, by the next terminal.

A symbol is a terminal ("SELECT", "(", "num"), a rule of :data:`RULES`, an action ("@add", or a tuple that begins with
one), or an open symbol whose terminals depend on the scope (:mod:`decodekit.constraints.sql.open_symbols`), such as a
column. In a rule "" is what stands where no other terminal fits, "*else" the expansion for any terminal not listed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

Symbol: TypeAlias = "str | tuple[object, ...]"
Rule: TypeAlias = Mapping[str, tuple[Symbol, ...]]
ELSE: Final = "*else"

OPERAND: Final[Symbol] = ("operand", True, False, True)
"""A value: may it have a sign; is it compared, so that a text in double quotes is one; may it be a literal."""
COMPARED: Final[Symbol] = ("operand", True, True, True)
PATTERN: Final[Symbol] = ("operand", True, True, True, "pattern")
"""What LIKE and BETWEEN compare with: a text that need not occur."""
NUMBER: Final[Symbol] = ("operand", True, False, True, "number")
"""What a function of numbers is called with: no text, where types matter."""
TERM: Final[Symbol] = ("operand", False, False, False)
"""What GROUP BY and ORDER BY start with: a whole number there is the number of a column, a literal makes no sense."""
BACK: Final = "@back"


def _joined(how: str, *words: str) -> tuple[Symbol, ...]:
    room: Symbol = ("@room", how)
    tail: tuple[Symbol, ...] = (("source", how), "salias", "@add")
    on: tuple[Symbol, ...] = ("on", "@joined") if how == "join" else ()
    return (words[0], room, *words[1:], *tail, *on, "joins")


def _operators(tail: str) -> dict[str, tuple[Symbol, ...]]:
    """Arithmetic, by precedence."""
    levels = {"+": 6, "-": 6, "*": 7, "/": 7, "%": 7, "||": 8}
    return {sign: (sign, ("@binary", level), OPERAND, tail) for sign, level in levels.items()}


_CHECKS: Final[dict[str, tuple[Symbol, ...]]] = {
    "LIKE": ("LIKE", ("@binary", 4), PATTERN, "tail"),
    "GLOB": ("GLOB", ("@binary", 4), PATTERN, "tail"),
    "IN": ("IN", ("@binary", 4), ("@open", 4), "(", "members", ")", BACK, "@value", "tail"),
    "BETWEEN": ("BETWEEN", ("@binary", 4), PATTERN, "between", "AND", ("@level", 4), PATTERN, "tail"),
}
SUBQUERY: Final[tuple[Symbol, ...]] = ("query", "@result", ")", BACK)

RULES: Final[dict[str, Rule]] = {
    "statement": {
        "SELECT": (("@enter", "top"), "query", "semi"),
        "DELETE": ("DELETE", "@writing", "FROM", "target", "where", "semi"),
        "UPDATE": ("UPDATE", "@writing", "target", "SET", "setting", "settings", "where", "semi"),
        "INSERT": ("INSERT", "@writing", "INTO", "filled", "columns", "rows", "semi"),
        "WITH": ("WITH", "cte", "ctes", ("@enter", "top"), "query", "semi"),
    },
    "semi": {";": (";",), "": ()},
    "setting": {ELSE: ("@item", "setcolumn", "=", "expr")},
    "settings": {",": (",", "@another", "setting", "settings"), "": ()},
    "columns": {"(": ("(", "intocolumn", "morecolumns", ")"), "": ()},
    "morecolumns": {",": (",", "@another", "intocolumn", "morecolumns"), "": ()},
    "rows": {"VALUES": ("VALUES", "@filling", "row", "morerows"), "SELECT": (("@enter", "into"), "query", "@result")},
    "morerows": {",": (",", "row", "morerows"), "": ()},
    "cte": {ELSE: ("ctename", "ctecolumns", "AS", "(", ("@enter", "cte"), "query", ")", "@cte")},
    "ctes": {",": (",", "cte", "ctes"), "": ()},
    "ctecolumns": {"(": ("(", "ctecolumn", "morectecolumns", ")"), "": ()},
    "morectecolumns": {",": (",", "ctecolumn", "morectecolumns"), "": ()},
    "query": {"SELECT": ("core", "sets", "order", "limit", "@leave")},
    "core": {"SELECT": ("SELECT", "distinct", "item", "items", "@listed", "from")},
    "distinct": {"DISTINCT": ("DISTINCT",), "ALL": ("ALL",), "": ()},
    "item": {"*": ("*", "@star"), ELSE: ("@item", "expr", "alias", "@itemdone")},
    "items": {",": (",", "@more", "item", "items"), "": ()},
    "from": {
        "FROM": ("FROM", "@from", ("source", "first"), "salias", "@add", "joins", "@closed", "where", "group"),
        "": ("@closed",),
    },
    "joins": {
        ",": _joined("comma", ","),
        "JOIN": _joined("join", "JOIN"),
        "INNER": _joined("join", "INNER", "JOIN"),
        "LEFT": _joined("join", "LEFT", "outer", "JOIN"),
        "CROSS": _joined("cross", "CROSS", "JOIN"),
        "NATURAL": _joined("natural", "NATURAL", "side", "JOIN"),
        "": (),
    },
    "outer": {"OUTER": ("OUTER",), "": ()},
    "side": {"LEFT": ("LEFT", "outer"), "INNER": ("INNER",), "": ()},
    "on": {
        "ON": ("ON", "@plain", ("@context", "on"), "condition"),
        "USING": ("USING", "@common", "(", "using", "usings", ")"),
        "": (),
    },
    "tied": {"AND": ("AND", "@fresh", "expr"), "": ()},
    "usings": {",": (",", "@common", "using", "usings"), "": ()},
    "where": {"WHERE": ("WHERE", ("@context", "where"), "expr"), "": ()},
    "group": {"GROUP": ("GROUP", "BY", ("@context", "group"), "term", "terms", "@grouped", "having"), "": ()},
    "terms": {",": (",", "@fresh", "term", "terms"), "": ()},
    "having": {"HAVING": ("HAVING", ("@context", "having"), "expr"), "": ()},
    "sets": {
        "UNION": ("UNION", "all", "@set", "core", "sets"),
        "INTERSECT": ("INTERSECT", "@set", "core", "sets"),
        "EXCEPT": ("EXCEPT", "@set", "core", "sets"),
        "": (),
    },
    "all": {"ALL": ("ALL",), "": ()},
    "order": {"ORDER": ("ORDER", "BY", ("@context", "order"), "term", "way", "orders"), "": ()},
    "orders": {",": (",", "@fresh", "term", "way", "orders"), "": ()},
    "way": {"ASC": ("ASC", "nulls"), "DESC": ("DESC", "nulls"), "NULLS": ("NULLS", "edge"), "": ()},
    "nulls": {"NULLS": ("NULLS", "edge"), "": ()},
    "edge": {"FIRST": ("FIRST",), "LAST": ("LAST",)},
    "limit": {"LIMIT": ("LIMIT", "int", "offset"), "": ()},
    "offset": {"OFFSET": ("OFFSET", "int"), ",": (",", "@sqlite", "int"), "": ()},
    "expr": {"NOT": ("NOT", ("@binary", 3), "positive"), ELSE: (OPERAND, "tail")},
    "positive": {ELSE: (OPERAND, "tail")},
    "termtail": {ELSE: (TERM, "tail")},
    "tail": {
        **_operators("tail"),
        **{sign: (sign, ("@binary", 4), COMPARED, "tail") for sign in ("=", "==", "!=", "<>")},
        **{sign: (sign, ("@binary", 5), COMPARED, "tail") for sign in ("<", "<=", ">", ">=")},
        **_CHECKS,
        "AND": ("AND", ("@binary", 2), "expr"),
        "OR": ("OR", ("@binary", 1), "expr"),
        "NOT": ("NOT", "negated"),
        "IS": ("IS", ("@binary", 4), "isnot", "isvalue", "tail"),
        "ISNULL": ("ISNULL", "@value", "tail"),
        "NOTNULL": ("NOTNULL", "@value", "tail"),
        "COLLATE": ("COLLATE", "collation", "tail"),
        "": (),
    },
    "negated": {**_CHECKS, "NULL": ("NULL", "@value", "tail")},
    "isvalue": {"NULL": ("NULL", "@value"), ELSE: ("@sqlite", COMPARED)},
    "isnot": {"NOT": ("NOT",), "": ()},
    "between": {**_operators("between"), "": ()},
    "members": {"SELECT": ("@single", ("@enter", "one"), "query", "@result"), ELSE: ("member", "moremembers")},
    "member": {ELSE: (COMPARED, "between")},
    "moremembers": {",": (",", "@fresh", "member", "moremembers"), "": ()},
    "paren": {"SELECT": ("@single", ("@enter", "one"), *SUBQUERY), ELSE: ("@paren", "expr", ")", BACK)},
    "termparen": {
        "SELECT": ("@single", ("@enter", "one"), *SUBQUERY),
        ELSE: ("@paren", "termtail", ")", BACK),
    },
    "casehead": {"WHEN": (), ELSE: ("expr",)},
    "whens": {"WHEN": ("WHEN", "expr", "THEN", "expr", "morewhens")},
    "morewhens": {"WHEN": ("WHEN", "@fresh", "expr", "THEN", "@fresh", "expr", "morewhens"), "": ()},
    "else": {"ELSE": ("ELSE", "@fresh", "expr"), "": ()},
    "counted": {"*": ("*",), "DISTINCT": ("DISTINCT", "expr"), ELSE: ("expr",)},
    "unique": {"DISTINCT": ("DISTINCT", "expr"), ELSE: ("expr",)},
    "summed": {"DISTINCT": ("DISTINCT", "number"), ELSE: ("number",)},
    "number": {ELSE: (NUMBER, "tail")},
    "gathered": {"DISTINCT": ("DISTINCT", "expr"), ELSE: ("expr", ("more", 1, 1, 2))},
}
KEYWORDS: Final = frozenset(
    word for rule in RULES.values() for word in rule if word not in (ELSE, "") and word[0].isalpha() and word.isupper()
)
