"""The same text from fewer passes of the large model: a small one drafts, the large one agrees or corrects."""

import decodekit as dk

PROMPT = "Order 4711: Mira Valdez bought a lamp and a desk for 120.35 euros and has paid.\norder as JSON:\n"


def main() -> None:
    plain = dk.generate("zoo:base", PROMPT, strategy="sample", seed=7)
    drafted = dk.generate("zoo:base", PROMPT, strategy="speculative(draft='zoo:draft', k=4) | sample", seed=7)
    print(plain.text)
    print(f"the same text: {plain.text == drafted.text}")
    print(f"passes of the large model: {plain.cost.calls} alone, {drafted.cost.calls} with a draft")


if __name__ == "__main__":
    main()
