"""Every example and the demo run as they stand, and show what they promise to show."""

from __future__ import annotations

import io
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from decodekit.cli.demo.blocks import demo

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SHOWS = {
    "depth": ["skipdecode", "the same text: True"],
    "domains": ["AWRS-SMC, 10", "report:"],
    "constraints": ["Name: ", "15 eos", "14 passes: the number of the pet is"],
    "diffusion": ["tau 1.1:", "rounds", "'a=2,b=2,sum=04;'", "the same text: True"],
    "fast_slow": ["asks when unsure", "large model asked"],
    "images": ["exact speculation", "of 10 pictures are of their class"],
    "in_transformers": ["SELECT"],
    "json_record": ['{"number":', "Order(number="],
    "particles": ["SELECT name FROM", "log evidence:"],
    "proposers": ["the same texts: True", "accepted: forced"],
    "speculative": ["the same text: True"],
    "sql_question": ["SELECT", "[("],
    "streaming": ["SELECT"],
    "uncertainty": ["gnll", "semantic_entropy", "abstain", "page: trace.html"],
}


def test_no_example_is_forgotten() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SHOWS)
    assert all(len(path.read_text(encoding="utf-8").splitlines()) < 60 for path in EXAMPLES.glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SHOWS))
def test_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    out = capsys.readouterr().out
    for part in SHOWS[name]:
        assert part in out, out


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
def test_the_notebook_runs_and_shows_what_it_stores(tmp_path: Path) -> None:
    found = json.loads((EXAMPLES / "compare.ipynb").read_text(encoding="utf-8"))
    code = [cell for cell in found["cells"] if cell["cell_type"] == "code"]
    script = tmp_path / "notebook.py"
    lines = ["import matplotlib", "matplotlib.use('Agg')", *("".join(cell["source"]) for cell in code)]
    script.write_text("\n".join(lines), encoding="utf-8")
    state = runpy.run_path(str(script))
    assert len(state["frame"]) == 8
    assert "srcdoc" in state["found"]._repr_html_()
    stored = {kind for cell in code for out in cell["outputs"] for kind in out["data"]}
    assert stored == {"text/plain", "text/html", "image/png"}


@pytest.mark.slow
def test_the_demo_shows_its_blocks_and_leaves_a_trace(tmp_path: Path) -> None:
    text, trace = io.StringIO(), tmp_path / "trace.npz"
    demo(Console(file=text, width=200), trace)
    shown = text.getvalue()
    for part in (
        "as an object",
        "SELECT",
        "rows",
        "same as without  True",
        "model calls",
        "guessed it",
        "rounds",
        "evidence",
    ):
        assert part in " ".join(shown.split()) or part in shown, shown
    with np.load(trace, allow_pickle=False) as saved:
        assert len(saved.files) > 3
