"""The SQL constraint on large vocabularies: mask, check, compilation; beside the llguidance grammar of the same schema.

Walks over gold questions of Spider, token by token, under the schema of their own database; each engine walks
those that its language holds, so the small grammar is timed on the easier ones. A mask is *new* where nothing
about its place was known, *warm* where the place was met but its mask is forgotten. Seconds are of CPU. The
131k vocabulary is the 100k one with the tokens of another added.
Needs DECODEKIT_DATA. Usage: python -m perf.sql [--questions 60] [--seed 0]. Writes perf/results/sql.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from decodekit.comparison.task import LARGE_SQL
from decodekit.constraints.core.vocabulary import Vocabulary, vocabulary_of
from decodekit.constraints.sql.constraint import Sql
from perf.bench import save

SIZES = {"100k": 100_261, "131k": 131_072}


def questions(folder: Path, count: int, seed: int) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Schemas by name, and some of the distinct (schema, query) pairs."""
    ddl: dict[str, str] = json.loads((folder / "schemas.sql.json").read_text(encoding="utf-8"))
    lines = (folder / "dev.jsonl").read_text(encoding="utf-8").splitlines()
    gold = sorted({(one["db_id"], " ".join(one["query"].split())) for one in map(json.loads, lines)})
    random.Random(seed).shuffle(gold)
    return ddl, gold[:count]


def vocabularies(folder: Path) -> Iterator[tuple[str, Any, Vocabulary]]:
    """Name, tokenizer, vocabulary."""
    tokenizer = AutoTokenizer.from_pretrained(str(folder / "tok-cl100k"))
    small = vocabulary_of(tokenizer, SIZES["100k"], ())
    yield "100k", tokenizer, small
    other = AutoTokenizer.from_pretrained(str(folder / "tok-neox20b"))
    more = vocabulary_of(other, len(other), ()).tokens
    yield "131k", tokenizer, Vocabulary(tuple(dict.fromkeys([*small.tokens, *more]))[: SIZES["131k"]])


def walked(compiled: Any, ids: list[int]) -> tuple[list[float], list[float]] | None:
    """Seconds of CPU of each mask and each check along a text; None where it is refused."""
    cursor, masks, checks = compiled.start(), list[float](), list[float]()
    for token in ids:
        begin = time.process_time()
        cursor.mask()
        middle = time.process_time()
        allowed = cursor.allows(token)
        checks.append(time.process_time() - middle)
        masks.append(middle - begin)
        if not allowed:
            return None
        cursor.advance(token)
    return masks, checks


def figures(seconds: list[float], unit: float) -> dict[str, float]:
    """Median, mean and 90th percentile."""
    cuts = statistics.quantiles(seconds, n=10)
    found = (statistics.median(seconds), statistics.fmean(seconds), cuts[-1])
    return dict(zip(("median", "mean", "p90"), (round(one * unit, 3) for one in found), strict=True))


def measure(
    engine: Any, vocabulary: Vocabulary, tokenizer: Any, ddl: dict[str, str], gold: list[tuple[str, str]]
) -> Any:
    """One engine on one vocabulary."""
    compile_s, made = list[float](), dict[str, Any]()
    large: Any = LARGE_SQL if engine == "own" else {"case": "any"}
    made["warm-up"] = Sql(next(iter(ddl.values())), engine=engine, **large).compile(vocabulary)
    walked(made["warm-up"], tokenizer.encode("SELECT "))
    for name, schema in ddl.items():
        begin = time.process_time()
        made[name] = Sql(schema, engine=engine, **large).compile(vocabulary)
        compile_s.append(time.process_time() - begin)
    new, warm, checks, held = list[float](), list[float](), list[float](), 0
    for turn in range(2):
        for name, query in gold:
            if hasattr(made[name], "_masks"):
                made[name]._masks.clear()
            found = walked(made[name], tokenizer.encode(query))
            if found is not None:
                held += turn == 0
                (warm if turn else new).extend(found[0])
                checks.extend(found[1] if turn else [])
    return {
        "questions": held,
        "compile_ms": figures(compile_s, 1e3),
        "new_mask_ms": figures(new, 1e3),
        "warm_mask_ms": figures(warm, 1e3),
        "check_us": figures(checks, 1e6),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    data = Path(os.environ["DECODEKIT_DATA"])
    ddl, gold = questions(data / "spider-dev", options.questions, options.seed)
    table = list[dict[str, object]]()
    for size, tokenizer, vocabulary in vocabularies(data):
        for engine in ("own", "llguidance"):
            row = {"vocabulary": size, "engine": engine, **measure(engine, vocabulary, tokenizer, ddl, gold)}
            table.append(row)
            print(json.dumps(row))
    note = f"CPU time; {len(gold)} gold questions; a new mask counts what its place had to learn"
    save("sql", options.seed, table, note)


if __name__ == "__main__":
    main()
