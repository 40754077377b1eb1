"""Tasks: the same items every time, gold answers score 1, wrong ones less, and bad input is refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from decodekit.comparison.task import Task
from decodekit.comparison.tasks import goals
from decodekit.comparison.tasks.spider import parts
from decodekit.errors import DataWarning, DecodekitError, OptionError, SpecError
from decodekit.registry import discovery
from decodekit.registry.metadata import form
from decodekit.registry.spec import Strategy, parse_task


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with one small file of each layout."""

    def lines(name: str, *rows: dict[str, Any]) -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    lines("gsm.jsonl", {"question": "Two and two?", "answer": "2 + 2 = 4\n#### 4"})
    lines("code.jsonl", {"prompt": "def f(x):\n", "test": "def check(f):\n    assert f(2) == 4", "entry_point": "f"})
    lines("prompts.jsonl", {"prompt": "Hello"})
    lines("schemas/Easy.jsonl", {"schema": {"type": "boolean"}}, {"schema": {"type": "integer"}})
    lines("spider/dev.jsonl", {"db_id": "d", "question": "How many?", "query": "SELECT count(*) FROM t"})
    (tmp_path / "spider" / "schemas.sql.json").write_text(json.dumps({"d": "CREATE TABLE t (a INTEGER, b TEXT);"}))
    (tmp_path / "mol.smi").write_text("CCO\nCCN\n")
    return tmp_path


def specs(folder: Path) -> dict[str, tuple[str, str, str]]:
    """Task -> (spec, an answer that is right for the first item, one that is wrong)."""
    return {
        "arithmetic": ("arithmetic(terms=2, digits=1, limit=2)", "=gold", "1000"),
        "json": ("json(limit=2)", "=answer", "{}"),
        "sql": ("sql(limit=2)", "=answer", "SELECT 1"),
        "pattern": ("pattern(limit=2)", "abc-abc", "abc-abd"),
        "goals": ("goals(limit=2)", "=goal", "(:goal (and (clear a)))"),
        "smiles": (f"smiles(path={str(folder / 'mol.smi')!r}, limit=1)", "CCCl", "CCO"),
        "gsm8k": (f"gsm8k({str(folder / 'gsm.jsonl')!r})", " It is 4.", "5"),
        "humaneval": (
            f"humaneval({str(folder / 'code.jsonl')!r}, run=True)",
            "    return 2 * x\nprint(1)",
            "    return 3",
        ),
        "json_schema": (f"json_schema({str(folder / 'schemas')!r})", "true", "3"),
        "text_to_sql": (f"text_to_sql({str(folder / 'spider')!r})", "SELECT COUNT(*) FROM t", "SELECT a FROM t"),
    }


def test_every_task_is_here(files: Path) -> None:
    assert {*specs(files), "prompts", "image"} == set(discovery.names(discovery.TASKS))


@pytest.mark.parametrize(
    "name",
    ["arithmetic", "json", "sql", "pattern", "goals", "smiles", "gsm8k", "humaneval", "json_schema", "text_to_sql"],
)
def test_scores(name: str, files: Path) -> None:
    spec, right, wrong = specs(files)[name]
    task = parse_task(spec)
    assert isinstance(task, Task)
    items = task.items()
    assert [(item.id, item.prompt, item.most) for item in items] == [(i.id, i.prompt, i.most) for i in task.items()]
    assert len({item.id for item in items}) == len(items)
    gold = {"=gold": lambda item: str(item.gold), "=answer": lambda item: item.gold.answer, "=goal": written}
    right = gold[right](items[0]) if right in gold else right
    assert task.score(items[0], right) == 1
    assert (task.score(items[0], wrong) or 0) < 1
    limits = items[0].constraint
    for limit in limits if isinstance(limits, tuple) else [] if limits is None else [limits]:
        assert limit.judge(right)
    assert parse_task(form(task)) == task


def written(item: Any) -> str:
    return "(:goal (and " + " ".join(f"({' '.join(fact)})" for fact in sorted(item.gold[1])) + "))"


def test_prompts_have_no_score(files: Path) -> None:
    task = parse_task(f"prompts({str(files / 'prompts.jsonl')!r})")
    (item,) = task.items()
    assert task.score(item, "anything") is None


def test_goals_are_compared_by_what_follows() -> None:
    on = {("on", "a", "b"), ("on-table", "b"), ("on-table", "c"), ("on", "d", "c")}
    assert ("clear", "a") in goals.closed("blocksworld", frozenset(on))
    assert ("clear", "b") not in goals.closed("blocksworld", frozenset(on))
    assert goals.may_hold("(:goal (and (on a b) (on b c)")
    blocks = ("(on a b) (on b a)", "(on a a)", "(on a b) (on a c)", "(on a c) (on b c)", "(on a b) (clear b)")
    hands = ("(carry ball1 left) (carry ball2 left)", "(carry ball1 left) (free left)", "(at-robby a) (at-robby b)")
    for text in (*blocks, *hands):
        assert not goals.may_hold(f"(:goal (and {text}"), text
    assert goals.read("(:goal (or (clear a)))") is None


def test_parts_of_statements() -> None:
    assert parts("SELECT a, b FROM t WHERE a = 1 AND b = 'x'") == parts("select b, a from t where b = 'x' and a = 1")
    assert parts("SELECT a FROM t") != parts("SELECT DISTINCT a FROM t")
    assert parts("SELEC a FROM") is None


def test_spider_gold_scores_one(data: Path) -> None:
    task = parse_task(f"text_to_sql({str(data / 'spider-dev')!r})")
    items = task.items()
    assert len(items) == 513
    assert all(task.score(item, item.gold["query"]) == 1 for item in items)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("gsm8k('nowhere.jsonl')", "cannot be read"),
        ("gsm8k('{}/broken.jsonl')", "line 1 of .* is not JSON.* no other line can be used"),
        ("gsm8k('{}/prompts.jsonl')", "line 1 of .* needs question"),
        ("humaneval('{}/code.jsonl')", "run=True"),
        ("json_schema('{}/schemas', groups=['Hard'])", "there is Easy"),
        ("text_to_sql('{}')", "cannot be read"),
        ("smiles('{}/none.smi')", "cannot be read"),
        ("pattern('{}/gsm.jsonl')", "has no text under 'regex'"),
    ],
    ids=["missing", "broken", "keys", "run", "group", "folder", "smi", "regex"],
)
def test_bad_input(spec: str, said: str, files: Path) -> None:
    (files / "broken.jsonl").write_text('{"question"\n')
    with pytest.raises(OptionError, match=said):
        parse_task(spec.format(files)).items()


def test_a_broken_line_is_named_and_the_rest_is_used(files: Path) -> None:
    good = '{"question": "a", "answer": "#### 1"}\n'
    (files / "torn.jsonl").write_text(good + '{"question"\n' + "[1]\n\n" + '{"answer": "#### 1"}\n' + good)
    with pytest.warns(DataWarning) as told:
        items = parse_task(f"gsm8k({str(files / 'torn.jsonl')!r})").items()
    assert [item.id for item in items] == ["1", "6"]
    said = [str(one.message) for one in told]
    assert [text.split(" of ")[0] for text in said] == ["gsm8k: line 2", "gsm8k: line 3", "gsm8k: line 5"]
    assert all(text.endswith("it is left out") for text in said)


def test_a_task_is_no_part_of_a_strategy() -> None:
    with pytest.raises(SpecError, match="json is a task"):
        Strategy.of(parse_task("json"))
    with pytest.raises(DecodekitError, match="no plugin is called 'arithmetic'"):
        Strategy.of("arithmetic")
