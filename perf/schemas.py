"""JSON Schema, keyword by keyword and schema by schema: what is refused, what is accepted, against the official suite.

    DECODEKIT_DATA=... python -m perf.schemas        # a few minutes on one core; writes docs/json_schema.md too

Instances are written compactly, keys in the order in which the data set has them, and read byte by byte. *exact* is a
schema of which every valid instance is accepted and every invalid one refused. Arms: llguidance alone; `json_schema` as
it is (llguidance where it can enforce the whole schema, else the machine); `order="any"` (the machine for all).
*walks*: random texts (bytes that are allowed; rather closing ones after 20) over the schemas of the suite, three
each, at most 300 bytes and 10 seconds a schema. *lengths*: one check along an array of 8 kB.
JSONSchemaBench: the first 20 schemas of each of 15 groups.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import statistics
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema

from decodekit.constraints.core.vocabulary import Vocabulary
from decodekit.constraints.json_schema.constraint import JsonSchema
from decodekit.errors import ConstraintError
from perf.bench import save

DRAFTS = {
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
    "draft7": "http://json-schema.org/draft-07/schema#",
}
ARMS: dict[str, dict[str, Any]] = {
    "llguidance": {"engine": "llguidance"},
    "auto": {},
    "any order": {"order": "any"},
}
OURS = {"machine": {"engine": "machine", "order": "any"}}
LETTERS = [*b'"{}[],:-.0123456789eabc\\ntrufsl /', 0xC3, 0xA9]
BYTES = Vocabulary(tuple(bytes([byte]) for byte in range(256)))
DOC = Path(__file__).parent.parent / "docs" / "json_schema.md"
SUITE = "json-schema-test-suite"
BEGIN, END = "<!-- keywords -->", "<!-- /keywords -->"
Group = tuple[str, Any, list[tuple[bool, bytes]]]


def suite(folder: Path, draft: str) -> Iterator[Group]:
    """(keyword, schema, instances) of the official suite."""
    for file in sorted((folder / "tests" / draft).glob("*.json")):
        for group in json.loads(file.read_text(encoding="utf-8")):
            schema = group["schema"]
            schema = {"$schema": DRAFTS[draft], **schema} if isinstance(schema, dict) else schema
            yield file.stem, schema, [(test["valid"], text(test["data"])) for test in group["tests"]]


def bench(folder: Path, each: int = 20) -> Iterator[Group]:
    """(group, schema, instances) of JSONSchemaBench."""
    for file in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            for line in list(lines)[:each]:
                row = json.loads(line)
                yield file.name.split(".")[0], row["schema"], [(t["valid"], text(t["data"])) for t in row["tests"]]


def text(value: Any) -> bytes:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(errors="surrogatepass")


def accepts(compiled: Any, written: bytes) -> bool:
    """Byte by byte."""
    cursor = compiled.start()
    for byte in written:
        if not cursor.allows(byte):
            return False
        cursor.advance(byte)
    return bool(cursor.is_complete())


def satisfiable(schema: Any, instances: list[tuple[bool, bytes]]) -> bool:
    """Whether a validator accepts some instance here: schemas that nothing satisfies are refused with reason."""
    return any(good for good, _ in instances)


def judged(groups: Iterator[Group], options: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Counts by keyword or group."""
    found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for name, schema, instances in groups:
        line = found[name]
        line["schemas"] += 1
        line["valid"] += sum(good for good, _ in instances)
        line["invalid"] += sum(not good for good, _ in instances)
        begun = time.perf_counter()
        try:
            compiled = JsonSchema(schema, lenient=True, **options).compile(BYTES)
        except ConstraintError as problem:
            if not satisfiable(schema, instances):
                line["unsatisfiable"] += 1
            else:
                line["remote" if "which is not part of it" in str(problem) else "refused"] += 1
            continue
        line["ms"] = max(line["ms"], round(1000 * (time.perf_counter() - begun)))
        right = [accepts(compiled, written) for _, written in instances]
        wrong = [ok for ok, (good, _) in zip(right, instances, strict=True) if not good]
        line["valid accepted"] += sum(right) - sum(wrong)
        line["invalid accepted"] += sum(wrong)
        line["exact"] += all(ok == good for ok, (good, _) in zip(right, instances, strict=True))
    return {name: dict(line) for name, line in found.items()}


def total(lines: dict[str, dict[str, int]]) -> dict[str, int]:
    """Over all keywords."""
    names = dict.fromkeys(name for line in lines.values() for name in line)
    return {name: (max if name == "ms" else sum)(line.get(name, 0) for line in lines.values()) for name in names}


def table(found: dict[str, dict[str, dict[str, int]]]) -> str:
    """Keyword by keyword, draft 2020-12: schemas refused, and valid instances accepted, by arm."""
    heads = [f"{arm}: refused | valid accepted | invalid accepted" for arm in found]
    out = ["| keyword | schemas | valid | " + " | ".join(heads) + " |"]
    out.append("| --- | --- | --- |" + " --- |" * (3 * len(found)))
    for name, first in next(iter(found.values())).items():
        cells = [name, str(first["schemas"]), str(first["valid"])]
        for lines in found.values():
            line = lines[name]
            refused = line.get("refused", 0) + line.get("remote", 0)
            cells += [str(refused), str(line.get("valid accepted", 0)), str(line.get("invalid accepted", 0))]
        out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out)


def ends(folder: Path, options: dict[str, Any]) -> dict[str, int]:
    """How random texts end: whole (and then valid by the jsonschema library, or not), in a dead end, or not at all."""
    found: dict[str, int] = defaultdict(int)
    for i, (_, schema, instances) in enumerate(suite(folder, "draft2020-12")):
        try:
            compiled = JsonSchema(schema, lenient=True, formats=False, **options).compile(BYTES)
            validator = jsonschema.Draft202012Validator(schema)
            begun = time.perf_counter()
            for seed in range(3):
                if time.perf_counter() - begun < 10:
                    text, how = walk(compiled.start(), random.Random(3 * i + seed))
                    found[how] += 1
                    found["invalid"] += how == "whole" and not validator.is_valid(json.loads(text))
        except re.error:  # a pattern that the judge cannot read
            found["not judged"] += 1
        except ConstraintError:
            found["refused"] += any(good for good, _ in instances)
    return dict(found)


def walk(cursor: Any, rng: random.Random, most: int = 300) -> tuple[bytes, str]:
    """A random text and how it ended."""
    out = bytearray()
    while len(out) < most:
        ways = [byte for byte in LETTERS if cursor.allows(byte)] or [byte for byte in range(256) if cursor.allows(byte)]
        if cursor.is_complete() and (not ways or rng.random() < 0.5):
            return bytes(out), "whole"
        if not ways:
            return bytes(out), "dead end"
        closing = [byte for byte in ways if byte in b'"}],:']
        out.append(rng.choice(closing if closing and len(out) > 20 and rng.random() < 0.8 else ways))
        cursor.advance(out[-1])
    return bytes(out), "open"


def lengths(options: dict[str, Any]) -> dict[str, list[float]]:
    """Median microseconds of a check, by kilobytes read: of the four bytes that come next, and of bytes refused."""
    item = {"type": "object", "properties": {"id": {"type": "integer"}, "name": {"type": "string", "minLength": 1}}}
    schema = {"type": "array", "items": {**item, "additionalProperties": False}, "not": {"maxItems": 1}}
    written = text([{"id": i, "name": f"word {i} here"} for i in range(260)])
    pieces = [written[at : at + 4] for at in range(0, 8192, 4)]
    vocabulary = Vocabulary((*dict.fromkeys(pieces), b'","x'))
    number = {piece: i for i, piece in enumerate(vocabulary.tokens)}
    cursor = JsonSchema(schema, lenient=True, **options).compile(vocabulary).start()
    new: list[list[float]] = [[] for _ in range(8)]
    refused: list[list[float]] = [[] for _ in range(8)]
    for at, piece in enumerate(pieces):
        for token, out in ((number[piece], new), (len(vocabulary) - 1, refused)):
            begun = time.perf_counter()
            cursor.allows(token)
            out[at * 4 // 1024].append(1e6 * (time.perf_counter() - begun))
        cursor.advance(number[piece])
    return {
        "next, us": [round(statistics.median(one), 1) for one in new],
        "refused, us": [round(statistics.median(one), 1) for one in refused],
    }


def speed(data: Path) -> dict[str, Any]:
    """Microseconds of one check along the instances of real schemas, the machine; and of compiling 100 properties."""
    spent: list[float] = []
    for _, schema, instances in bench(data / "jsonschemabench", 4):
        try:
            compiled = JsonSchema(schema, order="any", lenient=True).compile(BYTES)
        except ConstraintError:
            continue
        for good, written in instances[:1]:
            cursor = compiled.start()
            for byte in written[:400] if good else b"":
                begun = time.perf_counter()
                if not cursor.allows(byte):
                    break
                spent.append(1e6 * (time.perf_counter() - begun))
                cursor.advance(byte)
    wide = {"type": "object", "properties": {f"p{i}": {"type": "string", "maxLength": 9} for i in range(100)}}
    out: dict[str, Any] = {"what": "speed", "check, median us": round(statistics.median(spent), 1)}
    for arm, options in ARMS.items():
        begun = time.perf_counter()
        JsonSchema(wide, lenient=True, **options).compile(BYTES)
        out[f"compile of 100 properties, ms, {arm}"] = round(1000 * (time.perf_counter() - begun), 1)
    return out


def main() -> None:
    """Command line."""
    if not os.environ.get("DECODEKIT_DATA"):
        raise SystemExit("perf.schemas needs the suites: set DECODEKIT_DATA to their folder")
    data = Path(os.environ["DECODEKIT_DATA"])
    rows: list[dict[str, Any]] = []
    keywords: dict[str, dict[str, dict[str, int]]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the validator, about schemas it fetches
        for name in (*DRAFTS, "JSONSchemaBench"):
            for arm, options in ARMS.items():
                official = name in DRAFTS
                found = judged(suite(data / SUITE, name) if official else bench(data / "jsonschemabench"), options)
                rows.append({"what": name, "arm": arm, **total(found)})
                print(rows[-1], flush=True)
                if name == "draft2020-12":
                    keywords[arm] = found
        for arm, options in OURS.items():
            rows.append({"what": "walks", "arm": arm, **ends(data / SUITE, options)})
            rows.append({"what": "lengths", "arm": arm, **lengths(options)})
            print(rows[-2:], flush=True)
        rows.append(speed(data))
    head, rest = DOC.read_text(encoding="utf-8").split(BEGIN)
    DOC.write_text(f"{head}{BEGIN}\n{table(keywords)}\n{END}{rest.split(END)[1]}", encoding="utf-8")
    print(save("schemas", 0, rows, __doc__ or ""))


if __name__ == "__main__":
    main()
