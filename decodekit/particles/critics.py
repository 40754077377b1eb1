"""Language models as critics: potentials whose value is another model's opinion of the text."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from decodekit.core import noise
from decodekit.core.bound import Model
from decodekit.core.cost import Cost
from decodekit.core.rows import NONE, Rows
from decodekit.errors import OptionError
from decodekit.models.load import load
from decodekit.particles.potentials import Potential

MEMORY: Final = 4096
"""Scores that a critic remembers: particles often share their text."""


class _Reader(Potential):
    """Asks a causal model, many texts in one pass. cost: what it has read."""

    def __init__(self, model: object) -> None:
        self.model: Model = load(model)
        if "causal_lm" not in self.model.provides or self.model.tokenizer is None:
            raise OptionError(
                f"{self.model.name!r} cannot be a critic; choose a causal language model with a tokenizer"
            )
        self.cost = Cost()
        self._known: OrderedDict[tuple[str, bool], float] = OrderedDict()

    def score(self, text: str, done: bool) -> float:
        """Log potential of one text."""
        return self.many([text], [done])[0]

    def many(self, texts: list[str], done: list[bool]) -> list[float]:
        """Log potentials; each distinct text is read once."""
        keys = list(zip(texts, done, strict=True))
        known = {key: self._known[key] for key in keys if key in self._known}
        new = [key for key in dict.fromkeys(keys) if key not in known]
        if new:
            known |= dict(zip(new, self._judge(new), strict=True))
            self._known |= {key: known[key] for key in new}
            while len(self._known) > MEMORY:
                self._known.popitem(last=False)
        return [known[key] for key in keys]

    def _judge(self, asked: Sequence[tuple[str, bool]]) -> list[float]:
        raise NotImplementedError

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.model.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _read(self, before: Sequence[list[int]], after: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """Log-probabilities [R, K] of the tokens `after` given `before` and those in front of them; 0 as padding; and
        the log law [R, V] after the last of them. `before` must not be empty.
        """
        count, width = len(before), max(map(len, after)) + 1
        device = self.model.device
        rows = Rows(
            before,
            limit=torch.tensor([len(b) + width for b in before], device=device),
            stream=noise.streams(0, [0], count).to(device),
            group=torch.arange(count, device=device),
            sample=torch.zeros(count, dtype=torch.int64, device=device),
        )
        pad = [line + [NONE] * (width - len(line)) for line in after]
        tokens = torch.tensor(pad, device=device)  # [R, K]
        steps = torch.arange(width, device=device)
        length = torch.tensor([len(line) for line in after], device=device)  # [R]
        at = (rows.n[:, None] + steps).masked_fill(steps > length[:, None], NONE)  # one place past the last
        rows.write(at.clamp(min=0), tokens.clamp(min=0), tokens != NONE)
        with torch.inference_mode():
            law = self.model.reader(self.cost, "critic").read(rows, at, ~rows.done).log_softmax(-1)  # [R, K, V]
        logp = law.gather(-1, tokens.clamp(min=0)[..., None])[..., 0].masked_fill(tokens == NONE, 0.0)
        return logp, law[torch.arange(count, device=device), length]


class Likelihood(_Reader):
    """Log-probability of the text under another model, after a prompt of its own: a product of experts.

    Args:
        model: a name or a loaded model. prompt: what it reads before the text; not empty. ended: count the
            probability that a whole text ends there (for models with an end token).

    The value at a prefix is that of the prefix, so that it steers from the first token on.

    Raises:
        OptionError: an empty prompt; no causal model.
    """

    def __init__(self, model: object, prompt: str = "\n", ended: bool = False) -> None:
        super().__init__(model)
        self._prompt, self._ended = self._ids(prompt), ended
        if not self._prompt:
            raise OptionError("critics.Likelihood needs a prompt of at least one token; give prompt='\\n' for none")
        if ended and not self.model.eos:
            raise OptionError(f"critics.Likelihood(ended=True): {self.model.name} has no end token; drop it")

    def _judge(self, asked: Sequence[tuple[str, bool]]) -> list[float]:
        logp, law = self._read([self._prompt] * len(asked), [self._ids(text) for text, _ in asked])
        total = logp.double().sum(1)
        if self._ended:
            ends = law[:, list(self.model.eos)].double().logsumexp(1)
            total = total + ends * torch.tensor([done for _, done in asked], device=ends.device)
        found: list[float] = total.tolist()
        return found


class Answer(_Reader):
    """A question about the text, put to a model: the log-probability that it says yes rather than no.

    Args:
        model: a name or a loaded model. question: a template with `{text}`. yes, no: the two answers that are
            compared, each as its whole text.

    log P(yes) - log(P(yes) + P(no)), both read after the question.

    Raises:
        OptionError: a template without `{text}`, equal or empty answers; no causal model.
    """

    def __init__(self, model: object, question: str, yes: str = " yes", no: str = " no") -> None:
        super().__init__(model)
        if "{text}" not in question:
            raise OptionError(
                f"critics.Answer: the question {question!r} has no place for the text; write {{text}} in it"
            )
        self._question, self._yes, self._no = question, self._ids(yes), self._ids(no)
        if not self._yes or not self._no or self._yes == self._no:
            raise OptionError(f"critics.Answer: {yes!r} and {no!r} must be two different answers")

    def _judge(self, asked: Sequence[tuple[str, bool]]) -> list[float]:
        before = [self._ids(self._question.replace("{text}", text)) for text, _ in asked]
        logp, _ = self._read(before * 2, [self._yes] * len(asked) + [self._no] * len(asked))
        yes, no = logp.double().sum(1).chunk(2)
        found: list[float] = (yes - torch.logaddexp(yes, no)).tolist()
        return found
