"""The same text from fewer passes of the large model: a small one drafts, the large one agrees or corrects."""

import decodekit as dk

PROMPT = (
    "In order 4711, Vixa Learveso asked for a radio. The total is 70.36 euros; the customer has paid.\norder as JSON:\n"
)


def main() -> None:
    plain = dk.generate("zoo:base", PROMPT, strategy="sample", seed=7)
    drafted = dk.generate("zoo:base", PROMPT, strategy="speculative(draft='zoo:draft', k=4) | sample", seed=7)
    print(plain.text)
    print(f"the same text: {plain.text == drafted.text}")
    print(f"passes of the large model: {plain.cost.calls} alone, {drafted.cost.calls} with a draft")


if __name__ == "__main__":
    main()
