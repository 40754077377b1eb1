"""SMILES: molecules that chemists wrote are accepted prefix by prefix, and walks always come to an end."""

from __future__ import annotations

import heapq
import random
from pathlib import Path
from types import ModuleType

import pytest

import decodekit as dk
from decodekit.comparison.tasks.molecules import KNOWN
from decodekit.constraints.core.vocabulary import Vocabulary, vocabulary_of
from decodekit.constraints.kinds.smiles import Molecule, Reader, Smiles

BYTES = Vocabulary(tuple(bytes([byte]) for byte in range(256)))
GOOD = [
    *KNOWN,
    "N#N",
    "[Na+].[Cl-]",
    "C/C=C\\C",
    "[13CH4]",
    "[C@@H](N)(C)O",
    "C%12CC%12",
    "C1CC=1",
    "[nH]1cccc1",
    "BrBr",
]
BAD = [
    "",
    "C(C)(C)(C)(C)C",
    "FC=F",
    "cC",
    "C1C1",
    "C11",
    "F(C)C",
    "C=(C)",
    "CC(",
    "CC)",
    "#C",
    "C==C",
    "Clc",
    "C.",
    "C1CC",
]


@pytest.mark.parametrize("text", GOOD)
def test_accepted(text: str) -> None:
    assert Smiles().judge(text)
    assert Smiles().value(text) == text


@pytest.mark.parametrize("text", BAD, ids=repr)
def test_refused(text: str) -> None:
    assert not Smiles().judge(text)


def test_molecules_of_chemists(data: Path) -> None:
    """All of ZINC's and GDB-17's samples."""
    texts = (data / "smiles" / "zinc_5000.smi").read_text().split() + (
        data / "smiles" / "GDB17_sample.smi"
    ).read_text().split()
    assert len(texts) == 5030
    assert not [text for text in texts if not Smiles().judge(text)]


@pytest.mark.parametrize("seed", range(12))
def test_walks_never_come_to_a_dead_end(seed: int) -> None:
    """Random characters that are allowed, then the shortest way out: the text is whole, and was never stuck."""
    reader, rng = Reader(), random.Random(seed)
    letters = [byte for byte in b"CNOFcnos()=#123%.[]H+lBr" for _ in range(2)]
    for _ in range(40):
        cursor = Smiles().compile(BYTES).start()
        text = b""
        for _ in range(rng.randrange(25)):
            allowed = [byte for byte in letters if cursor.allows(byte)]
            if not allowed:
                break
            byte = rng.choice(allowed)
            cursor.advance(byte)
            text += bytes([byte])
        way = out(reader, text)
        assert way is not None, text
        assert Smiles().judge((text + way).decode())


def out(reader: Reader, text: bytes) -> bytes | None:
    """A way to complete `text`, best first: what closes rings and branches."""
    state = reader.first()
    for byte in text:
        after = reader.step(state, byte)
        assert after is not None
        state = after
    open_: list[tuple[int, int, Molecule, bytes]] = [(0, 0, state, b"")]
    seen = set[Molecule]()
    while open_:
        *_, here, way = heapq.heappop(open_)
        if reader.final(here):
            return way
        if here in seen or len(seen) > 20_000:
            continue
        seen.add(here)
        rings = "".join(str(number) if number < 10 else f"%{number}" for number, *_ in here.rings)
        for byte in {*b"cC.]()", *rings.encode(), *(b"0123456789" if here.part[:1] == "%" else b"9")}:
            after = reader.step(here, byte)
            if after is not None:
                waiting = 4 * (len(after.rings) + len(after.branches)) + len(way) + len(after.part)
                heapq.heappush(open_, (waiting, len(seen) * 64 + len(open_), after, way + bytes([byte])))
    return None


def test_masks_are_the_checks(tools: ModuleType) -> None:
    vocabulary = vocabulary_of(tools.small_tokenizer(), 420, (1,))
    compiled = Smiles().compile(vocabulary)
    for seed in range(4):
        _, text = tools.walk(compiled, seed, vocabulary, 20)
        cursor = compiled.start()
        for token in text:
            assert tools.by_checks(cursor, 420) == [i for i in range(420) if cursor.mask()[i // 32] >> (i % 32) & 1]
            cursor.advance(token)


def test_what_is_open_is_said() -> None:
    cursor = Smiles().compile(BYTES).start()
    for byte in b"C1CC(":
        cursor.advance(byte)
    assert "ring 1" in cursor.explain()
    assert "a branch" in cursor.explain()


def test_end_to_end() -> None:
    result = dk.generate("zoo:base", "CCO\nCC(=O)O\n", strategy="awrs", constraint=dk.smiles(), max_tokens=40, n=4)
    ended = [sample.text for sample in result.samples if sample.finish == "eos"]
    assert all(map(Smiles().judge, ended))
