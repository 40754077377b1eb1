"""Records whose last field is computed: four lines ``a=7,b=5,sum=12;`` on a canvas of 64 cells, a letter a cell.

Eight digits are free (26.6 bits), eight follow from them, and the rest is boilerplate: so rules that fill several cells
at a time can go wrong in the one way that matters, and whether they did is decided by adding up.
"""

from __future__ import annotations

import math
import re
from random import Random

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

RECORDS = 4
WIDTH = 16
CELLS = RECORDS * WIDTH
PAD, END, MASK = "<|pad|>", "<|end|>", "<|mask|>"
SIGNS = "0123456789=,;\nabsum"
#: An empty canvas but for its first two cells: the model knows positions relative to what stands, and nothing else.
PROMPT = f"a={{mask*{CELLS - 2}}}"
#: Entropy of a canvas of four records, in bits.
BITS = RECORDS * 2 * math.log2(10)
#: What a record looks like, whether or not its sum is right.
PATTERN = r"a=\d,b=\d,sum=[01]\d;\n"


def record(a: int, b: int) -> str:
    """One line of 16 signs."""
    return f"a={a},b={b},sum={a + b:02d};\n"


def text(rng: Random, records: int = RECORDS) -> str:
    """Records with free digits."""
    return "".join(record(rng.randint(0, 9), rng.randint(0, 9)) for _ in range(records))


def right(answer: str, records: int | None = None) -> bool:
    """Whether `answer` is whole records (`records` of them, if that is said), and every sum is right."""
    found = re.findall(r"a=(\d),b=(\d),sum=(\d\d);\n", answer)
    count = len(answer) // WIDTH if records is None else records
    return len(found) == count and len(answer) == WIDTH * count and all(int(a) + int(b) == int(s) for a, b, s in found)


def tokenizer() -> PreTrainedTokenizerFast:
    """One token per sign; the special tokens are whole words."""
    vocabulary = {word: at for at, word in enumerate([PAD, END, MASK, *SIGNS])}
    core = Tokenizer(models.BPE(vocabulary, [], unk_token=PAD))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        mask_token=MASK,
        clean_up_tokenization_spaces=False,
        model_max_length=2 * CELLS,
        padding_side="left",
    )


def batch(words: PreTrainedTokenizerFast, rng: Random, rows: int, records: int = RECORDS) -> Tensor:
    """[B, 16 * records] token ids of fresh texts."""
    return torch.tensor(words([text(rng, records) for _ in range(rows)])["input_ids"])
