"""Pictures by class, from a visual autoregressive model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from decodekit.comparison.task import Item
from decodekit.errors import OptionError
from decodekit.registry.declaration import plugin
from decodekit.vision import images


@plugin(role="task", paper="LlamaGen, arXiv 2406.06525, class-conditional pictures, judged as in arXiv 1706.08500")
class Image:
    """A picture of each class; score: 1 where the judge that belongs to the model sees that class.

    All pictures of a strategy together have a Fréchet distance to held-out ones, which the report gives beside the
    table. It wants many pictures: give seeds, for a class has one picture for each.

    Args:
        model: whose prompts, image tokenizer and judge these are; the run's models must be of its kind.
        limit: how many classes, from 0 on; None for all.
    """

    model: str = "zoo:visual"
    limit: Annotated[int, Field(ge=1)] | None = None

    def items(self) -> list[Item]:
        """One prompt for each class."""
        classes = images.parts(self.model).classes
        if self.limit is not None and self.limit > classes:
            raise OptionError(f"image: limit={self.limit}, and {self.model!r} knows {classes} classes; lower it")
        return [Item(f"{kind}", f"<{kind}>", None, kind, images.CODES) for kind in range(self.limit or classes)]

    def score(self, item: Item, text: str) -> float:
        """Whether the judge sees the class. A picture that lacks codes is shown with grey in their place."""
        shown = images.decoded([images.codes_of(text, self.model)[: images.CODES]], self.model)
        return float(images.judged(shown, self.model)[0] == item.gold)

    def aggregate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Of all answers of a strategy: the Fréchet distance of their features, and how many they are."""
        texts = [text for row in rows for text in ([text for text, _ in row["posterior"]] or [row["text"]])]
        if len(texts) < 2:
            return {}
        shown = images.decoded([images.codes_of(text, self.model)[: images.CODES] for text in texts], self.model)
        found = images.quality(shown, [0] * len(texts), self.model, resamples=0)
        return {"Fréchet distance": found.distance, "pictures": float(len(texts))}
