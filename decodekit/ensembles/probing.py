"""Fitting the probe of :mod:`decodekit.ensembles.adaptive` on sampled answers: which requests are easy, normal,
hard.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from decodekit.api import Decoder
from decodekit.ensembles.adaptive import Probe, described, hidden_states
from decodekit.models.load import load

CLASSES = ("easy", "normal", "hard")


def labels_of(accuracy: Sequence[float], entropy: Sequence[float]) -> list[int]:
    """[N] index into :data:`CLASSES` from the accuracy and the mean entropy of each request's sampled answers.

    Easy: at least 4 of 5 answers are right, and not among the quarter with the highest entropy. Hard: at most 1 of 5
    right. The paper describes such regions and gives no thresholds that could be read; these are ours.
    """
    unsure = float(np.quantile(entropy, 0.75)) if len(entropy) else 0.0
    found = []
    for right, bits in zip(accuracy, entropy, strict=True):
        found.append(2 if right <= 0.2 else 0 if right >= 0.8 and (bits <= unsure or right == 1.0) else 1)
    return found


def fit_probe(
    model: Any,
    prompts: Sequence[str],
    score: Callable[[int, str], float | None],
    *,
    samples: int = 4,
    strategy: str | None = None,
    most: int = 128,
    width: int = 32,
    steps: int = 300,
    seed: int = 0,
) -> Probe:
    """Sample answers, label the requests, and train the probe on three quarters of them.

    score: (number of the prompt, text) -> 0 to 1; an answer is right from 1 on. `made` holds the share of each class,
    the held-out area under the ROC curve (one class against the rest, mean) and what permuted labels give.
    """
    opened = load(model)
    answers = Decoder(opened, strategy, max_tokens=most, seed=seed, n=samples).generate(list(prompts))
    accuracy = [
        float(np.mean([(score(at, s.text) or 0.0) >= 1.0 for s in one.samples])) for at, one in enumerate(answers)
    ]
    entropy = [float(one.trace.events["entropy"].mean()) for one in answers]
    label = torch.tensor(labels_of(accuracy, entropy))
    hidden = hidden_states(opened, [one.prompt.tokens for one in answers])
    order = torch.randperm(len(label), generator=torch.Generator().manual_seed(seed))
    held, train = order[: len(order) // 4], order[len(order) // 4 :]
    probe = trained(hidden[train], label[train], width, steps, seed)
    auc, chance, high = judged(probe.scores(hidden[held]), label[held], seed)
    shares = {name: float((label == i).double().mean()) for i, name in enumerate(CLASSES)}
    made = {"model": opened.name, "requests": len(label), "samples": samples, "strategy": strategy, "seed": seed}
    figures = {"held-out AUC": auc, "AUC of permuted labels": chance, "their 95 % point": high}
    return described(probe, {**made, "shares": shares, **figures})


def trained(hidden: Tensor, label: Tensor, width: int, steps: int, seed: int) -> Probe:
    """A two-layer classifier of `width` units, by AdamW on all of [N, H] at once."""
    noise = torch.Generator().manual_seed(seed)
    mean, scale = hidden.mean(0), hidden.std(0).clamp(min=1e-6)
    x, size = (hidden - mean) / scale, hidden.shape[1]
    first = (torch.randn(width, size, generator=noise) / size**0.5).requires_grad_()
    second = (torch.randn(len(CLASSES), width, generator=noise) / width**0.5).requires_grad_()
    low, high = torch.zeros(width, requires_grad=True), torch.zeros(len(CLASSES), requires_grad=True)
    optimizer = torch.optim.AdamW([first, second, low, high], lr=3e-3, weight_decay=0.1)
    for _ in range(steps):
        loss = cross_entropy(torch.relu(x @ first.T + low) @ second.T + high, label)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return Probe(CLASSES, mean, scale, first.detach(), low.detach(), second.detach(), high.detach())


def judged(scores: Tensor, label: Tensor, seed: int, permutations: int = 200) -> tuple[float, float, float]:
    """(AUC, mean AUC of permuted labels, their 95 % point), means over the classes that occur and are not all."""
    random = np.random.default_rng(seed)
    law, truth = scores.softmax(-1).double().numpy(), label.numpy()
    chance = [_auc(law, random.permutation(truth)) for _ in range(permutations)]
    return _auc(law, truth), float(np.mean(chance)), float(np.quantile(chance, 0.95))


def _auc(law: Any, truth: Any) -> float:
    found = []
    for i in range(law.shape[1]):
        own, other = law[truth == i, i], law[truth != i, i]
        if len(own) and len(other):
            wins = (own[:, None] > other).mean() + 0.5 * (own[:, None] == other).mean()
            found.append(float(wins))
    return float(np.mean(found)) if found else float("nan")
