"""Images from the codes of a visual model: prompts, decoding, PNG grids, pictures in a terminal, and quality.

    import decodekit as dk
    out = dk.generate("zoo:visual", [dk.images.prompt(kind) for kind in range(10)], strategy="sample", max_tokens=49)
    dk.images.png("digits.png", dk.images.decoded(out))

A picture is 28 x 28 grey values; a model writes its 7 x 7 codes in raster order after a token for its class.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import torch
from rich.text import Text
from safetensors.torch import load_file
from torch import Tensor

from decodekit import zoo
from decodekit.errors import ModelError, PromptError
from decodekit.models.codebook import codebook_beside
from decodekit.run.results import Result, Sample
from decodekit.vision.image_tokenizer import GRID, SIDE, VQ, Classifier

CODES: Final = GRID * GRID
"""Tokens of a picture: the `max_tokens` of a request."""
MODEL: Final = "zoo:visual"
_RESAMPLES: Final = 200


@dataclass(frozen=True)
class Parts:
    """What lies beside the weights of a visual model: image tokenizer, judge, and statistics of held-out pictures.

    mean [W], covariance [W, W]: of the judge's features, float64. codes: how many; the classes' tokens follow them,
    then the token of no class.
    """

    vq: VQ
    judge: Classifier
    mean: Tensor
    covariance: Tensor
    codes: int
    classes: int


@lru_cache(maxsize=4)
def parts(model: str = MODEL) -> Parts:
    """Open what lies beside a visual model: `zoo:visual`, or a folder of the same layout.

    Raises:
        ModelError: the folder lacks a file of a visual model; the message names it.
    """
    folder = zoo.path(model.removeprefix("zoo:")) if model.startswith("zoo:") else Path(model)
    book = codebook_beside(folder)
    if book is None:
        raise ModelError(f"{model!r} has no codebook.safetensors, so it is no visual model; use zoo:visual")
    found = {name: _tensors(folder, name, model) for name in ("vq", "classifier", "reference")}
    classes, width = found["classifier"]["head.weight"].shape
    vq, judge = VQ(len(book), book.vectors.shape[1]), Classifier(classes, width)
    vq.load_state_dict(found["vq"])
    judge.load_state_dict(found["classifier"])
    mean, covariance = (found["reference"][name].double() for name in ("mean", "covariance"))
    return Parts(vq.eval(), judge.eval(), mean, covariance, len(book), classes)


def _tensors(folder: Path, name: str, model: str) -> dict[str, Tensor]:
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        raise ModelError(f"{model!r} lacks {path.name}, which a visual model needs; use zoo:visual or add the file")
    return {key: value.float() for key, value in load_file(str(path)).items()}


def prompt(kind: int | None = None, model: str = MODEL) -> list[int]:
    """The prompt for a picture of class `kind`, or of no class in particular.

    Raises:
        PromptError: there is no such class.
    """
    found = parts(model)
    if kind is None:
        return [found.codes + found.classes]
    if not 0 <= kind < found.classes:
        raise PromptError(f"there is no class {kind}; {model!r} knows 0 to {found.classes - 1}, and None for none")
    return [found.codes + kind]


def codes_of(text: str, model: str = MODEL) -> list[int]:
    """The codes that a text of a visual model names (`"c17 c203 ..."`), -1 for words that are none."""
    most = parts(model).codes
    words = [word[1:] if word[:1] == "c" and word[1:].isdecimal() else "-1" for word in text.split()]
    return [code if code < most else -1 for code in map(int, words)]


@torch.inference_mode()
def decoded(answers: Any, model: str = MODEL) -> Tensor:
    """[N, 28, 28] grey values in 0..1 of N answers: results, samples, lists of codes, or one of these.

    An answer of fewer codes than a picture has leaves the rest grey, and so does a token of a class, which the models
    say once in a million tokens.

    Raises:
        PromptError: a token is not of a visual model, or there are more than 49; the message has its place.
    """
    found = parts(model)
    rows = [_checked(row, found, number) for number, row in enumerate(_rows(answers))]
    if not rows:
        return torch.zeros(0, SIDE, SIDE)
    short = torch.tensor([[code < 0 for code in row] for row in rows])
    images = found.vq.decode(torch.tensor(rows).clamp(min=0))
    missing = short.view(-1, GRID, GRID).repeat_interleave(SIDE // GRID, 1).repeat_interleave(SIDE // GRID, 2)
    return images.masked_fill(missing, 0.5)


def _rows(answers: Any) -> list[Sequence[int]]:
    if isinstance(answers, Result | Sample):
        return [answers.tokens]
    if hasattr(answers, "tolist"):
        answers = answers.tolist()
    answers = list(answers)
    if answers and all(isinstance(one, int) for one in answers):
        return [answers]
    return [one.tokens if isinstance(one, Result | Sample) else list(one) for one in answers]


def _checked(row: Sequence[int], found: Parts, number: int) -> list[int]:
    if len(row) > CODES:
        raise PromptError(
            f"answer {number} has {len(row)} tokens, and a picture has {CODES}; ask for max_tokens={CODES}"
        )
    for place, token in enumerate(row):
        if not -1 <= token <= found.codes + found.classes:
            raise PromptError(
                f"token {place} of answer {number} is {token}, and codes go from 0 to {found.codes - 1}; give the "
                "tokens that a visual model generated"
            )
    return [*(token if token < found.codes else -1 for token in row), *[-1] * (CODES - len(row))]


def grid(images: Tensor, columns: int = 10, gap: int = 1) -> Tensor:
    """[H, W] one picture of all `images` [N, 28, 28], `columns` in a row, white lines of `gap` pixels between them."""
    count = len(images)
    rows = -(-count // columns)
    step = SIDE + gap
    out = torch.ones(rows * step - gap if rows else 0, columns * step - gap)
    for i in range(count):
        top, left = i // columns * step, i % columns * step
        out[top : top + SIDE, left : left + SIDE] = images[i]
    return out


def png(path: str | os.PathLike[str], images: Tensor, *, columns: int = 10, scale: int = 2) -> Path:
    """Write `images` [N, 28, 28] as one PNG file, each pixel `scale` pixels wide; returns its path."""
    from matplotlib.image import imsave

    whole = grid(images, columns).repeat_interleave(scale, 0).repeat_interleave(scale, 1)
    imsave(os.fspath(path), whole.numpy(), cmap="gray", vmin=0.0, vmax=1.0)
    return Path(path)


def half_blocks(image: Tensor) -> Text:
    """A picture [H, W] for a terminal (rich): each character is two pixels, one above the other."""
    shades = (image.clamp(0, 1) * 255).round().int()
    if len(shades) % 2:
        shades = torch.nn.functional.pad(shades, (0, 0, 0, 1))
    out = Text()
    for upper, lower in zip(shades[::2].tolist(), shades[1::2].tolist(), strict=True):
        for a, b in zip(upper, lower, strict=True):
            out.append("\u2580", style=f"rgb({a},{a},{a}) on rgb({b},{b},{b})")
        out.append("\n")
    return out


@torch.inference_mode()
def judged(images: Tensor, model: str = MODEL) -> tuple[Tensor, Tensor]:
    """(classes [N] that the judge sees, its features [N, W] in float64)."""
    judge = parts(model).judge
    return judge(images).argmax(-1), judge.features(images).double()


def frechet(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> float:
    """Squared Fréchet distance of two Gaussians (arXiv 1706.08500, equation 6), by symmetric square roots."""
    values, vectors = torch.linalg.eigh(covariance)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ other_covariance @ root).clamp(min=0).sqrt().sum()
    apart = (mean - other_mean).pow(2).sum()
    return float(apart + covariance.trace() + other_covariance.trace() - 2 * cross)


@dataclass(frozen=True)
class Quality:
    """Fréchet distance of the judge's features to held-out pictures, and the share of pictures that are of their
    class, each with a 95 % bootstrap interval.
    """

    distance: float
    distance_low: float
    distance_high: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    count: int


def quality(images: Tensor, kinds: Iterable[int], model: str = MODEL, *, resamples: int = _RESAMPLES) -> Quality:
    """How good `images` [N, 28, 28] are that should be of the classes `kinds` [N].

    The distance is biased upwards by about (features / N); its interval is that of resampled pictures, moved by the
    bias that resampling itself adds. Compare distances of equally many pictures only.

    Raises:
        PromptError: fewer than two pictures, or another number of classes.
    """
    wanted = torch.as_tensor(list(kinds))
    if len(images) < 2 or len(images) != len(wanted):
        raise PromptError(
            f"{len(images)} pictures and {len(wanted)} classes; give two or more of each, as many of both"
        )
    found = parts(model)
    seen, features = judged(images, model)
    right = (seen == wanted).double()
    noise = torch.Generator().manual_seed(0)
    distances, shares = [], []
    for _ in range(resamples):
        index = torch.randint(len(images), (len(images),), generator=noise)
        distances.append(_apart(features[index], found))
        shares.append(float(right[index].mean()))
    distance = _apart(features, found)
    drawn = torch.tensor(distances or [distance], dtype=torch.float64)
    low, high = (drawn - drawn.mean() + distance).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    least, most = torch.tensor(shares or [float(right.mean())]).quantile(torch.tensor([0.025, 0.975])).tolist()
    return Quality(distance, low, high, float(right.mean()), least, most, len(images))


def _apart(features: Tensor, found: Parts) -> float:
    return frechet(features.mean(0), features.T.cov(), found.mean, found.covariance)
