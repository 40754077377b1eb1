"""A JSON record out of a sentence: valid by construction, and handed over as a Python object."""

from pydantic import BaseModel, Field

import decodekit as dk


class Order(BaseModel):
    """What is wanted. Any JSON Schema, dataclass or TypedDict does as well."""

    number: int = Field(ge=1)
    customer: str = Field(max_length=40)
    items: list[str] = Field(min_length=1, max_length=3)
    total: float
    paid: bool


def main() -> None:
    sentence = (
        "For 370.36 euros Vixa Learveso gets a radio, a ladder and a helmet; see order 1778. The buyer will pay later."
    )
    out = dk.generate(
        "zoo:base",
        f"{sentence}\norder as JSON:\n",
        strategy="greedy",
        constraint=dk.json_schema(Order),
    )
    print(out.text)
    print(repr(out.value))


if __name__ == "__main__":
    main()
