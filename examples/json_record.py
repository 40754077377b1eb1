"""A JSON record out of a sentence: valid by construction, and handed over as a Python object."""

from pydantic import BaseModel, Field

import decodekit as dk


class Person(BaseModel):
    """What is wanted. Any JSON Schema, dataclass or TypedDict does as well."""

    name: str = Field(max_length=40)
    age: int = Field(ge=0, le=120)
    city: str = Field(max_length=40)
    email: str = Field(max_length=60)
    member: bool


def main() -> None:
    sentence = "Our contact in Oslo is Mira Valdez, aged 34, who has joined the club (mira.v@post.org)."
    out = dk.generate(
        "zoo:base",
        f"{sentence}\nperson as JSON:\n",
        strategy="greedy",
        constraint=dk.json_schema(Person),
    )
    print(out.text)
    print(repr(out.value))


if __name__ == "__main__":
    main()
