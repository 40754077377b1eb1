"""Lark grammars on a large vocabulary: loading, masks, checks, forks; beside llguidance and stock Lark run anew.

Texts are read token by token. A mask is *first* at the beginning of the first text for a vocabulary that the grammar
has not seen; *new* along that text, where each place is new; *again* when the same text is read a second time. A check
is of the token that comes, and of 30 others, before the mask of the place was asked. *Then another* text is read, the
grammar being warm and the places new. llguidance reads the same grammars
as its own dialect (longest match, no keywords, no indentation): the same language for `json` and `sums`, nearly the
same for `sql`, and there is none for `python`. Stock Lark reads the text so far again for each token.
Seconds are of CPU. Needs DECODEKIT_DATA. `python -m perf.lark` writes results/lark.json.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from lark import Lark
from lark.exceptions import LarkError
from lark.indenter import PythonIndenter
from transformers import AutoTokenizer

import decodekit as dk
from decodekit.constraints.core.vocabulary import Vocabulary, vocabulary_of
from decodekit.constraints.core.vocabulary_trie import flat_trie
from perf.bench import save

COMMON = {
    "json": r"""
start: value
?value: object | array | STRING | NUMBER | "true" | "false" | "null"
array: "[" [value ("," value)*] "]"
object: "{" [pair ("," pair)*] "}"
pair: STRING ":" value
STRING: /"([^"\\\n]|\\.)*"/
NUMBER: /[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?/
WS: /[ \t\n\r]+/
%ignore WS
""",
    "sums": r"""
start: sum
sum: product | sum ("+" | "-") product
product: atom | product ("*" | "/") atom
atom: NUMBER | "-" atom | "(" sum ")" | NAME
NUMBER: /[0-9]+(\.[0-9]+)?/
NAME: /[a-zA-Z_][a-zA-Z_0-9]*/
WS: /[ \t]+/
%ignore WS
""",
    "sql": r"""
start: select ";"?
select: "SELECT"i "DISTINCT"i? cols "FROM"i table join* where? group? order? limit?
join: "JOIN"i table "ON"i cond
where: "WHERE"i cond
group: "GROUP"i "BY"i exprs ("HAVING"i cond)?
order: "ORDER"i "BY"i key ("," key)*
limit: "LIMIT"i NUMBER
cols: "*" | col ("," col)*
exprs: expr ("," expr)*
col: expr ("AS"i NAME)?
table: NAME ("AS"i NAME)? | "(" select ")" "AS"i NAME
key: expr ("ASC"i | "DESC"i)?
cond: both ("OR"i both)*
both: test ("AND"i test)*
test: "NOT"i test | expr OP expr | expr "LIKE"i STRING | expr "IN"i "(" select ")" | expr "BETWEEN"i expr "AND"i expr
expr: term (("+" | "-") term)*
term: atom (("*" | "/") atom)*
atom: NAME ("." NAME)? | NUMBER | STRING | NAME "(" ("*" | "DISTINCT"i? exprs) ")" | "(" expr ")"
OP: "=" | "<" | ">" | "<=" | ">=" | "!=" | "<>"
NAME: /[a-zA-Z_][a-zA-Z_0-9]*/
NUMBER: /[0-9]+(\.[0-9]+)?/
STRING: /'[^']*'/ | /"[^"]*"/
WS: /[ \t\n\r]+/
COMMENT: /--[^\n]*/
%ignore WS
%ignore COMMENT
""",
}
TEXTS = {
    "json": '{"name": "Ada Park", "age": [36, -1.5e3, true], "kind": {"cat": null, "n": "", "tags": ["a b", "c"]}}',
    "sums": "foo * (3.5 + -bar) / 2 - x1*(y + 12 * (height - width) / 4) + total",
    "sql": "SELECT T1.name, count(*) AS n FROM singer AS T1 JOIN concert AS T2 ON T1.id = T2.singer_id WHERE "
    "T1.age > 36 AND T2.name LIKE 'a b%' GROUP BY T1.name HAVING count(*) >= 2 ORDER BY n DESC LIMIT 3",
    "python": (
        'import os\n\ndef main(name, n=3):\n    """A text."""\n    for i in range(n):\n'
        "        print(name.upper(), i * 2)  # show\n    if n > 3 and not name:\n"
        "        return [x ** 2 for x in name if x]\n    class A(B):\n        x: int = 5\n"
    ),
}
MORE = {
    "json": '[{"id": 7, "title": "The Sea", "price": 12.50, "tags": [], "of": {"first": "B", "last": null}}, false]',
    "sums": "12.5 - (alpha / beta) * -(gamma + 3) + x / 7 - rate * time",
    "sql": "SELECT DISTINCT city, avg(price) FROM houses WHERE rooms BETWEEN 2 AND 5 OR owner IN "
    "(SELECT id FROM people) GROUP BY city ORDER BY avg(price) ASC, city LIMIT 10",
    "python": (
        "from json import loads\n\nclass Reader:\n    def read(self, path):\n        with open(path) as file:\n"
        "            return [loads(line) for line in file]\n\n    @property\n    def size(self):\n"
        "        if self.items is None:\n            raise ValueError('empty')\n        return len(self.items) + 1\n"
    ),
}
OTHERS = range(1000, 90_000, 3001)


def python() -> Lark:
    """Lark's own grammar of Python, with its indenter."""
    return Lark.open_from_package(
        "lark", "python.lark", ["grammars"], parser="lalr", postlex=PythonIndenter(), start="file_input"
    )


@contextmanager
def clock(into: list[float]) -> Iterator[None]:
    """Seconds of CPU of this thread."""
    begun = time.thread_time()
    yield
    into.append(time.thread_time() - begun)


def walked(cursor: Any, ids: list[int]) -> dict[str, list[float]]:
    """Seconds of checks and masks along a text."""
    out: dict[str, list[float]] = {"check": [], "others": [], "mask": []}
    for token in ids:
        with clock(out["check"]):
            good = cursor.allows(token)
        assert good
        with clock(out["others"]):
            cursor.allows_many(list(OTHERS))
        out["others"][-1] /= len(OTHERS)
        with clock(out["mask"]):
            cursor.mask()
        cursor.advance(token)
    return out


def figures(seconds: list[float], unit: float) -> dict[str, float]:
    """Median, mean, 90th percentile, most."""
    cuts = statistics.quantiles(seconds, n=10)
    found = {"p50": statistics.median(seconds), "mean": statistics.mean(seconds), "p90": cuts[8], "max": max(seconds)}
    return {key: round(unit * value, 3) for key, value in found.items()}


def engine(
    name: str, who: str, load: Callable[[], Any], vocabulary: Vocabulary, ids: list[int], more: list[int]
) -> dict[str, object]:
    """One engine on one grammar."""
    loading, compiling = list[float](), list[float]()
    begun = time.perf_counter()
    kind = load()
    loading.append(time.perf_counter() - begun)
    with clock(compiling):
        compiled = kind.compile(vocabulary)
    new = walked(compiled.start(), ids)
    again = walked(compiled.start(), ids)
    other = walked(compiled.start(), more)
    return {
        "grammar": name,
        "engine": who,
        "tokens": len(ids),
        "load ms": round(1000 * loading[0], 1),
        "compile ms": round(1000 * compiling[0], 1),
        "first mask ms": round(1000 * new["mask"][0], 2),
        "new mask ms": figures(new["mask"], 1000),
        "mask again us": figures(again["mask"], 1e6),
        "check new us": figures(new["check"], 1e6),
        "check again us": figures(again["check"], 1e6),
        "others new us": figures(new["others"], 1e6),
        "then another: mask ms": figures(other["mask"], 1000),
        "then another: check us": figures(other["check"], 1e6),
        "then another: others us": figures(other["others"], 1e6),
    }


def stock(name: str, lark: Lark, vocabulary: Vocabulary, ids: list[int]) -> dict[str, object]:
    """What it costs to let stock Lark read the text so far, token by token."""
    took, text = list[float](), b""
    for token in ids:
        text += vocabulary.tokens[token]
        with clock(took), suppress(LarkError, IndexError):  # a lexeme is open
            lark.parse_interactive(text.decode()).exhaust_lexer()
    return {"grammar": name, "engine": "stock Lark, run anew", "check us": figures(took, 1e6)}


def forks(vocabulary: Vocabulary) -> dict[str, object]:
    """Milliseconds of 1,000 forks after 1,000 tokens, and of checks there."""
    cursor = dk.cfg(COMMON["json"]).compile(vocabulary).start()
    number, comma = vocabulary.by_bytes[b"1"][0], vocabulary.by_bytes[b","][0]
    for token in [vocabulary.by_bytes[b"["][0], *[number, comma] * 500]:
        cursor.advance(token)
    took, checks = list[float](), list[float]()
    for _ in range(21):
        with clock(took):
            kept = [cursor.fork() for _ in range(1000)]
        with clock(checks):
            kept[0].allows(number)
    row = {"what": "1000 forks after 1000 tokens", "ms": round(1000 * statistics.median(took), 3)}
    return {**row, "check there us": round(1e6 * statistics.median(checks), 2)}


def length(vocabulary: Vocabulary) -> dict[str, object]:
    """Microseconds of a new check in the first and in the last tenth of a text of 8 kB."""
    text = "[" + ", ".join(f'{{"name": "n{i}", "values": [{i}, -1.5e3, true]}}' for i in range(190)) + "]"
    ids = vocabulary.spell(text.encode())
    assert ids is not None
    cursor, took = dk.cfg(COMMON["json"]).compile(vocabulary).start(), list[float]()
    for token in ids:
        with clock(took):
            cursor.allows(token)
        cursor.advance(token)
    part = len(took) // 10
    ends = {"first tenth": took[:part], "last tenth": took[-part:]}
    medians = {f"{key} us": round(1e6 * statistics.median(value), 2) for key, value in ends.items()}
    return {"what": "checks along a text", "bytes": len(text), **medians}


def main() -> None:
    tokenizer = AutoTokenizer.from_pretrained(f"{os.environ['DECODEKIT_DATA']}/tok-cl100k")
    eos = int(tokenizer.convert_tokens_to_ids("<|endoftext|>"))
    whole = vocabulary_of(tokenizer, None, (eos,))
    prepared = list[float]()
    with clock(prepared):
        flat_trie(whole)
    dk.cfg('start: "a"', dialect="llguidance").compile(whole).start().mask()
    rows: list[dict[str, object]] = [{"what": "vocabulary prepared once", "ms": round(1000 * prepared[0], 1)}]
    for name, text in TEXTS.items():
        ids, more = tokenizer.encode(text), tokenizer.encode(MORE[name])
        gc.collect()
        gc.freeze()  # what the vocabulary holds is not gone through again and again
        grammar = COMMON.get(name)
        if grammar is None:
            rows.append(engine(name, "decodekit", lambda: dk.cfg(python()), whole, ids, more))
            rows.append(stock(name, python(), whole, ids))
        else:
            rows.append(engine(name, "decodekit", partial(dk.cfg, grammar), whole, ids, more))
            rows.append(engine(name, "llguidance", partial(dk.cfg, grammar, dialect="llguidance"), whole, ids, more))
            rows.append(stock(name, Lark(grammar, parser="lalr"), whole, ids))
        for row in rows[-3:]:
            print(row, flush=True)
    rows += [forks(whole), length(whole)]
    print(rows[-2:])
    note = f"a text of each grammar, {len(whole)} tokens, one run; load is by the clock, all else of CPU"
    save("lark", 0, rows, note, ("decodekit", "lark", "llguidance", "numpy"))


if __name__ == "__main__":
    main()
