"""What a run cost: counted, not estimated (law 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class ModelCost:
    """Work of one model.

    calls: forward passes. fed: useful tokens. computed: rows x columns, padding included. layers: decoder layers x
    fed tokens. flops: floating-point operations (2 x parameters used x tokens, and attention).
    """

    calls: int = 0
    fed: int = 0
    computed: int = 0
    layers: int = 0
    flops: float = 0.0


@dataclass(slots=True)
class Cost:
    """Totals of a run. `models` has one entry per label ("target", "draft", ...), `names` what they are called."""

    models: dict[str, ModelCost] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    rounds: int = 0
    tokens: int = 0
    checks: int = 0
    masks: int = 0
    seconds: float = 0.0

    def model(self, label: str) -> ModelCost:
        """The entry of `label`, made at the first call; readers add to it."""
        return self.models.setdefault(label, ModelCost())

    @property
    def calls(self) -> int:
        """Forward passes of the target model."""
        return self.models["target"].calls if "target" in self.models else 0

    def as_dict(self) -> Mapping[str, object]:
        """Plain numbers, for reports."""
        models = {
            label: {name: getattr(cost, name) for name in ModelCost.__slots__} for label, cost in self.models.items()
        }
        own = {name: getattr(self, name) for name in ("rounds", "tokens", "checks", "masks", "seconds")}
        return {**own, "models": models}
