"""A masked diffusion model fills a canvas: by certainty, by exploring first, within a budget, and around what is given.

The ledger says what each rule paid: rounds that it waited for, canvases that it read, and bits.
"""

import decodekit as dk
from decodekit.diffusion import information
from decodekit.zoo import sums

PROMPT = (
    "In order 4711, Vixa Learveso asked for a radio. The total is 70.36 euros; the customer has paid.\norder as JSON:\n"
)
RULES = (
    "threshold(block=16, sample=True)",
    "ete(sample=True)",
    "ete(explore=3, gap=12, sample=True)",
    "ete(max_rounds=6, sample=True)",
    "wino(block=16, sample=True)",
)


def main() -> None:
    for tau in (1.1, 0.9, 0.5):
        out = dk.generate("zoo:masked", PROMPT, strategy=f"threshold(tau={tau})", max_tokens=48)
        print(f"tau {tau}: {out.cost.rounds} rounds  {out.text}")

    print("\nfour sums, eight free digits: 26.6 bits whatever the rule")
    for spec in RULES:
        out = dk.generate("zoo:sums", sums.PROMPT, strategy=spec, seed=7, n=32)
        book = information.ledger(out.trace).mean()
        right = sum(sums.right(one.text, sums.RECORDS) for one in out.samples)
        print(f"{spec:38} {book['rounds']:5.1f} rounds {book['bits']:5.1f} bits, {right} of 32 canvases right")

    filled = dk.generate("zoo:sums", "a=3,b={mask},sum=1{mask};\na={mask},b=2,sum=04;\n")
    print("\nfilled in:", filled.text.split())

    strict = r"(a=3,b=\d,sum=1\d;\n){4}"  # exact over the whole canvas, in whatever order its cells are filled
    for spec in ("threshold(block=16, sample=True)", "ete(explore=4, gap=12, absorb=1.0, block=16, sample=True)"):
        held = dk.generate("zoo:sums", sums.PROMPT, strategy=spec, constraint=dk.regex(strict), seed=7)
        print(f"under a constraint: {held.cost.rounds:2d} rounds {held.text.split()}")

    draft = "canvas_draft(draft='zoo:masked', k=5) | greedy"
    plain, fast = (dk.generate("zoo:base", PROMPT, strategy=s, max_tokens=60) for s in ("greedy", draft))
    passes = plain.cost.calls, fast.cost.models["target"].calls
    print(
        f"a diffusion draft for zoo:base: the same text: {plain.text == fast.text}, {passes[1]} passes for {passes[0]}"
    )


if __name__ == "__main__":
    main()
