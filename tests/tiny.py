"""Tiny random models and tokenizers of the three kinds, made here: nothing is downloaded."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEXT = "hello world, the quick brown fox jumps over the lazy dog — naïve café 漢字 €5 (x = 1); STOP END"
SPECIAL = ["<pad>", "<s>", "</s>"]
CHAT = (
    "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}{% if not loop.last %}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}</s><s>assistant: {% endif %}"
)


def fast(core: Tokenizer, **more: Any) -> PreTrainedTokenizerFast:
    named = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=core, **{**named, **more})


@pytest.fixture(scope="session")
def byte_level() -> Any:
    """Byte-level BPE, as of GPT-2 and its kin; single bytes are tokens, so characters are split over tokens."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator([TEXT] * 2, trainer)
    made = fast(core)
    made.chat_template = CHAT
    return made


@pytest.fixture(scope="session")
def sentencepiece() -> Any:
    """As of Llama 2: spaces are written ▁, unknown characters fall back to byte tokens."""
    words = [*sorted({c for c in TEXT if c.isascii() and c != " "}), "▁", "▁the", "▁dog", "hello", "▁hello", "é"]
    names = ["<unk>", "<pad>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *words]
    vocab = {name: i for i, name in enumerate(names)}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>", byte_fallback=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    core.decoder = decoders.Sequence(steps)
    return fast(core, unk_token="<unk>")


@pytest.fixture(scope="session")
def word_piece() -> Any:
    """As of BERT: how a token joins depends on its neighbour."""
    names = ["[UNK]", *SPECIAL, "hello", "world", "##ing", "##s", "play", "walk", ",", "the", "un", "##able"]
    core = Tokenizer(models.WordPiece(vocab={name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece(cleanup=False)
    return fast(core, unk_token="[UNK]")


def llama(vocab: int, dtype: torch.dtype, seed: int, hidden: int = 32) -> Any:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=96,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).to(dtype).eval()


@pytest.fixture(scope="session")
def model(byte_level: Any) -> Any:
    """(model, tokenizer): a random Llama in float64, its logits wider than the vocabulary."""
    return llama(len(byte_level) + 5, torch.float64, seed=0), byte_level


@pytest.fixture(scope="session")
def draft(byte_level: Any) -> Any:
    """(model, tokenizer): a smaller one of the same vocabulary."""
    return llama(len(byte_level) + 5, torch.float64, seed=1, hidden=16), byte_level


@pytest.fixture(scope="session")
def gpt2(byte_level: Any) -> Any:
    """A random GPT-2 in float32."""
    torch.manual_seed(2)
    config = GPT2Config(
        vocab_size=len(byte_level),
        n_positions=96,
        n_embd=32,
        n_layer=2,
        n_head=2,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return GPT2LMHeadModel(config).eval()
