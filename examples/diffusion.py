"""A masked diffusion model fills a canvas: every cell that is certain enough is settled in the same round."""

import decodekit as dk

PROMPT = (
    "In order 4711, Vixa Learveso asked for a radio. The total is 70.36 euros; the customer has paid.\norder as JSON:\n"
)


def main() -> None:
    for tau in (1.1, 0.9, 0.5):
        out = dk.generate("zoo:masked", PROMPT, strategy=f"threshold(tau={tau})", max_tokens=48)
        print(f"tau {tau}: {out.cost.rounds} rounds  {out.text}")


if __name__ == "__main__":
    main()
