"""Which answers to trust: scores of a run, abstaining, and a page to look at."""

from __future__ import annotations

import tempfile
from pathlib import Path

import decodekit as dk
from decodekit.view import page, story


def main() -> None:
    out = dk.generate("zoo:base", "Ada Park is 36.", max_tokens=20, scores=["gnll", "mean_entropy", "epr(k=10)"])
    print(out.text, {name: round(value, 3) for name, value in out.scores.items()})

    drawn = dk.generate("zoo:base", "Ada Park is 36.", strategy="sample | temperature(1.3)", n=5, max_tokens=20)
    found = dk.score(drawn, ["semantic_entropy", "eigv", "sar"])
    print({name: round(value, 3) for name, value in found.items()})

    careful = dk.generate(
        "zoo:base",
        "Ada Park is 36.",
        strategy="sample | temperature(1.3) | abstain('mean_entropy', above=1.5, after=4)",
    )
    print(careful.finish, len(careful.tokens))

    file = Path(tempfile.mkdtemp()) / "trace.html"
    file.write_text(page([story(drawn.trace)]), encoding="utf-8")
    print(f"page: {file.name}")


if __name__ == "__main__":
    main()
