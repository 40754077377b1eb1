"""Several proposers guess, the cheapest first: forced text, earlier answers, a draft model. The text stays the same."""

import decodekit as dk

ORDER = {
    "type": "object",
    "properties": {"number": {"type": "integer"}, "customer": {"type": "string"}, "paid": {"type": "boolean"}},
    "required": ["number", "customer", "paid"],
    "additionalProperties": False,
}
EARLIER = (
    '{"number": 1812, "customer": "Tomi Vellaro", "paid": true}',
    '{"number": 27, "customer": "Aneli Korvash", "paid": false}',
)
PROMPTS = [
    "In order 4711, Vixa Learveso asked for a radio; the customer has paid.\norder as JSON:\n",
    "Order 305: one helmet for Aneli Korvash, who will pay later.\norder as JSON:\n",
]


def main() -> None:
    rule = dk.json_schema(ORDER, whitespace="compact")  # as this model writes: no space is optional, so more is forced
    plain = dk.generate("zoo:base", PROMPTS, strategy="sample", constraint=rule, seed=7, max_tokens=80)
    draft = dk.speculative("zoo:draft", k=8, adapt=True)  # each row guesses as much as pays
    everybody = dk.first_of([dk.forced(), dk.suffix(corpus=EARLIER, least=3), draft])
    for name, proposer in (("look-up", dk.ngram()), ("draft", draft), ("everybody", everybody)):
        out = dk.generate("zoo:base", PROMPTS, strategy=[proposer, dk.sample()], constraint=rule, seed=7, max_tokens=80)
        assert [one.tokens for one in out] == [one.tokens for one in plain]
        print(f"{name}: {out[0].cost.calls} passes instead of {plain[0].cost.calls}")
        print(f"  {dk.diagnostics.acceptance(out).line()}")
    print("the same texts: True")
    print(plain[0].text)


if __name__ == "__main__":
    main()
