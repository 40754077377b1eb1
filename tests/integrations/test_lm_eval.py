"""decodekit as a model of lm-evaluation-harness, on a task that is defined here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import decodekit as dk
from decodekit.analysis.likelihood import likelihood
from decodekit.errors import CompositionError, OptionError, PromptError
from decodekit.zoo.data import sql_examples

lm_eval = pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed: decodekit[lm-eval]")

from decodekit.integrations.lm_eval import HarnessModel, split  # noqa: E402 it needs the package

QUESTION = "Count the pets of the species dog.\nvet as SQL:\n"


class Asked:
    """A request of the harness, as far as models look at it."""

    def __init__(self, *args: Any) -> None:
        self.args = args


def test_likelihoods_are_the_models_and_depend_on_no_batch() -> None:
    decoder = dk.Decoder("zoo:base", batch_size=3)
    model: Any = decoder.model
    hf = model.hf
    encode = decoder.model.tokenizer.encode
    pairs = [(encode(QUESTION)[: 3 + i], encode("SELECT COUNT(*) FROM pets")[: 1 + 2 * i]) for i in range(5)]
    best = dk.generate("zoo:base", QUESTION, strategy="greedy", max_tokens=6)
    pairs.append((best.prompt.tokens, best.tokens))
    found = likelihood(decoder, pairs)
    for (context, rest), one in zip(pairs, found, strict=True):
        with torch.inference_mode():
            logp = hf(torch.tensor([[*context, *rest]])).logits[0].double().log_softmax(-1)
        there = logp[len(context) - 1 : -1]
        assert one.logp == pytest.approx(float(there[torch.arange(len(rest)), rest].sum()), abs=1e-3)
        assert one.greedy == bool((there.argmax(-1) == torch.tensor(rest)).all())
    assert len({one.greedy for one in found}) == 2


def test_a_strategys_scorer_is_asked_and_its_warpers_are_not() -> None:
    pair = [([5, 6, 7], [8, 9, 10, 11])]
    plain = likelihood(dk.Decoder("zoo:base"), pair)
    assert likelihood(dk.Decoder("zoo:base", "temperature(0.5) | sample"), pair) == plain
    both = likelihood(
        dk.Decoder("zoo:base", "greedy | fast_slow(slow='zoo:draft', combine='product', route='always')"), pair
    )
    assert abs(both[0].logp - plain[0].logp) > 1e-3


def test_bad_texts() -> None:
    with pytest.raises(PromptError, match="text 0 has an empty context"):
        likelihood(dk.Decoder("zoo:base"), [([], [1])])
    with pytest.raises(PromptError, match=r"text 1 has .* tokens"):
        likelihood(dk.Decoder("zoo:base"), [([1], [1]), ([1] * 10_000, [1])])
    with pytest.raises(CompositionError, match="no causal model"):
        likelihood(dk.Decoder("zoo:masked"), [([1], [1])])


def test_a_long_text_is_read_in_windows_that_meet() -> None:
    model = HarnessModel("zoo:draft")
    room = model._decoder.model.context
    assert room is not None
    ids = [7 + i % 50 for i in range(room + 40)]
    text = model.tokenizer.decode(ids)
    ids = model.tok_encode(text, add_special_tokens=False)
    assert len(ids) > room
    (found,) = model.loglikelihood_rolling([Asked(text)])
    first = likelihood(model._decoder, [([model.prefix_token_id], ids[:room])])[0].logp
    rest = likelihood(model._decoder, [(ids[len(ids) - room - 1 : room], ids[room:])])[0].logp
    assert found == pytest.approx(first + rest, abs=1e-3)


def test_options_of_a_task_or_of_the_strategy() -> None:
    free, fixed = HarnessModel("zoo:base"), HarnessModel("zoo:base", "top_k(5) | sample")
    drawn = {"until": ["\n"], "do_sample": True, "temperature": 0.7, "top_p": 0.9, "max_gen_toks": 9}
    assert free._asked(drawn) == ("temperature(0.7) | top_p(0.9) | sample", ("\n",), 9)
    assert fixed._asked(drawn) == ("top_k(5) | sample", ("\n",), 9)
    assert free._asked({"until": "x", "do_sample": False, "temperature": 0.7}) == (None, ("x",), 256)
    texts = free.generate_until([Asked(QUESTION, {"until": ["WHERE"]}), Asked(QUESTION, {"until": [], **drawn})])
    assert texts[0] == "SELECT COUNT(*) FROM pets "


def test_arguments_with_commas() -> None:
    text = "pretrained=zoo:base,strategy=speculative(draft='a,b', k=4) | top_p(0.9) | regex('x{1,2}') | sample,seed=3"
    assert split(text) == {
        "pretrained": "zoo:base",
        "strategy": "speculative(draft='a,b', k=4) | top_p(0.9) | regex('x{1,2}') | sample",
        "seed": "3",
    }
    with pytest.raises(OptionError, match="no name=value"):
        split("zoo:base")


@pytest.mark.slow
def test_the_command_line_on_a_local_task(tmp_path: Path) -> None:
    chosen = sql_examples("heldout", 6, 3)
    lines = [json.dumps({"prompt": one.prompt, "answer": one.answer}) for one in chosen]
    (tmp_path / "data.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "local.yaml").write_text(
        json.dumps(
            {
                "task": "local_sql",
                "dataset_path": "json",
                "dataset_kwargs": {"data_files": {"test": str(tmp_path / "data.jsonl")}},
                "test_split": "test",
                "output_type": "generate_until",
                "doc_to_text": "{{prompt}}",
                "doc_to_target": "{{answer}}",
                "generation_kwargs": {"until": ["\n"], "max_gen_toks": 80, "do_sample": False},
                "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
            }
        ),
        encoding="utf-8",
    )
    said = json.dumps({"pretrained": "zoo:base", "strategy": "speculative(draft='zoo:draft', k=3) | greedy"})
    line = ["lm-eval", "--model", "decodekit", "--model_args", said, "--tasks", "local_sql"]
    line += ["--include_path", str(tmp_path), "--output_path", str(tmp_path / "out")]
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_DATASETS_OFFLINE": "1"}
    ran = subprocess.run([sys.executable, "-m", "decodekit", *line], capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr[-2000:]
    (file,) = (tmp_path / "out").rglob("results*.json")
    score = json.loads(file.read_text(encoding="utf-8"))["results"]["local_sql"]["exact_match,none"]
    written = [dk.generate("zoo:base", one.prompt, strategy="greedy", max_tokens=80, stop="\n").text for one in chosen]
    assert score == pytest.approx(sum(t.strip() == e.answer for t, e in zip(written, chosen, strict=True)) / 6)
    assert score > 0.5
