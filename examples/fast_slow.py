"""Two models, one text: the small one writes, and asks the large one where it is unsure."""

import tempfile
from pathlib import Path

import decodekit as dk
from decodekit.ensembles import calibrate
from decodekit.zoo.data import json_examples

PROMPT = (
    "In order 4711, Vixa Learveso asked for a radio. The total is 70.36 euros; the customer has paid.\norder as JSON:\n"
)


def show(name: str, out: dk.Result) -> None:
    slow = out.cost.models.get("slow")
    print(f"{name:<18} {out.text}  [large model asked {slow.calls if slow else 0} times in {len(out.tokens)} tokens]")


def main() -> None:
    show("small alone", dk.generate("zoo:draft", PROMPT, strategy="greedy"))
    show(
        "asks when unsure",
        dk.generate("zoo:draft", PROMPT, strategy="greedy | fast_slow(slow='zoo:base', route='entropy')"),
    )
    # A threshold for a rate of 20 %, from what the two models say about other prompts.
    prompts = [example.prompt for example in json_examples("train", 20, 1)]
    rule, _ = calibrate.router("zoo:draft", "zoo:base", prompts, rate=0.2, strategy="greedy")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "router.json"
        rule.save(file)
        fitted = f"fast_slow(slow='zoo:base', route='fitted', fitted={str(file)!r})"
        show("fitted to 20 %", dk.generate("zoo:draft", PROMPT, strategy=f"greedy | {fitted}"))
    # The whole answer again by the large model, if its mean log-probability is low.
    show("cascade", dk.generate("zoo:draft", PROMPT, strategy="greedy | cascade(slow='zoo:base', threshold=-0.05)"))
    show("look-ahead", dk.generate("zoo:draft", PROMPT, strategy="adadec(threshold=0.5, steps=5)"))


if __name__ == "__main__":
    main()
