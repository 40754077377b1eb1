"""The demo's canvas: one frame a round, an animation on a terminal and lines elsewhere."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

import decodekit as dk
from decodekit.cli.demo import diffusion
from decodekit.cli.demo.blocks import _say
from decodekit.diffusion import information
from decodekit.zoo import sums


def test_frames_fill_up_to_the_text() -> None:
    out = dk.generate("zoo:sums", sums.PROMPT, strategy="ete(explore=3, gap=12, sample=True)", seed=7)
    frames = [frame.plain for frame in diffusion.frames(out)]
    path = information.ledger(out.trace).paths[0]
    assert len(frames) == path.rounds
    assert frames[-1] == out.text.replace("\n", " ")
    left = [frame.count("·") for frame in frames]
    assert left == sorted(left, reverse=True)
    assert left[0] == 62 - int((path.when == 0).sum())
    assert all(frame.startswith("a=") for frame in frames)


@pytest.mark.parametrize("terminal", [False, True])
def test_the_block_says_rounds_and_bits_and_animates_on_a_terminal_only(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    told: list[Any] = []
    page = io.StringIO()
    console = Console(file=page, force_terminal=terminal, width=200)

    def say(where: Console, label: str, value: object) -> None:
        told.append(label)
        _say(where, label, value)

    diffusion.canvas(console, say)
    written = page.getvalue()
    assert told == ["certain cells", "explore first", "why"]
    assert "4 rounds" in written
    assert bool(slept) is terminal
    assert ("round 1" in written) is not terminal
