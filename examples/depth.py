"""Fewer layers per token: SkipDecode, early exit under a schema, and a model that drafts for itself."""

import decodekit as dk
from decodekit.zoo.data import JSON_SCHEMAS

PROMPT = (
    "In order 4711, Vixa Learveso asked for a radio. The total is 70.36 euros; the customer has paid.\norder as JSON:\n"
)


def show(name: str, out: dk.Result) -> None:
    layers = sum(work.layers for work in out.cost.models.values()) / (len(out.prompt.tokens) + len(out.tokens))
    print(f"{name:<17} {out.text}  [{layers:.1f} layers a token, {out.cost.rounds} rounds]")


def main() -> None:
    order = dk.json_schema(JSON_SCHEMAS["order"])
    show("all layers", dk.generate("zoo:deep", PROMPT, strategy="greedy"))
    # A model that was tuned under the schedule: 6 layers at the first token, 2 from the 32nd on.
    show("skipdecode", dk.generate("zoo:skip", PROMPT, strategy="greedy | skipdecode(2, 6, 32)"))
    # Exits are judged after the schema: what it leaves no choice about is certain in the lowest layers.
    show(
        "early exit", dk.generate("zoo:exits", PROMPT, strategy="greedy | early_exit(threshold=0.9)", constraint=order)
    )
    # The same text as without, for the upper layers check every guess of the lower ones.
    plain = dk.generate("zoo:exits", PROMPT, strategy="sample", seed=7)
    drafted = dk.generate("zoo:exits", PROMPT, strategy="sample | self_speculative(exit=4, k=4)", seed=7)
    show("self-speculative", drafted)
    print(f"the same text: {plain.text == drafted.text}")


if __name__ == "__main__":
    main()
