"""Pictures for the visual model: digits, or drawn shapes, on grainy paper.

A black background would make half of the codes certain, which no photograph does. So each picture lies on paper: a
level, a slope of light and a soft grain of its own. That is where the next code is ambiguous, and where neighbouring
codes are worth the same.
"""

import gzip
import os
from pathlib import Path
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

TRAIN: Final = 8000
CLASSES: Final = 10
_SHAPES: Final = 10_000


def pictures(folder: str | None = None) -> tuple[Tensor, Tensor]:
    """(ink [N, 28, 28] in 0..1, classes [N]): the MNIST images of `folder`, or drawn shapes where there are none.

    folder: holds `t10k-images-idx3-ubyte.gz` and `t10k-labels-idx1-ubyte.gz`; by default `$DECODEKIT_DATA/mnist`.
    The first 8000 are for training, the rest is held out.
    """
    given = folder or os.path.join(os.environ.get("DECODEKIT_DATA", ""), "mnist")
    path = Path(given)
    if not (path / "t10k-images-idx3-ubyte.gz").is_file():
        return shapes(_SHAPES, torch.Generator().manual_seed(7))
    ink = _idx(path / "t10k-images-idx3-ubyte.gz", 16).view(-1, 28, 28).float() / 255.0
    labels = _idx(path / "t10k-labels-idx1-ubyte.gz", 8).long()
    order = torch.randperm(len(ink), generator=torch.Generator().manual_seed(0))
    return ink[order], labels[order]


def _idx(path: Path, header: int) -> Tensor:
    with gzip.open(path) as file:
        return torch.frombuffer(bytearray(file.read()[header:]), dtype=torch.uint8)


def shapes(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Ten kinds of drawn shapes: discs, rings, squares, frames, bars and crosses of random size and place."""
    labels = torch.randint(CLASSES, (count,), generator=generator)
    place = 14 + (torch.rand(count, 2, generator=generator) - 0.5) * 6
    size = 5 + 4 * torch.rand(count, generator=generator)
    ink = torch.zeros(count, 28, 28)
    for kind in range(CLASSES):
        mine = labels == kind
        ink[mine] = (0.5 - _apart(kind, place[mine], size[mine, None, None])).clamp(0.0, 1.0)
    return ink, labels


def _apart(kind: int, place: Tensor, s: Tensor) -> Tensor:
    """[M, 28, 28] how far each pixel is from the shape, in pixels; `place` [M, 2], size `s` [M, 1, 1]."""
    axis = torch.arange(28.0)
    y, x = (axis[None, :, None] - place[:, :1, None]).abs(), (axis[None, None] - place[:, 1:, None]).abs()
    square, bars = torch.maximum(x, y), (torch.maximum(x, 3 * y), torch.maximum(3 * x, y))
    outline = {0: (x**2 + y**2).sqrt() - s, 2: square - s, 4: x + y - 1.3 * s}
    if kind < 6:
        solid = outline[kind - kind % 2]
        return solid.abs() - 1.3 if kind % 2 else solid
    if kind == 9:
        return torch.maximum((x - y).abs() - 1.8, square - s)
    return (bars[0], bars[1], torch.minimum(*bars))[kind - 6] - s


def on_paper(ink: Tensor, generator: torch.Generator) -> Tensor:
    """[B, 28, 28] ink -> grey values in 0..1 on paper of its own, moved by up to one pixel."""
    count = len(ink)
    moved = torch.randint(-1, 2, (2,), generator=generator).tolist()
    ink = torch.roll(ink, moved, (1, 2))
    level = 0.15 + 0.1 * torch.rand(count, 1, 1, generator=generator)
    slope = (torch.rand(count, 2, 1, 1, generator=generator) - 0.5) * 0.2
    axis = torch.linspace(-0.5, 0.5, 28)
    light = level + slope[:, 0] * axis[None, :, None] + slope[:, 1] * axis[None, None]
    noise = torch.randn(count, 1, 30, 30, generator=generator)
    grain = F.avg_pool2d(noise, 3, 1)[:, 0] * 3 * 0.09  # the mean of nine has a third of the deviation
    paper = light + grain
    return (paper * (1 - ink) + 0.95 * ink + 0.03 * grain * ink).clamp(0.0, 1.0)
