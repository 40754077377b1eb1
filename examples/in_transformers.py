"""decodekit inside transformers' own generate(): their model, their arguments, our strategy."""

from transformers import AutoModelForCausalLM, AutoTokenizer

import decodekit as dk
from decodekit import zoo


def main() -> None:
    folder = zoo.path("base")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(["Count the pets of the species cat.\nvet as SQL:\n"], return_tensors="pt")
    strategy = dk.hf("speculative(draft='zoo:draft')", tokenizer=tokenizer)
    ids = model.generate(**inputs, custom_generate=strategy, max_new_tokens=60, do_sample=False)
    print(tokenizer.decode(ids[0], skip_special_tokens=True))


if __name__ == "__main__":
    main()
