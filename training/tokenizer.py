"""The byte-level BPE tokenizer that all zoo models share."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from decodekit.zoo.data import mixture

PAD, END, MASK = "<|pad|>", "<|end|>", "<|mask|>"
VOCABULARY = 1280

# Words that models must copy (capitalised names, digits, addresses) never merge with the space before them, so that a
# name in a sentence and the same name after a quote are the same tokens; other words carry their space.
_PIECES = "|".join(
    (
        r" ?[a-z_]+(?![a-z0-9._]*@)",
        r"[a-z_]+",
        r" ?[A-Z]{2,}(?![a-z])",
        r"[A-Z][a-z]*",
        r"[0-9]",
        r"\n",
        r" ?[^\sA-Za-z0-9]+",
        r"\s",
    )
)


def _texts(n: int) -> Iterator[str]:
    for example in islice(mixture("train", 0, {"json": 0.5, "sql": 0.5}), n):
        yield example.prompt + example.answer


def build(n: int = 40_000) -> PreTrainedTokenizerFast:
    """Train the tokenizer on ``n`` training examples; any Unicode text round-trips, for all 256 bytes are tokens."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, END, MASK],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(_texts(n), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        mask_token=MASK,
        clean_up_tokenization_spaces=False,
        model_max_length=512,
        padding_side="left",
    )


def load(folder: str | Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a model folder."""
    return PreTrainedTokenizerFast.from_pretrained(str(folder))
