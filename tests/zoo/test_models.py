"""The shipped weights: they load with stock classes, are small, and do what their cards say."""

import json
from pathlib import Path

import pytest
import torch

from decodekit import zoo
from decodekit.errors import UnknownModel
from decodekit.models.full_attention import Full
from decodekit.zoo.data import Example, json_examples, sql_examples
from decodekit.zoo.scoring import judge_json, judge_sql, share
from training import card, decoding, evaluate

SEED = 91


def _quality(name: str) -> dict[str, dict[str, dict[str, float]]]:
    report: dict[str, dict[str, dict[str, float]]] = json.loads((zoo.path(name) / "evaluation.json").read_text())
    return report


@pytest.mark.parametrize("name", zoo.names())
def test_models_load_and_score(name: str) -> None:
    model, words = evaluate.load(zoo.path(name))
    logits = model(**words("Count the pets.\n", return_tensors="pt")).logits
    assert logits.shape[-1] == len(words)
    assert bool(torch.isfinite(logits).all())
    assert model.config.eos_token_id == words.eos_token_id


def test_sizes() -> None:
    base, draft, masked = (evaluate.load(zoo.path(n))[0].num_parameters() for n in ("base", "draft", "masked"))
    assert 2e6 <= base <= 4e6
    assert draft <= base / 10
    assert masked == base  # the same stack, taught to see both ways
    files = [f for n in zoo.names() for f in zoo.path(n).iterdir() if f.is_file()]
    assert sum(f.stat().st_size for f in files) < 25e6


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownModel, match="base, draft, masked"):
        zoo.path("gpt")


@pytest.mark.parametrize("name", zoo.names())
def test_cards_say_what_the_evaluation_says(name: str) -> None:
    folder: Path = zoo.path(name)
    text = (folder / "README.md").read_text()
    assert text == card.text(name, folder)
    for task in ("json", "sql", "acceptance"):
        for measure, v in _quality(name).get(task, {}).items():
            assert f"| {measure} | {v['percent']} | {v['low']} to {v['high']} | {v['n']} |" in text


def test_base_answers_unseen_examples() -> None:
    model, words = evaluate.load(zoo.path("base"))
    records, questions = json_examples("heldout", 12, SEED), sql_examples("heldout", 12, SEED)
    answers = decoding.greedy(model, words, [e.prompt for e in records + questions])
    fields = sum(judge_json(e, a).fields for e, a in zip(records, answers[:12], strict=True)) / 12
    rows = sum(judge_sql(e, a).rows for e, a in zip(questions, answers[12:], strict=True)) / 12
    reported = _quality("base")
    assert fields >= reported["json"]["exact fields"]["percent"] / 100 - 0.08
    assert rows >= reported["sql"]["execution match"]["percent"] / 100 - 0.2


def test_masked_fills_its_canvas() -> None:
    model, words = evaluate.load(zoo.path("masked"))
    records = json_examples("heldout", 8, SEED)
    answers, rounds = decoding.unmask(Full.of(model), words, [e.prompt for e in records])
    fields = sum(judge_json(e, a).fields for e, a in zip(records, answers, strict=True)) / 8
    assert fields >= _quality("masked")["json"]["exact fields"]["percent"] / 100 - 0.25
    assert 1 <= rounds <= 48


def test_judges_tell_right_from_wrong() -> None:
    gold = Example("json", "", '{"a":1,"b":true}', "person", "k", {"a": 1, "b": True})
    assert judge_json(gold, gold.answer).exact
    assert judge_json(gold, '{"a":true,"b":true}').fields == 0.5, "true is not the number 1"
    assert judge_json(gold, '{"b":true,"a":1}').fields == 1.0
    assert not judge_json(gold, '{"b":true,"a":1}').exact
    assert not judge_json(gold, '{"a":1').valid
    query = Example("sql", "", "SELECT name FROM pets WHERE species = 'cat'", "vet", "k")
    assert judge_sql(query, "SELECT name FROM pets WHERE species = 'cat' ORDER BY name DESC").rows
    assert judge_sql(query, "SELECT name FROM pets").runs
    assert not judge_sql(query, "SELECT name FROM pets").rows
    assert not judge_sql(query, "SELECT nothing FROM pets").runs
    assert not judge_sql(query, "DELETE FROM pets").runs, "a judge never writes"
    assert not judge_sql(query, "SELECT 1; SELECT 2").runs


def test_interval_is_wilsons() -> None:
    found = share(90, 100)
    assert (found.percent, found.low, found.high) == (90.0, 82.6, 94.5)  # Newcombe 1998 gives 0.8256 and 0.9448
