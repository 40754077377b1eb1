"""Models of other libraries as callables: transformers pipelines for real (tiny, random weights), sentence-transformers
by classes with its interface where it is not installed.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast, pipeline

import decodekit as dk
from decodekit.errors import OptionError
from decodekit.scores.adapters import CrossEncoder, PipelineNli, SentenceTransformer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "sat", "ran", "dog", "here", "not", "a"]
LABELS = {0: "CONTRADICTION", 1: "NEUTRAL", 2: "ENTAILMENT"}
PAIRS = [("the cat sat", "the cat ran"), ("a dog", "a dog here"), ("not the cat", "the cat sat here")]


def nli_model(labels: dict[int, str] = LABELS) -> Any:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        id2label=labels, label2id={word: i for i, word in labels.items()}, initializer_range=0.5,
    )  # fmt: skip
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **names)
    return pipeline("text-classification", model=BertForSequenceClassification(config).eval(), tokenizer=tokenizer)


def test_a_pipeline_is_asked_for_both_texts_and_its_labels_are_put_in_order() -> None:
    made = nli_model()
    nli = PipelineNli(made)
    found = nli.batch(PAIRS)
    assert found.shape == (3, 3)
    for (premise, hypothesis), law in zip(PAIRS, found, strict=True):
        given = made.tokenizer(premise, hypothesis, return_tensors="pt")
        with torch.no_grad():
            truth = made.model(**given).logits[0].softmax(-1).tolist()
        assert law.tolist() == pytest.approx([truth[2], truth[1], truth[0]], abs=1e-5)  # entail, neutral, contradict
        assert nli(premise, hypothesis) == pytest.approx(law.tolist(), abs=1e-5)
    assert found[0].tolist() != pytest.approx(nli.batch([PAIRS[0][::-1]])[0].tolist(), abs=1e-3)


def test_labels_that_say_nothing_are_given_by_the_user() -> None:
    odd = nli_model({0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"})
    with pytest.raises(OptionError, match="do not say which is entailment"):
        PipelineNli(odd)
    told = PipelineNli(odd, labels=("LABEL_2", "LABEL_1", "LABEL_0")).batch(PAIRS)
    assert told == pytest.approx(PipelineNli(nli_model()).batch(PAIRS), abs=1e-5)


class Embedder:
    """What sentence-transformers' bi-encoder offers of what is used here: `encode` of a list of texts."""

    def encode(self, sentences: Sequence[str], **_: Any) -> Any:
        assert isinstance(sentences, list)
        return np.array([[len(s), s.count("a"), s.count(" ") - 1.0] for s in sentences], dtype=np.float32)


class Pairs:
    """And of its cross-encoder: `predict` of a list of pairs."""

    def predict(self, sentences: Sequence[Sequence[str]], **_: Any) -> Any:
        return np.array([1.2 if a == b else 0.5 if a[:1] == b[:1] else -0.1 for a, b in sentences], dtype=np.float32)


def test_encoders_give_vectors_and_similarities() -> None:
    made = SentenceTransformer(Embedder())
    vectors = made(["aa", "b c d"])
    assert vectors.dtype == np.float64
    assert vectors.tolist() == [[2, 2, -1], [5, 0, 1]]
    assert made.batch([("aa", "aa"), ("aa", "b c d")]).tolist() == pytest.approx([1.0, 9 / 3 / 26**0.5], abs=1e-6)
    assert made("aa", "b c d") == pytest.approx(9 / 3 / 26**0.5, abs=1e-6)
    assert made.batch([("a", "   ")])[0] >= 0.0  # below 0 counts as 0
    crossed = CrossEncoder(Pairs())
    assert crossed.batch([("x", "x"), ("xa", "xb"), ("a", "b")]).tolist() == [1.0, 0.5, 0.0]
    assert crossed("xa", "xb") == 0.5


def test_scores_run_with_them() -> None:
    drawn = dk.generate("zoo:base", "Ada Park", strategy="sample | temperature(2.0)", n=4, max_tokens=10, seed=2)
    names = ["semantic_volume", "sar", "token_sar", "semantic_entropy", "eigv(affinity='entail')", "ccp"]
    found = dk.score(drawn, names, nli=PipelineNli(nli_model()), embed=SentenceTransformer(Embedder()),
                     similarity=CrossEncoder(Pairs()))  # fmt: skip
    assert not found.problems
    assert len(found) == len(names)
    assert all(np.isfinite(value) for value in found.values())


@pytest.mark.skipif(importlib.util.find_spec("sentence_transformers") is not None, reason="it is installed here")
def test_without_the_library_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    for kind in (SentenceTransformer, CrossEncoder):
        with pytest.raises(OptionError, match="pip install sentence-transformers"):
            kind("some/model")


def test_with_the_library_its_own_classes_serve() -> None:
    library = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    assert callable(library.SentenceTransformer.encode)
    assert callable(library.CrossEncoder.predict)
