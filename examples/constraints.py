"""Constraints joined, in time, and with jumps: a filled form, a schema that is never cut off, forced text guessed."""

import decodekit as dk


def main() -> None:
    form = dk.template(
        "Name: {name}, age {age}.", {"name": dk.regex("[A-Z][a-z]+( [A-Z][a-z]+)?"), "age": dk.json_schema(int)}
    )
    out = dk.generate("zoo:base", "Ada Park is 36.\n", constraint=form, strategy="greedy", max_tokens=24, in_time=True)
    print(out.text, out.value)

    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "tags": {"type": "array", "items": {"type": "string"}}},
        "required": ["name", "tags"],
    }
    for room in (15, 25, 40):
        rule = dk.json_schema(schema)
        out = dk.generate("zoo:base", "A record:\n", constraint=rule, strategy="sample", max_tokens=room, in_time=True)
        print(room, out.finish, out.text)

    for strategy in ("sample", "forced | sample"):
        out = dk.generate(
            "zoo:base", "Ada:\n", constraint=dk.regex("the number of the pet is [0-9]{2}"), strategy=strategy
        )
        print(strategy, out.cost.calls, "passes:", out.text)


if __name__ == "__main__":
    main()
