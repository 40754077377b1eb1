"""Sampling from the model *given* that the text is valid: particles with weights, and the evidence they add up to."""

import decodekit as dk


def main() -> None:
    out = dk.generate(
        "zoo:base",
        "Which pets are there of the species dog?\nvet as SQL:\n",
        strategy="awrs | smc(particles=8)",
        constraint=dk.regex(r"SELECT name FROM (pets|owners)( WHERE [a-z]+ = '[a-z]{1,12}')?"),
        seed=3,
    )
    for text, weight in sorted(out.posterior().items(), key=lambda item: -item[1]):
        print(f"{weight:6.3f}  {text}")
    print(f"log evidence: {out.evidence:.3f}")


if __name__ == "__main__":
    main()
