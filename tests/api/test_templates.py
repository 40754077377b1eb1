"""Templates: prompts with mask tokens in them, filled in wherever they stand."""

from __future__ import annotations

import pytest

import decodekit as dk
from decodekit.diffusion import information
from decodekit.errors import CompositionError, PromptError
from decodekit.models.load import load
from decodekit.zoo import sums

MODEL = load("zoo:sums")


def test_masks_in_the_middle_are_filled_and_what_was_given_stays() -> None:
    out = dk.generate("zoo:sums", "a=3,b={mask},sum=1{mask};\na=2,b=2,sum={mask*2};\n")
    assert (out.prompt.kind, out.finish) == ("template", "length")
    assert out.text[:6] == "a=3,b="
    assert out.text[7:13] == ",sum=1"
    assert out.text.endswith("a=2,b=2,sum=04;\n")
    assert sums.right(out.text, 2)


def test_a_template_goes_on_behind_its_end_only_if_asked() -> None:
    template = "a=3,b={mask},sum=11;\na="
    assert len(dk.generate("zoo:sums", template).text) == 18
    assert len(dk.generate("zoo:sums", template, max_tokens=14).text) == 32


def test_text_ids_and_the_models_own_mask_token_are_the_same_template() -> None:
    by_text = dk.generate("zoo:sums", "a=3,b={mask},sum=11;\n")
    own = dk.generate("zoo:sums", "a=3,b=<|mask|>,sum=11;\n")
    ids = [MODEL.mask if token == "<|mask|>" else token for token in MODEL.tokenizer("a=3,b=0,sum=11;\n").input_ids]
    ids[6] = MODEL.mask
    by_ids = dk.generate("zoo:sums", ids)
    assert by_text.text == own.text == by_ids.text == "a=3,b=8,sum=11;\n"


def test_batches_of_templates_and_plain_prompts_are_their_single_runs() -> None:
    prompts = ["a={mask*14}", "a=3,b={mask},sum=11;\n", "a=1,b=1,sum=02;\n", "a={mask*30}"]
    decoder = dk.Decoder("zoo:sums", "threshold(sample=True, block=7)", dtype="float64")
    together = decoder.generate(prompts, max_tokens=16, seed=4)
    for prompt, one in zip(prompts, together, strict=True):
        alone = decoder.generate(prompt, max_tokens=16, seed=4)
        assert (alone.text, alone.tokens) == (one.text, one.tokens)
        assert alone.logp == pytest.approx(one.logp)


def test_the_log_probability_is_that_of_the_cells_of_the_text() -> None:
    out = dk.generate("zoo:sums", sums.PROMPT, strategy="unmask(sample=True)", seed=2)
    path = information.ledger(out.trace).paths[0]
    assert out.logp == pytest.approx(-path.cost.sum() * information.LN2, abs=1e-4)
    assert path.total == pytest.approx(path.cost.sum())


def test_streams_give_the_text_of_the_template() -> None:
    pieces = list(dk.stream("zoo:sums", sums.PROMPT, strategy="threshold"))
    (result,) = [piece.result for piece in pieces if piece.result is not None]
    assert "".join(map(str, pieces)) == result.text == dk.generate("zoo:sums", sums.PROMPT).text


def test_revocation_is_not_in_the_log_probability_and_cannot_be_streamed() -> None:
    out = dk.generate("zoo:sums", sums.PROMPT, strategy="wino(tau=0.2, back=0.95) | temperature(0.5)")
    path = information.ledger(out.trace).paths[0]
    assert path.revoked > 0
    assert out.logp == pytest.approx(-path.cost.sum() * information.LN2, abs=1e-3)


def test_no_end_of_text_before_a_cell_that_was_given() -> None:
    end = MODEL.tokenizer.convert_tokens_to_ids("3")
    out = dk.generate("zoo:sums", "a={mask},b={mask},sum={mask*2};\n", eos=[end], n=8, strategy="unmask(sample=True)")
    assert all(len(one.text) == 16 and "3" not in one.text for one in out.samples)


def test_bad_canvases_are_refused_in_a_sentence() -> None:
    with pytest.raises(PromptError, match="canvas of 200 cells, and the context"):
        dk.generate("zoo:sums", "a={mask*198}")
    with pytest.raises(PromptError, match="canvas of 168 cells"):
        dk.generate("zoo:sums", "a={mask*66}", max_tokens=100)
    with pytest.raises(PromptError, match="context"):
        dk.generate("zoo:sums", "a=" * 80, max_tokens=4)
    with pytest.raises(CompositionError, match="masked language model"):
        dk.generate("zoo:base", "x", strategy="unmask")
    with pytest.raises(CompositionError, match="causal"):
        dk.generate("zoo:sums", "a={mask*4}", strategy="awrs")
    assert dk.generate("zoo:base", "{mask}", max_tokens=2).prompt.kind == "text"  # just text to a causal model


def test_cells_behind_the_end_of_a_text_do_not_count() -> None:
    end = MODEL.tokenizer.convert_tokens_to_ids("7")
    spec = "unmask(order='random', per_round=9, sample=True)"
    out = dk.generate("zoo:sums", "a=", strategy=spec, eos=[end], max_tokens=62, n=6, seed=1)
    behind = 0
    for one, path in zip(out.samples, information.ledger(out.trace), strict=True):
        stop = 2 + len(one.tokens)
        behind += int((path.position >= stop).sum())
        assert one.logp == pytest.approx(-path.cost[path.position < stop].sum() * information.LN2, abs=1e-4)
    assert behind > 0
