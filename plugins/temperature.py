"""Temperature."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from decodekit.core.bound import BindContext
from decodekit.core.protocols import Proposal
from decodekit.core.rows import Rows
from decodekit.errors import OptionError
from decodekit.registry.declaration import plugin


@plugin(role="warper", exactness="exact", requires=("distribution",), paper="Ackley, Hinton, Sejnowski 1985")
class Temperature:
    """Divide the logits by `value`: p(x)^(1/value), renormalised. Below 1 sharper, above 1 flatter.

    Same as `TemperatureLogitsWarper` of transformers.

    Args:
        value: temperature, above 0.

    Raises:
        OptionError: for 0, which is no division: the limit is the selector `greedy`.
    """

    value: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 1.0

    def __post_init__(self) -> None:
        if self.value == 0:
            raise OptionError(
                "temperature(value=0): 0 is the limit in which the most probable token is taken; use greedy"
            )

    @property
    def pointwise(self) -> bool:
        """It commutes with a constraint."""
        return True

    def bind(self, run: BindContext) -> Temperature:
        """Nothing to prepare."""
        return self

    def warp(self, rows: Rows, ask: Proposal, logits: Tensor) -> Tensor:
        """[R, K, V] -> [R, K, V]."""
        return logits / self.value
