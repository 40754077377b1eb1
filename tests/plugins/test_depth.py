"""SkipDecode, early exit and self-speculation in the loop: same texts however they are read, and honest counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import decodekit as dk
from decodekit.core.protocols import Round
from decodekit.errors import CompositionError, ModelError, OptionError
from decodekit.models.layer_schedule import Depths
from decodekit.models.load import load
from decodekit.models.model import HFModel
from decodekit.plugins.awrs import AWRS
from decodekit.plugins.early_exit import EarlyExit
from decodekit.plugins.sample import Greedy, Sample
from decodekit.plugins.self_speculative import SelfSpeculative
from decodekit.plugins.skipdecode import SkipDecode
from decodekit.plugins.smc import SMC
from decodekit.plugins.speculative import Speculative
from decodekit.testing.harness import run
from decodekit.testing.oracle import Z_ALARM, enumerate_law, z_score
from decodekit.testing.readers import V, build
from decodekit.testing.tables import TableModel
from decodekit.testing.toy import ToyConstraint
from training.partial import running

SERVED = ["gpt2", "gpt_neox", "llama", "qwen2", "qwen3", "opt"]
PROMPTS = [[1, 5, 3], [4], [7, 2, 9, 11, 12, 3]]
LAYERS = 4


def model(family: str = "llama") -> HFModel:
    words = TableModel(vocab=V, seed=0).tokenizer
    hf = build(family, "sdpa", torch.float64, LAYERS, 12.0)
    return HFModel(hf, words, family, context=128, eos=(0,), mask=None, masked=False)


def drafter() -> Speculative:
    return Speculative(TableModel(vocab=V, eos=(0,), seed=9), k=3)


@pytest.mark.parametrize("family", SERVED)
def test_self_speculation_gives_the_text_of_the_whole_model(family: str) -> None:
    for selector in (Greedy(), Sample()):
        plain = run([selector], model(family), PROMPTS, max_tokens=[12, 20, 9], seed=5).texts
        for exit, k, sure in ((1, 1, 0.0), (1, 4, 0.5), (3, 2, 0.0)):
            parts = [selector, SelfSpeculative(exit=exit, k=k, sure=sure)]
            assert run(parts, model(family), PROMPTS, max_tokens=[12, 20, 9], seed=5).texts == plain


class Counted:
    """Guesses made and taken."""

    def __init__(self) -> None:
        self.made = self.kept = 0

    def round(self, what: Round) -> None:
        guessed = what.ask.guess != -1
        self.made += int(guessed.sum())
        self.kept += int((guessed & what.take & (what.choice.tokens == what.ask.guess)).sum())

    def moved(self, rows: Any, index: Any) -> None: ...


def test_what_the_draft_computed_is_not_computed_again() -> None:
    """A token enters the lower layers once, and once more for every guess in its place that was refused."""
    seen = Counted()
    parts = [Sample(), SelfSpeculative(exit=2, k=3)]
    out = run(parts, model(), [[1, 5, 3]], max_tokens=30, seed=2, eos=(), observers=[seen])
    work = out.cost.models
    assert seen.made > seen.kept > 0
    text = len(out.rows[0].tokens)
    assert work["draft"].fed + work["target"].fed == text - 1 + seen.made - seen.kept
    # Above the exit, every round reads its guesses and the token before them: kept, refused and pending alike.
    upper = 2 * (text - 1 + seen.made - seen.kept)
    assert work["draft"].layers + work["target"].layers == upper + 2 * (work["draft"].fed + work["target"].fed)


SCORERS = [
    SkipDecode(k_min=1, k_max=4, length=8),
    SkipDecode(k_min=2, k_max=3, length=5, warmup=2),
    SkipDecode(k_min=1, k_max=3, length=4, keep="bottom"),
    EarlyExit(threshold=0.3),
    EarlyExit(rule="entropy", threshold=1.2, layers=(2,)),
    EarlyExit(rule="cosine", threshold=0.6, layers=(1, 3)),
]


@pytest.mark.parametrize("scorer", SCORERS, ids=str)
def test_texts_depend_neither_on_the_batch_nor_on_how_many_tokens_are_read_at_once(scorer: Any) -> None:
    plain = run([Sample(), scorer], model(), PROMPTS, max_tokens=[12, 20, 9], seed=5).texts
    assert plain != run([Sample()], model(), PROMPTS, max_tokens=[12, 20, 9], seed=5).texts
    drafted = run([Sample(), scorer, drafter()], model(), PROMPTS, max_tokens=[12, 20, 9], seed=5).texts
    assert drafted == plain
    for prompt, most, text in zip(PROMPTS, [12, 20, 9], plain, strict=True):
        assert run([Sample(), scorer], model(), [prompt], max_tokens=most, seed=5).texts == [text]


def test_thresholds_that_nothing_or_everything_meets() -> None:
    whole = run([Sample()], model(), PROMPTS, max_tokens=9).texts
    assert run([Sample(), EarlyExit(threshold=1.01)], model(), PROMPTS, max_tokens=9).texts == whole
    assert run([Sample(), EarlyExit(rule="never")], model(), PROMPTS, max_tokens=9).texts == whole
    lowest = run([Sample(), EarlyExit(threshold=0.0, layers=(2,))], model(), [[1, 5]], max_tokens=9)
    # The prompt was short, so nothing above the exit ever ran.
    assert lowest.cost.models["target"].layers == 2 * lowest.cost.models["target"].fed


@pytest.mark.parametrize("scorer", [SkipDecode(k_min=1, k_max=3, length=2), EarlyExit(threshold=0.5, layers=(2,))])
@pytest.mark.parametrize("drafted", [False, True])
def test_the_evidence_of_a_population_is_unbiased(scorer: Any, drafted: bool) -> None:
    """Resampled rows take every layer's cache, and what is pending, with them."""
    small = _five()
    limit = ToyConstraint(seed=6, dead_ends=True)
    laws = enumerate_law(_law(small, scorer), [1, 2], 3, eos=(0,), constraint=limit)
    guess = [Speculative(TableModel(vocab=5, eos=(0,), seed=9), k=2)] if drafted else []
    parts = [AWRS(), SMC(particles=4, ess=0.9), scorer, *guess]
    out = run(parts, small, [[1, 2]], constraint=limit, max_tokens=3, samples=600)
    weight = torch.tensor([row.logw for row in out.rows], dtype=torch.float64).exp()
    assert abs(z_score(weight.view(-1, 4).mean(1), laws.evidence)) < Z_ALARM


def _five() -> HFModel:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=5,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=32,
    )
    hf = LlamaForCausalLM(config).eval().double()
    for parameter in hf.parameters():
        parameter.requires_grad_(False)
        if parameter.dim() > 1:
            parameter.mul_(6.0)
    return HFModel(hf, TableModel(vocab=5, seed=0).tokenizer, "five", context=32, eos=(0,), mask=None, masked=False)


def _law(small: HFModel, scorer: Any) -> Any:
    """The last logits of a text, by the definition of the scorer, without a cache."""

    def skipped(tokens: Any) -> torch.Tensor:
        text = torch.tensor([list(tokens)])
        with running(small.hf, Depths(3, 3, 1, 2), torch.arange(text.shape[1])[None] - 2):
            logits: torch.Tensor = small.hf(input_ids=text, use_cache=False).logits
        return logits[0, -1]

    def exited(tokens: Any) -> torch.Tensor:
        text = torch.tensor([list(tokens)])
        out = small.hf.model(input_ids=text, use_cache=False, output_hidden_states=True)
        low: torch.Tensor = small.hf.lm_head(small.hf.model.norm(out.hidden_states[2]))[0, -1]
        whole: torch.Tensor = small.hf.lm_head(out.last_hidden_state)[0, -1]
        return low if exits(tokens, low) else whole

    limit = ToyConstraint(seed=6, dead_ends=True)

    def exits(tokens: Any, low: torch.Tensor) -> bool:
        allowed = torch.zeros(5, dtype=torch.bool)
        allowed[limit.allowed(tokens[2:])] = True
        law = low.masked_fill(~allowed, -torch.inf).softmax(-1).sort(descending=True).values
        return bool(law[0] - law[1] >= 0.5)

    return skipped if isinstance(scorer, SkipDecode) else exited


def test_an_exit_is_judged_after_the_grammar() -> None:
    """Where the grammar leaves one token it is certain in the lowest exit, whatever the model thinks."""
    prompt = "Ada Park is 36.\nperson as JSON:\n"
    free = dk.generate(
        "zoo:deep", prompt, strategy="greedy | early_exit(threshold=0.999999, layers=(2,))", max_tokens=8
    )
    forced = dk.generate(
        "zoo:deep",
        prompt,
        strategy="greedy | early_exit(threshold=0.999999, layers=(2,))",
        constraint=dk.regex("(xq){40}"),
        max_tokens=8,
    )
    assert forced.text.startswith("xqxq")
    costs = [out.cost.models["target"] for out in (free, forced)]
    above = [cost.layers - 2 * cost.fed for cost in costs]
    assert costs[1].fed > 8
    assert above[1] == 6 * (costs[1].fed - 7)  # the prompt, read to the top at once, and no token after it
    assert above[0] > above[1]


def test_they_work_under_a_schema_in_a_ragged_batch() -> None:
    schema = {
        "type": "object",
        "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["age"],
        "additionalProperties": False,
    }
    prompts = ["Ada Park is 36.\nperson as JSON:\n", "x", "Bo is a boy of 7 years.\nperson as JSON:\n"]
    for part in ("skipdecode(2, 6, 16)", "early_exit(threshold=0.5)", "self_speculative(exit=2)"):
        out = dk.generate("zoo:deep", prompts, strategy=f"sample | {part}", constraint=dk.json_schema(schema), seed=1)
        assert all(isinstance(one.value["age"], int) for one in out)


def test_skipdecode_drafts_for_its_own_full_model() -> None:
    prompt = "Find students in the second grade.\nschool as SQL:\n"
    plain = dk.generate("zoo:deep", prompt, strategy="sample", seed=4, max_tokens=24)
    draft = "speculative(draft='zoo:deep', k=3, scorer=skipdecode(4, 8, 24))"
    drafted = dk.generate("zoo:deep", prompt, strategy=f"sample | {draft}", seed=4, max_tokens=24)
    assert drafted.text == plain.text
    assert drafted.cost.models["draft"].layers < 8 * drafted.cost.models["draft"].fed
    assert drafted.cost.models["target"].calls < plain.cost.models["target"].calls


def test_bad_input() -> None:
    with pytest.raises(OptionError, match="k_min=4 is more than k_max=2: depth must not rise"):
        SkipDecode(k_min=4, k_max=2, length=9)
    with pytest.raises(OptionError, match="warmup=3 layers always run, and k_min=2 allows fewer"):
        SkipDecode(k_min=2, k_max=4, length=9, warmup=3)
    for strategy, said in (
        ("skipdecode(2, 9, 5)", "k_max=9 and zoo:deep has 8 layers"),
        ("self_speculative(exit=8)", "exit=8 leaves nothing to check with"),
        ("early_exit(layers=(4, 2))", "must increase and stay below the 8 layers"),
        ("early_exit(layers=(2, 8))", "must increase and stay below the 8 layers"),
        ("speculative(draft='zoo:base', scorer=greedy)", "scorer=greedy is no scorer"),
    ):
        with pytest.raises(CompositionError, match=said.replace("(", r"\(").replace(")", r"\)")):
            dk.generate("zoo:deep", "x", strategy=f"greedy | {strategy}", max_tokens=2)
    with pytest.raises(CompositionError, match="needs a causal language model"):
        dk.generate("zoo:masked", "x", strategy="threshold | early_exit", max_tokens=2)
    with pytest.raises(CompositionError, match="needs hidden states"):
        run([Greedy(), EarlyExit()], TableModel(vocab=5, eos=(0,), seed=0), [[1]])
    plain = load("zoo:deep", cache="none")
    with pytest.raises(ModelError, match="open it with cache='slab'"):
        dk.generate(plain, "x", strategy="greedy | early_exit", max_tokens=2)
    gemma = HFModel(build("gemma2", "eager"), model().tokenizer, "gemma", context=64, eos=(0,), mask=None, masked=False)
    with pytest.raises(ModelError, match="layers of gemma2 cannot be run apart"):
        run([Greedy(), SkipDecode(1, 2, 5)], gemma, [[1]])
