"""Coverage-guided fuzzing of patterns, schemas and grammars with atheris, no dependency: `pip install atheris`.

    python -m tests.fuzz grammar -max_total_time=300 -timeout=30 -rss_limit_mb=4000

What is given after the kind is libFuzzer's. Only our own error is allowed, in one sentence; anything else stops the
run with the input that did it. `tests/constraints/test_fuzz.py` does the same from the shape of what users write.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable

import atheris

with atheris.instrument_imports(include=["decodekit.constraints", "lark"]):
    import decodekit as dk
    import decodekit.constraints.automata.automaton
    import decodekit.constraints.automata.patterns
    import decodekit.constraints.json_schema.compile
    import decodekit.constraints.json_schema.constraint
    import decodekit.constraints.kinds.regex
    import decodekit.constraints.lark.constraint
    import decodekit.constraints.lark.masks
    from tests.constraints.test_fuzz import tried

PIECES = {
    "pattern": [
        "[a-c]", "{2,}", "(?:", ")", "|", "*", "+?", "(?=", "(?!", "\\b", "\\d", "é", "^", "$",
        "(?P<a>", "\\1",
    ],
    "schema": [
        '{"type":"object","properties":{"a":', "}", ",", '"required":["a"]', '{"type":"array","items":', "]", "[",
        '{"anyOf":[', '{"not":', '"uniqueItems":true', '{"type":"string","pattern":"', '"', '{"$ref":"#"}', "1e9",
        "true", '{"type":"integer","minimum":', '{"enum":["a",1,null]}', '"contains":', '"unevaluatedProperties":false',
        "{}",
    ],
    "grammar": [
        "start: ", "x: ", "A: /", "/\n", '"a"', '"if"i', "A", "x", "\n", "|", "*", "~2..3", "(", ")", "[", "]",
        "%ignore ", "[a-z]+", "(?!b)", "(?<=a)", "\\b", "%import common.INT\n", "?x: ", "A.2: ", "x{y}: ", 'x{"b"}',
        "!", "->",
    ],
}  # fmt: skip


def text(data: atheris.FuzzedDataProvider, pieces: list[str]) -> str:
    """Pieces of the language, and now and then any character."""
    out = list[str]()
    while data.remaining_bytes() and len(out) < 40:
        n = data.ConsumeIntInRange(0, len(pieces))
        out.append(pieces[n] if n < len(pieces) else data.ConsumeUnicodeNoSurrogates(1))
    return "".join(out)


MAKE: dict[str, Callable[[str], object]] = {
    "pattern": lambda given: dk.regex(given),
    "schema": lambda given: dk.json_schema(given, lenient=True),
    "grammar": lambda given: dk.cfg("start: " + given),
}


def main(argv: list[str]) -> None:
    """Run until libFuzzer says stop."""
    kind = argv[1] if len(argv) > 1 else ""
    if kind not in MAKE:
        raise SystemExit(f"say what to fuzz: python -m tests.fuzz {'|'.join(MAKE)} [options of libFuzzer]")
    warnings.simplefilter("ignore")

    def one(data: bytes) -> None:
        given = text(atheris.FuzzedDataProvider(data), PIECES[kind])
        if kind == "schema" and data[-1:] < b"\x80":  # mostly JSON at all
            try:
                json.loads(given)
            except ValueError:
                return
        try:
            tried(lambda: MAKE[kind](given))
        except BaseException:
            print(f"{kind}: {given!r}", file=sys.stderr)
            raise

    atheris.Setup([argv[0], *argv[2:]], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
