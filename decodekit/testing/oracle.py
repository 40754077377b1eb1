"""The exact law of a tiny model, by enumeration of every text, and a test of samples against it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from decodekit.core import warping
from decodekit.core.protocols import Proposal, Warper
from decodekit.core.rows import NONE, Rows

FALSE_ALARM = 1e-6
"""Level of every statistical test here: a right sampler fails one test in a million. Seeds are fixed all the same."""

Text = tuple[int, ...]
"""Generated ids, EOS included; a text that ran into a dead end has NONE as its last token."""


class Language(Protocol):
    """What a constraint says, as a pure function of the generated tokens."""

    def allowed(self, generated: Sequence[int]) -> Collection[int]:
        """Ids that may follow `generated` (EOS ids included where the text is complete)."""


@dataclass(frozen=True)
class Laws:
    """Exact distributions over texts.

    plain: of the (warped) model. masked: token by token restricted to what is allowed, warped there where warpers act
    within the constraint, and renormalised; texts in a dead end carry a trailing NONE. posterior: what weighted
    strategies aim at, given that every token is allowed. evidence: the probability of that event.

    Weighted strategies aim at the model that gives a forbidden token what p gives it, and an allowed one Z t(x): p is
    the model after the leading warpers that act before the constraint (:func:`decodekit.core.warping.split`), Z what p
    gives to all allowed tokens, and t the `masked` distribution of the step. Without truncation that is p itself.
    """

    plain: dict[Text, float]
    masked: dict[Text, float]
    posterior: dict[Text, float]
    evidence: float


def enumerate_law(
    logits: Callable[[Sequence[int]], Tensor],
    prompt: Sequence[int],
    horizon: int,
    eos: Collection[int] = (),
    constraint: Language | None = None,
    warpers: Sequence[Warper] = (),
) -> Laws:
    """Enumerate every text of at most `horizon` tokens after `prompt` (a text ends at an EOS).

    Args:
        logits: prefix (prompt included) -> [V] logits of the next token; for a table, its `logits` method.
        prompt: token ids.
        horizon: most generated tokens.
        eos: ids that end a text.
        constraint: what may follow; None allows everything.
        warpers: bound warpers, in order; with a constraint they act on what it allows, but for the leading ones that
            say otherwise (:class:`decodekit.core.protocols.Warper`).
    """

    def asked(texts: list[Text]) -> tuple[Rows, Proposal, Tensor]:
        raw = torch.stack([logits((*prompt, *text)) for text in texts]).double()[:, None]  # [M, 1, V]
        rows = rows_of([(*prompt, *text) for text in texts], start=len(prompt))
        return rows, Proposal(rows.n[:, None], torch.full((len(texts), 1), NONE)), raw

    def law(texts: list[Text]) -> Tensor:
        return warping.warped(warpers, *asked(texts))[:, 0].softmax(-1)  # [M, V]

    def may(texts: list[Text], vocab: int) -> Tensor:
        out = torch.ones(len(texts), vocab, dtype=torch.bool)  # [M, V]
        if constraint is not None:
            for m, text in enumerate(texts):
                out[m] = False
                out[m, sorted(constraint.allowed(text))] = True
        return out

    def restricted(texts: list[Text]) -> tuple[Tensor, Tensor]:
        """([M, 1] Z, [M, V] t, zero or NaN in a dead end)."""
        rows, ask, raw = asked(texts)
        if constraint is None:
            return torch.ones(len(texts), 1, dtype=torch.float64), law(texts)
        early, late = warping.split(warpers)
        before = warping.warped(early, rows, ask, raw)  # [M, 1, V]
        inside = before.masked_fill(~may(texts, raw.shape[2])[:, None], -torch.inf)
        mass = (inside.logsumexp(2) - before.logsumexp(2)).exp()
        alive = mass[:, 0] > 0
        t = torch.zeros_like(raw[:, 0])
        for m in alive.nonzero()[:, 0].tolist():  # nothing but what is allowed is shown to the warpers
            mine = Proposal(ask.at[m : m + 1], ask.guess[m : m + 1])
            one = rows_of([rows.text(m)], start=int(rows.start[m]))
            t[m] = warping.warped(late, one, mine, inside[m : m + 1])[0, 0].softmax(-1)
        return mass, t

    joint = _grow(lambda texts: torch.mul(*restricted(texts)), horizon, eos)
    evidence = sum(p for text, p in joint.items() if text[-1:] != (NONE,))
    posterior = {text: p / evidence for text, p in joint.items() if text[-1:] != (NONE,)} if evidence else {}
    return Laws(_grow(law, horizon, eos), _grow(lambda texts: restricted(texts)[1], horizon, eos), posterior, evidence)


def _grow(step: Callable[[list[Text]], Tensor], horizon: int, eos: Collection[int]) -> dict[Text, float]:
    """Extend all open texts token by token; `step` gives [M, V] masses of the next token (NaN or zero: dead end)."""
    open_: dict[Text, float] = {(): 1.0}
    closed: dict[Text, float] = {}
    for _ in range(horizon):
        texts = list(open_)
        if not texts:
            break
        mass = step(texts).tolist()
        grown: dict[Text, float] = {}
        for text, row in zip(texts, mass, strict=True):
            if not sum(row) > 0:
                closed[(*text, NONE)] = open_[text]
                continue
            for token, p in enumerate(row):
                if p > 0:
                    (closed if token in eos else grown)[(*text, token)] = open_[text] * p
        open_ = grown
    return {**closed, **open_}


def rows_of(texts: Sequence[Sequence[int]], start: int | None = None, room: int = 32) -> Rows:
    """Rows that hold `texts` as final tokens; the first `start` are the prompt (default: all)."""
    count = torch.arange(len(texts))
    limit = torch.tensor([len(text) + room for text in texts])
    rows = Rows([list(text) for text in texts], limit, count.clone(), count.clone(), torch.zeros_like(count))
    if start is not None:
        rows.start = torch.full_like(rows.start, start)
    return rows


def chi_square(law: Mapping[Text, float], texts: Iterable[Text]) -> float:
    """P-value of Pearson's chi-square test that `texts` were drawn from `law`; compare it with FALSE_ALARM.

    Cells with fewer than five expected texts are pooled. A text that has no probability under `law` gives 0.0 at once.
    """
    counts = Counter(texts)
    if any(law.get(text, 0.0) <= 0.0 for text in counts):
        return 0.0
    total = sum(counts.values())
    cells: list[tuple[float, float]] = []  # (observed, expected)
    rare_seen = rare_due = 0.0
    for text, p in law.items():
        if p * total >= 5:
            cells.append((counts[text], p * total))
        else:
            rare_seen, rare_due = rare_seen + counts[text], rare_due + p * total
    if rare_due >= 5 or rare_seen:
        cells.append((rare_seen, max(rare_due, 1.0)))
    statistic = sum((seen - due) ** 2 / due for seen, due in cells)
    half = torch.tensor([max(len(cells) - 1, 1) / 2, statistic / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(half[0], half[1]))


def z_score(estimates: Tensor, truth: float) -> float:
    """How many standard errors the mean of independent `estimates` [N] is away from `truth` (0 if they are all it)."""
    off = float(estimates.double().mean()) - truth
    error = float(estimates.double().std()) / len(estimates) ** 0.5
    if error < 1e-12:
        return 0.0 if abs(off) < 1e-9 else float("inf")
    return float(off / error)


Z_ALARM = 4.9
"""Two-sided |z| of a false alarm in a million."""
