"""Comparisons: plans are read, runs are resumed without losing or doubling anything, reports say what is so."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from decodekit.comparison import compare, parallel, store
from decodekit.comparison.plan import Arm, plan_of
from decodekit.comparison.runner import Runner
from decodekit.errors import DecodekitError, OptionError, SpecError, UnknownPlugin

ARMS = ["greedy", "awrs", "smc = awrs | smc(particles=2)", "free = unconstrained: sample"]
TASKS = ["json(limit=4)", "sql(limit=3)"]


def told(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / store.RESULTS).read_text(encoding="utf-8").splitlines()]


def same(folder: Path, other: Path) -> bool:
    """Whether two runs say the same; floating point may differ in the last bits, as kernels do between processes."""
    ours, theirs = told(folder), told(other)
    for row in ours:
        for name in ("logp", "evidence", "ess", "score"):
            row[name] = row[name] and pytest.approx(row[name], abs=1e-4)
        row["posterior"] = [[text, pytest.approx(share, abs=1e-4)] for text, share in row["posterior"]]
    return ours == theirs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("run") / "out"
    return folder, compare("zoo:base", TASKS, ARMS, out=folder, batch=2)


def test_every_arm_answers_every_item_once(run: tuple[Path, Any]) -> None:
    rows = told(run[0])
    assert len(rows) == len({(row["task"], row["arm"], row["item"], row["seed"]) for row in rows}) == 7 * 4
    assert all(0 <= row["score"] <= 1 for row in rows)
    assert {row["valid"] for row in rows if row["arm"] == "free"} == {None}
    assert all(row["valid"] for row in rows if row["arm"] != "free")


def test_reports_hold_the_figures(run: tuple[Path, Any]) -> None:
    folder, found = run
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 10  # four plots a task, and the particles of each population
    assert page.count("<figcaption") == 2
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )
    assert page.count('<script type="application/json" class="story">') == (4 + 3) * 4
    assert page.count("<script>") == 1
    assert "src=" not in page
    with (folder / "report.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["arm"] for row in table] == [line.arm for line in found.lines]
    assert float(table[0]["score"]) == found.lines[0].score.value
    assert "| strategy |" in str(found)
    assert "&lt;table&gt;" in found._repr_html_()  # in a frame of its own


def test_the_frame_has_a_row_for_each_line(run: tuple[Path, Any]) -> None:
    pytest.importorskip("pandas")
    frame = run[1].frame()
    assert len(frame) == 8
    assert {"arm", "score_value", "score_low", "gflops"} <= set(frame.columns)


def test_the_same_plan_gives_the_same_answers(run: tuple[Path, Any], tmp_path: Path) -> None:
    compare("zoo:base", TASKS, ARMS, out=tmp_path / "again", batch=2)
    assert same(run[0], tmp_path / "again")


def test_workers_change_nothing(run: tuple[Path, Any], tmp_path: Path) -> None:
    runner = Runner(plan_of(["zoo:base"], TASKS, ARMS, batch=2))
    for worker in (1, 0, 2):
        assert list(runner.run(tmp_path, worker=worker, workers=3))
    runner.results(tmp_path)
    assert same(run[0], tmp_path)


@pytest.mark.slow
def test_killed_and_resumed_ten_times_nothing_is_lost_or_doubled(run: tuple[Path, Any], tmp_path: Path) -> None:
    out, rng = tmp_path / "out", random.Random(7)
    words = [sys.executable, "-m", "decodekit", "compare", "--out", str(out), "--resume", "--batch", "2"]
    for kind, given in (("--task", TASKS), ("--strategy", ARMS)):
        for one in given:
            words += [kind, one]
    killed = 0
    while killed < 10:
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        part, before = out / store.PART.format(0), time.monotonic()
        size = part.stat().st_size if part.exists() else 0
        while process.poll() is None and time.monotonic() < before + 60:  # until it writes, and a little longer
            if part.exists() and part.stat().st_size > size:
                break
            time.sleep(0.002)
        time.sleep(rng.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += 1
        if part.exists() and rng.random() < 0.5:  # a line torn in the middle, as a crash of the machine leaves it
            os.truncate(part, max(0, part.stat().st_size - rng.randrange(1, 400)))
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    assert same(run[0], out)


def test_progress_of_a_resumed_run_counts_what_is_done(tmp_path: Path) -> None:
    runner = Runner(plan_of(["zoo:base"], ["sql(limit=3)"], ["greedy"], batch=1))
    for _ in runner.run(tmp_path / "out"):
        break
    told: list[int] = []
    assert parallel.here(runner, tmp_path / "out", resume=True, tell=lambda done, said: told.append(done))
    assert told == [2, 3]


def test_another_manifest_is_refused_and_the_field_named(run: tuple[Path, Any]) -> None:
    with pytest.raises(OptionError, match=r"plan\.batch was 2 and is now 3"):
        compare("zoo:base", TASKS, ARMS, out=run[0], batch=3, resume=True)
    with pytest.raises(OptionError, match="--resume"):
        compare("zoo:base", TASKS, ARMS, out=run[0], batch=2)


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(OptionError, match="holds files and no manifest"):
        compare("zoo:base", ["sql(limit=1)"], ["greedy"], out=tmp_path)


def test_a_full_disk_leaves_what_is_done(tmp_path: Path) -> None:
    class Full:
        """A file whose disk is full."""

        def __init__(self, file: Any) -> None:
            self.file = file

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def write(self, data: bytes) -> int:
            self.file.write(data[: len(data) // 2])
            raise OSError(28, "No space left on device")

    with store.Part(tmp_path) as part:
        part.add([{"unit": "a", "item": "1"}], {"closes": "a"})
        kept, part._file = part._file, Full(part._file)  # type: ignore[assignment]
        with pytest.raises(OptionError, match="No space left on device"):
            part.add([{"unit": "b", "item": "2"}], {"closes": "b"})
        part._file = kept
    assert [row["closes"] for row in store.read(tmp_path)[1]] == ["a"]


def test_a_torn_unit_is_cut_off_and_a_damaged_line_named(tmp_path: Path) -> None:
    file = tmp_path / store.PART.format(0)
    file.write_text('{"unit": "a"}\n{"closes": "a"}\n{"unit": "b"}\n{"clo', encoding="utf-8")
    assert store.read(tmp_path)[0] == [{"unit": "a"}]
    with store.Part(tmp_path) as part:
        part.add([{"unit": "b"}], {"closes": "b"})
    assert len(store.read(tmp_path)[0]) == 2
    file.write_text('{"unit": oops}\n{"closes": "a"}\n', encoding="utf-8")
    with pytest.raises(OptionError, match="line 1 of"):
        store.read(tmp_path)


def test_arms_are_read() -> None:
    arm = Arm.of("lcd = unconstrained: sample | temperature(0.5) @ zoo:draft")
    assert (arm.name, arm.model, arm.constrained) == ("lcd", "zoo:draft", False)
    assert str(arm) == "unconstrained: sample | temperature(0.5) @ zoo:draft".replace(
        "sample | temperature(0.5)", str(arm.strategy)
    )
    assert Arm.of("greedy").name == "greedy"


@pytest.mark.parametrize(
    ("tasks", "arms", "options", "error", "said"),
    [
        (["jso"], ["greedy"], {}, UnknownPlugin, "no task is called 'jso'; did you mean 'json'"),
        (["json(lim=3)"], ["greedy"], {}, OptionError, "lim"),
        (["json | sql"], ["greedy"], {}, SpecError, "not one task"),
        ([], ["greedy"], {}, OptionError, "at least one task"),
        (["json"], ["greedy", "greedy"], {}, OptionError, "two strategies are called 'greedy'"),
        (["json"], ["greedy"], {"baseline": "awrs"}, OptionError, "none of the strategies greedy"),
        (["json"], ["greedy"], {"where": "nowhere"}, OptionError, "has no item where 'nowhere'"),
        (["sql"], ["threshold"], {}, DecodekitError, "strategy 'threshold' on zoo:base"),
    ],
    ids=["task", "option", "two", "none", "twice", "baseline", "where", "needs"],
)
def test_bad_plans(tasks: Any, arms: Any, options: Any, error: type[Exception], said: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=said):
        compare("zoo:base", tasks, arms, out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_where_and_limit_choose_items() -> None:
    every = plan_of(["zoo:base"], ["json"], ["greedy"])
    items = every.chosen(every.tasks[0])
    kind = items[-1].kind
    some = plan_of(["zoo:base"], ["json"], ["greedy"], where=kind, limit=2)
    assert [item.id for item in some.chosen(some.tasks[0])] == [item.id for item in items if item.kind == kind][:2]
    one = plan_of(["zoo:base"], ["json"], ["greedy"], where=items[3].id)
    assert items[3] in one.chosen(one.tasks[0])
    assert [unit.items for unit in plan_of(["zoo:base"], ["json"], ["greedy"], limit=3, batch=2).units()] == [
        tuple(items[:2]),
        tuple(items[2:3]),
    ]


def test_a_plan_from_a_file_and_a_dry_run(tmp_path: Path) -> None:
    file = tmp_path / "plan.toml"
    file.write_text('tasks = ["sql(limit=2)"]\nseeds = [1, 2]\n[strategies]\nplain = "greedy"\nwalk = "awrs"\n')
    words = [
        sys.executable,
        "-m",
        "decodekit",
        "compare",
        "--out",
        str(tmp_path / "out"),
        "--plan",
        str(file),
        "--dry-run",
    ]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    assert "plain:" in said
    assert "8 answers" in said
    total, plain, walk = (float(found) for found in re.findall(r"([\d.]+) TFLOP", said))
    assert total == pytest.approx(plain + walk, abs=0.02)
    assert not (tmp_path / "out").exists()
    file.write_text('taks = ["sql"]\n')
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "has the key 'taks'" in done.stderr
