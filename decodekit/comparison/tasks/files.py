"""Tasks read from files: word problems (GSM8K's layout), programs (HumanEval's layout), and plain prompts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from decodekit.comparison.task import Item, first, lines, texts
from decodekit.errors import OptionError
from decodekit.registry.declaration import plugin

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


@plugin(role="task", paper="Cobbe et al. 2021, arXiv 2110.14168")
class Gsm8k:
    """Word problems; score: 1 where the last number of the text is the gold answer.

    Args:
        path: JSONL with `question` and `answer` (which ends in `#### NUMBER`).
        shots: solved examples before each question, from `examples`.
        examples: JSONL of the same layout for them, or None for none.
        limit: how many items, or all.
        most: tokens that an answer may have.
    """

    path: str
    shots: Annotated[int, Field(ge=0)] = 0
    examples: str | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    most: Annotated[int, Field(ge=1)] = 300

    def items(self) -> list[Item]:
        """Questions in the order of the file."""
        if bool(self.shots) != (self.examples is not None):
            raise OptionError("gsm8k: shots= and examples= go together; give both or neither")
        shown = lines(self.examples, "gsm8k", _solved)[: self.shots] if self.examples else []
        head = "".join(f"Question: {row['question']}\nAnswer: {row['answer']}\n\n" for _, row in shown)
        found = []
        for number, row in lines(self.path, "gsm8k", _solved):
            gold = str(row["answer"]).split("####")[-1]
            prompt = f"{head}Question: {row['question']}\nAnswer:"
            found.append(Item(str(row.get("id", number)), prompt, None, gold, self.most))
        return first(found, self.limit)

    def score(self, item: Item, text: str) -> float:
        """Whether the last number of the first paragraph is the gold one."""
        said, gold = _NUMBER.findall(text.split("\n\n")[0]), _NUMBER.findall(item.gold)
        return float(bool(said) and bool(gold) and _value(said[-1]) == _value(gold[-1]))


def _solved(row: dict[str, Any]) -> str | None:
    fits = isinstance(row.get("question"), str) and "####" in str(row.get("answer"))
    return None if fits else "needs question and an answer with ####"


def _value(number: str) -> float:
    return float(number.replace(",", ""))


@plugin(role="task", paper="Chen et al. 2021, arXiv 2107.03374")
class HumanEval:
    """Programs that must pass tests; score: 1 where they do. The texts of the model are RUN, in a process of their own
    with a time limit but no other protection, so this must be allowed by `run=True`.

    Args:
        path: JSONL with `prompt`, `test` and `entry_point` (HumanEval's rows).
        run: allow generated programs to be run.
        seconds: for one program.
        limit: how many items, or all.
        most: tokens that an answer may have.
    """

    path: str
    run: bool = False
    seconds: Annotated[float, Field(gt=0)] = 5.0
    limit: Annotated[int, Field(ge=1)] | None = None
    most: Annotated[int, Field(ge=1)] = 300

    def items(self) -> list[Item]:
        """Prompts in the order of the file."""
        if not self.run:
            raise OptionError("humaneval: its score runs the generated programs on this machine; allow it by run=True")
        found = []
        for number, row in lines(self.path, "humaneval", texts("prompt", "test", "entry_point")):
            found.append(Item(str(row.get("task_id", row.get("id", number))), row["prompt"], None, row, self.most))
        return first(found, self.limit)

    def score(self, item: Item, text: str) -> float:
        """Whether prompt and text, cut at the end of the function, pass the tests."""
        body = re.split(r"\n(?=\S)", text)[0]
        program = f"{item.gold['prompt']}{body}\n{item.gold['test']}\ncheck({item.gold['entry_point']})\n"
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-c", program], capture_output=True, timeout=self.seconds, check=False
            )
        except (subprocess.TimeoutExpired, OSError):
            return 0.0
        return float(done.returncode == 0)


@plugin(role="task")
class Prompts:
    """Any prompts, without a score: for comparing cost and looking at texts.

    Args:
        path: JSONL with a key `prompt` (and `id`) a line, or a text file with one prompt a line.
        limit: how many items, or all.
        most: tokens that an answer may have.
    """

    path: str
    limit: Annotated[int, Field(ge=1)] | None = None
    most: Annotated[int, Field(ge=1)] = 128

    def items(self) -> list[Item]:
        """Prompts in the order of the file."""
        if Path(self.path).suffix == ".txt":
            text = Path(self.path).read_text(encoding="utf-8").splitlines()
            return first((Item(f"{n}", one, None, None, self.most) for n, one in enumerate(text, 1) if one), self.limit)
        found = []
        for number, row in lines(self.path, "prompts", texts("prompt")):
            found.append(Item(str(row.get("id", number)), row["prompt"], None, None, self.most))
        return first(found, self.limit)

    def score(self, item: Item, text: str) -> None:
        """There is nothing to compare with."""
