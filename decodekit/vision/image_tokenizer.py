"""The parts of a visual autoregressive model that are no language model: the image tokenizer and a classifier.

An image of 28 x 28 grey values becomes 7 x 7 codes in raster order, each the nearest entry of a codebook of unit
vectors (VQGAN with L2-normalised codes, arXiv 2110.04627; the plan of LlamaGen, arXiv 2406.06525, at a small size).
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIDE: Final = 28
"""Pixels of a side."""
GRID: Final = 7
"""Codes of a side."""


class VQ(nn.Module):
    """Encoder, codebook and decoder.

    Args:
        codes: entries of the codebook. width: of an entry. channels: of the convolutions.
    """

    def __init__(self, codes: int = 512, width: int = 8, channels: int = 64) -> None:
        super().__init__()
        half = channels // 2
        self.encoder = nn.Sequential(
            nn.Conv2d(1, half, 4, 2, 1),
            nn.GELU(),
            nn.Conv2d(half, channels, 4, 2, 1),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, 1, 1),
            nn.GELU(),
            nn.Conv2d(channels, width, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(width, channels, 3, 1, 1),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, 1, 1),
            nn.GELU(),
            nn.ConvTranspose2d(channels, half, 4, 2, 1),
            nn.GELU(),
            nn.ConvTranspose2d(half, 1, 4, 2, 1),
        )
        self.codebook: Tensor
        self.register_buffer("codebook", F.normalize(torch.randn(codes, width), dim=-1))

    def features(self, images: Tensor) -> Tensor:
        """[B, 28, 28] grey values in 0..1 -> unit vectors [B, 49, W]."""
        made: Tensor = self.encoder(images[:, None] - 0.5)
        return F.normalize(made.flatten(2).transpose(1, 2), dim=-1)

    def nearest(self, features: Tensor) -> Tensor:
        """[..., W] unit vectors -> [...] the nearest codes."""
        return (features @ self.codebook.T).argmax(-1)

    def encode(self, images: Tensor) -> Tensor:
        """[B, 28, 28] -> codes [B, 49]."""
        return self.nearest(self.features(images))

    def paint(self, vectors: Tensor) -> Tensor:
        """[B, 49, W] -> images [B, 28, 28], not yet cut to 0..1."""
        grid = vectors.transpose(1, 2).reshape(len(vectors), -1, GRID, GRID)
        made: Tensor = self.decoder(grid)[:, 0] + 0.5
        return made

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, 49] -> images [B, 28, 28] in 0..1."""
        return self.paint(self.codebook[codes]).clamp(0.0, 1.0)


class Classifier(nn.Module):
    """A small convolutional classifier; its last hidden layer gives the features of the Fréchet distance.

    Args:
        classes: how many. width: of the features.
    """

    def __init__(self, classes: int = 10, width: int = 64) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1),
            nn.GELU(),
            nn.Conv2d(16, 32, 3, 2, 1),
            nn.GELU(),
            nn.Conv2d(32, 32, 3, 2, 1),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(32 * 16, width),
        )
        self.head = nn.Linear(width, classes)

    def features(self, images: Tensor) -> Tensor:
        """[B, 28, 28] -> [B, W]."""
        made: Tensor = self.body(images[:, None] - 0.5)
        return made

    def forward(self, images: Tensor) -> Tensor:
        """[B, 28, 28] -> logits [B, classes]."""
        made: Tensor = self.head(F.gelu(self.features(images)))
        return made
