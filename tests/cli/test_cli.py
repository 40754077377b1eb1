"""The command line: what it prints, where errors go, and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from typer.testing import CliRunner

import decodekit as dk
from decodekit.cli.main import app
from decodekit.core import loop
from decodekit.core.protocols import Round

RUN = CliRunner()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A saved random model whose tokens are single bytes."""
    place = tmp_path_factory.mktemp("model")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(["<pad>", "<s>", "</s>", *alphabet])}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", model_max_length=128
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=259,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return str(place)


def run(*words: str, **more: Any) -> Any:
    return RUN.invoke(app, list(words), **more)


def test_generate_prints_the_text(folder: str) -> None:
    out = run("generate", "abc", "--model", folder, "--regex", "[0-9]{5}", "--seed", "3", "--max-tokens", "9")
    assert out.exit_code == 0, out.output
    assert out.stdout == dk.generate(folder, "abc", constraint=dk.regex("[0-9]{5}"), seed=3, max_tokens=9).text + "\n"
    assert out.stdout.strip().isdigit()
    assert out.stderr == ""


def test_json_is_one_object_a_line(folder: str) -> None:
    schema = (
        '{"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": false}'
    )
    out = run("generate", "abc", "--model", folder, "--json-schema", schema, "--json", "--strategy", "sample")
    record = json.loads(out.stdout)
    assert record["value"] in ({"a": 1}, {"a": 2})
    assert record["prompt"] == "abc"
    assert record["finish"] == "eos"
    assert record["spec"] == "sample"


def test_choices_samples_and_particles(folder: str) -> None:
    many = run(
        "generate", "abc", "--model", folder, "--choice", "yes", "--choice", "no", "-n", "4", "--strategy", "sample"
    )
    assert len(many.stdout.split()) == 4
    assert set(many.stdout.split()) <= {"yes", "no"}
    spec = "awrs | smc(particles=4)"
    one = run("generate", "abc", "--model", folder, "--choice", "yes", "--choice", "no", "--strategy", spec)
    assert one.stdout in ("yes\n", "no\n")


def test_stream_prints_the_same_text(folder: str) -> None:
    words = ("generate", "abc", "--model", folder, "--strategy", "sample", "--max-tokens", "12")
    plain, streamed = run(*words), run(*words, "--stream")
    assert plain.exit_code == streamed.exit_code == 0
    assert plain.stdout == streamed.stdout


def test_prompts_from_files_and_standard_input(folder: str, tmp_path: Path) -> None:
    words = ("--model", folder, "--max-tokens", "3", "--json")
    single = [json.loads(run("generate", p, *words).stdout)["tokens"] for p in ("abc", "de")]
    lines, records = tmp_path / "lines.txt", tmp_path / "records.jsonl"
    lines.write_text("abc\n\nde\n", encoding="utf-8")
    records.write_text('{"prompt": "abc"}\n{"prompt": "de"}\n', encoding="utf-8")
    for file in (lines, records):
        out = run("generate", "--prompts", str(file), *words)
        assert [json.loads(line)["tokens"] for line in out.stdout.splitlines()] == single
    assert json.loads(run("generate", "-", *words, input="abc").stdout)["tokens"] == single[0]


def test_the_trace_is_saved(folder: str, tmp_path: Path) -> None:
    file, lines = tmp_path / "t.npz", tmp_path / "lines.txt"
    lines.write_text("abc\nde\n", encoding="utf-8")
    out = run("generate", "--prompts", str(lines), "--model", folder, "--max-tokens", "3", "--trace", str(file))
    assert out.exit_code == 0
    assert set(dk.Trace.load(file)["group"].tolist()) == {0, 1}


BAD: list[tuple[tuple[str, ...], str]] = [
    ((), "give either a prompt (or - for standard input) or --prompts FILE"),
    (("abc", "--prompts", "x"), "give either a prompt"),
    (("--prompts", "missing.txt"), "--prompts 'missing.txt' cannot be read: No such file or directory; check the path"),
    (("abc", "--strategy", "sampel"), "no plugin is called 'sampel'; did you mean 'sample'?"),
    (("abc", "--max-tokens", "0"), "max_tokens=0 is refused; give a whole number of at least 1"),
    (("abc", "--json-schema", "{"), "--json-schema is no JSON: Expecting property name"),
    (("abc", "--json-schema", "none.json"), "--json-schema 'none.json' cannot be read: No such file"),
    (("abc", "--regex", "a", "--choice", "b"), "--regex and --choice are two constraints; give one, or join them"),
    (("abc", "--regex", "("), ""),
    (("abc", "--stream", "--json"), "--stream prints one growing text: drop --json"),
    (
        ("abc", "--regex", "a*", "--strategy", "mask | smc(particles=4)", "--stream"),
        "its text cannot be streamed; use generate",
    ),
]


@pytest.mark.parametrize(("words", "sentence"), BAD, ids=[" ".join(words) or "nothing" for words, _ in BAD])
def test_errors_are_one_sentence(folder: str, words: tuple[str, ...], sentence: str) -> None:
    out = run("generate", *words, "--model", folder)
    assert out.exit_code == 2
    assert out.stdout == ""
    assert out.stderr.startswith("decodekit: ")
    assert sentence in out.stderr
    assert out.stderr.count("\n") == 1
    assert "Traceback" not in out.stderr


def test_prompt_files_with_slips(folder: str, tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    for text, sentence in (
        ("", "holds no prompt; write one per line"),
        ('{"prompt": "a"}\n{"prompt"', "prompt 2 of"),
        ('{"text": "a"}', 'has no "prompt" and no "messages"; add either'),
    ):
        file.write_text(text, encoding="utf-8")
        out = run("generate", "--prompts", str(file), "--model", folder)
        assert out.exit_code == 2
        assert sentence in out.stderr


def test_an_unknown_model(tmp_path: Path) -> None:
    out = run("generate", "abc", "--model", str(tmp_path / "nothing"))
    assert out.exit_code == 2
    assert out.stderr.startswith("decodekit: ")
    assert out.stderr.count("\n") == 1


def test_ctrl_c_prints_what_is_finished(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("abc\nde\nfgh\n", encoding="utf-8")
    words = ("generate", "--prompts", str(lines), "--model", folder, "--regex", "[0-9]{4}", "--batch-size", "1")
    full = run(*words).stdout.splitlines()
    real, left = loop.decode, [7]

    def interrupted(*args: Any) -> Iterator[Round]:
        for what in real(*args):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            yield what

    monkeypatch.setattr("decodekit.run.session.decode", interrupted)
    out = run(*words)
    assert out.exit_code == 130
    shown = out.stdout.splitlines()
    assert len(full) == len(shown) == 3
    assert shown[0] == full[0]
    assert full[1].startswith(shown[1])
    assert 0 < len(shown[1]) < 4
    assert shown[2] == ""
    assert out.stderr.endswith("decodekit: interrupted\n")


def test_lists() -> None:
    table = run("strategies")
    assert table.exit_code == 0
    assert "speculative" in table.stdout
    assert "| " in run("strategies", "--markdown").stdout
    assert run("strategies", "--broken").exit_code == 0
    shown = run("models")
    assert shown.exit_code == 0
    assert "zoo:base" in shown.stdout


def test_version_and_help() -> None:
    assert run("--version").stdout == f"decodekit {dk.__version__}\n"
    assert "generate" in run("--help").stdout
    assert run("nonsense").exit_code == 2


def test_a_real_process(folder: str) -> None:
    words = [sys.executable, "-m", "decodekit", "generate", "-", "--model", folder, "--regex", "[0-9]{3}"]
    done = subprocess.run(words, input="abc", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().isdigit()
    failed = subprocess.run([*words, "--max-tokens", "0"], input="abc", capture_output=True, text=True)
    assert failed.returncode == 2
    assert failed.stderr.startswith("decodekit: max_tokens=0 is refused")
    assert "Traceback" not in failed.stderr
