"""Readers that run part of the layers: whatever happened to the rows, they give what their definition gives anew."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from decodekit.core.bound import BindContext
from decodekit.core.cost import Cost
from decodekit.core.rows import NONE, Rows
from decodekit.models.exits import StagedReader
from decodekit.models.forward import Forward
from decodekit.models.layer_schedule import Depths
from decodekit.models.stack import layers_of
from decodekit.plugins.early_exit import EarlyExit, ExitReader
from decodekit.plugins.skipdecode import FallingReader
from decodekit.testing.readers import Play, build, norms_in_double
from training.partial import running

LAYERS = 4
SHARP = {"gpt2": 3.0, "opt": 4.0}  # of the head, else 12: laws differ in how certain they are
SERVED = ["gpt2", "gpt_neox", "llama", "qwen2", "qwen3", "opt"]
EVENTS = st.lists(
    st.tuples(st.sampled_from(["go", "go", "fork", "expand", "keep", "done", "only"]), st.integers(0, 7)), max_size=12
)


def deep(family: str) -> Any:
    return norms_in_double(build(family, "sdpa", torch.float64, LAYERS, SHARP.get(family, 12.0)))


class Anew:
    """Reads each row alone, its whole text at once, by what a subclass defines."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def read(self, rows: Rows, at: Tensor, only: Tensor | None = None) -> Tensor:
        out = torch.zeros(*at.shape, self.model.config.vocab_size, dtype=torch.float64)
        for r in range(len(rows)):
            wanted = at[r] != NONE
            if bool(wanted.any()):
                text = rows.tokens[r : r + 1, : int(at[r].max())]
                out[r, wanted] = self.law(text, int(rows.start[r]))[0, at[r, wanted] - 1]
        return out

    def law(self, text: Tensor, start: int) -> Tensor:
        raise NotImplementedError


class ByLayers(Anew):
    """SkipDecode written out: every layer reads the positions at which it runs and passes the others on."""

    def __init__(self, model: Any, depths: Depths) -> None:
        super().__init__(model)
        self.depths = depths

    @torch.inference_mode()
    def law(self, text: Tensor, start: int) -> Tensor:
        with running(self.model, self.depths, torch.arange(text.shape[1])[None] - start):
            logits: Tensor = self.model(input_ids=text, use_cache=False).logits
        return logits


class ByExit(Anew):
    """Early exit written out on the hidden states of the whole model."""

    def __init__(self, model: Any, cuts: tuple[int, ...], options: EarlyExit) -> None:
        super().__init__(model)
        self.cuts, self.options = cuts, options

    @torch.inference_mode()
    def law(self, text: Tensor, start: int) -> Tensor:
        kept: list[Tensor] = []
        hooks = [
            layer.register_forward_hook(lambda _, __, out: kept.append(out[0] if isinstance(out, tuple) else out))
            for layer in layers_of(self.model)
        ]
        logits: Tensor = self.model(input_ids=text, use_cache=False).logits
        for hook in hooks:
            hook.remove()
        norm = {"gpt2": "ln_f", "opt": "final_layer_norm", "gpt_neox": "final_layer_norm"}
        family = self.model.config.model_type
        decoder = self.model.model.decoder if family == "opt" else self.model.get_decoder()
        final = getattr(decoder, norm.get(family, "norm"))
        out = logits.clone()
        taken = torch.zeros(text.shape, dtype=torch.bool)
        below = None
        for cut in self.cuts:
            here = self.model.get_output_embeddings()(final(kept[cut - 1]))
            sure = self.certain(here, kept[cut - 1], below) & ~taken
            out[sure], taken, below = here[sure], taken | sure, kept[cut - 1]
        return out

    def certain(self, logits: Tensor, state: Tensor, below: Tensor | None) -> Tensor:
        p = logits.softmax(-1)
        if self.options.rule == "gap":
            top = p.sort(-1, descending=True).values
            return top[..., 0] - top[..., 1] >= self.options.threshold
        if self.options.rule == "entropy":
            return -(p * p.log()).sum(-1) <= self.options.threshold
        if self.options.rule == "cosine" and below is not None:
            cosine: Tensor = (state * below).sum(-1) / (state.norm(dim=-1) * below.norm(dim=-1))
            return cosine >= self.options.threshold
        return torch.zeros(logits.shape[:2], dtype=torch.bool)


def play(truth: Any, reader: Any) -> None:
    @settings(max_examples=8)
    @given(events=EVENTS, seed=st.integers(0, 999))
    def run(events: list[tuple[str, int]], seed: int) -> None:
        game = Play(truth, reader(), 1e-9, seed)
        for event in [("go", 2), *events]:
            game.step(event)

    run()


@pytest.mark.parametrize("kind", ["skip", "bottom"])
@pytest.mark.parametrize("family", SERVED)
def test_a_falling_schedule_is_its_layer_by_layer_definition(family: str, kind: Any) -> None:
    model, depths = deep(family), Depths(LAYERS, 4, 1, 9, kind=kind)
    play(ByLayers(model, depths), lambda: FallingReader(Forward(model, family, None), Cost(), "target", depths=depths))


@pytest.mark.parametrize("family", SERVED)
def test_a_full_schedule_is_the_model(family: str) -> None:
    model, depths = deep(family), Depths(LAYERS, LAYERS, LAYERS, 3)
    whole = ByExit(model, (), EarlyExit(rule="never"))
    play(whole, lambda: FallingReader(Forward(model, family, None), Cost(), "target", depths=depths))


THRESHOLDS = {"gap": 0.4, "entropy": 1.2, "cosine": 0.8, "never": 0.0}


def rule_of(name: Any, family: str) -> EarlyExit:
    alike = (name, family) == ("cosine", "gpt2")  # its layers change little
    return EarlyExit(rule=name, threshold=0.972 if alike else THRESHOLDS[name])


@pytest.mark.parametrize("rule", list(THRESHOLDS))
@pytest.mark.parametrize("family", SERVED)
def test_an_early_exit_is_the_whole_models_hidden_state(family: str, rule: str) -> None:
    """Whatever was left pending, forked, rolled back or caught up."""
    model, cuts, options = deep(family), (1, 2, 3), rule_of(rule, family)
    run = BindContext(model=None, open=lambda _: None)  # type: ignore[arg-type, return-value]
    play(
        ByExit(model, cuts, options),
        lambda: ExitReader(options, run, Forward(model, family, None), Cost(), "target"),
    )


@pytest.mark.parametrize("family", SERVED)
def test_any_stage_may_be_asked_at_any_time(family: str) -> None:
    model = deep(family)
    whole = ByExit(model, (), EarlyExit(rule="never"))

    class Sometimes(StagedReader):
        def read(self, rows: Rows, at: Tensor, only: Tensor | None = None) -> Tensor:
            for stage in (0, 1, 0):
                self.logits(rows, at[:, :1], only, stage, "draft")
            return super().read(rows, at, only)

    play(whole, lambda: Sometimes(Forward(model, family, None), Cost(), "target", (1, 3)))


@pytest.mark.parametrize("rule", ["gap", "entropy", "cosine"])
@pytest.mark.parametrize("family", SERVED)
def test_the_rules_let_some_go_and_some_not(family: str, rule: str) -> None:
    """Or the tests above would show nothing."""
    model, text = deep(family), torch.randint(0, 40, (1, 60), generator=torch.Generator().manual_seed(1))
    law = ByExit(model, (1, 2, 3), rule_of(rule, family)).law(text, 0)
    whole = ByExit(model, (), rule_of("never", family)).law(text, 0)
    left = (law - whole).abs().amax(-1) > 1e-6
    assert 0 < int(left.sum()) < 60
