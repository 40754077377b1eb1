"""AWRS with SMC against genlm-control 0.4.1: same model, same tokenizer, same Python check, same estimator, one run.

The peer's sampler is its default (a look of one token ahead), which here is `awrs(weight='recursive')`; both force the
end at the last place. Its engines: as shipped; with the batch as wide as the population and no waiting for late
callers; and the same with the prompt's cache kept. `python -m perf.awrs_peer` writes results/awrs_peer.json; it needs
the extra `bench`.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch

import decodekit as dk
from decodekit.constraints.kinds.predicate import Predicate
from decodekit.plugins.awrs import AWRS
from decodekit.plugins.smc import SMC
from perf.bench import PACKAGES, Timed, paired, ratio, save

VOCAB, PROMPT = 4_096, 32
LETTERS = frozenset(b"abcdefghijklmnopqrstuvwxyz ()[]{}")
CELLS = ((1, 48), (8, 48), (32, 48), (8, 192))
"""Particles and new tokens."""


class Check:
    """Every byte is of a set, brackets balance and nest at most six deep; counts its calls."""

    CLOSES: ClassVar = {41: 40, 93: 91, 125: 123}

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, text: bytes) -> bool:
        """Whether `text` may go on."""
        self.calls += 1
        stack = list[int]()
        for byte in text:
            if byte not in LETTERS:
                return False
            if byte in b"([{":
                if len(stack) == 6:
                    return False
                stack.append(byte)
            elif byte in b")]}" and (not stack or stack.pop() != self.CLOSES[byte]):
                return False
        return True


def tokenizer() -> Any:
    """A byte-level BPE of 4,096 tokens, trained on words of random letters."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    rng = np.random.default_rng(0)
    letters = list("abcdefghijklmnopqrstuvwxyz0123456789_{}[]():;=+-*/.,'\"")
    lines = [" ".join("".join(rng.choice(letters, rng.integers(2, 9))) for _ in range(12)) for _ in range(800)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=["<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(lines, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<eos>", pad_token="<eos>")


def network(speller: Any) -> Any:
    """A small GPT-2 with random weights whose laws are about as sharp as a language model's, and that seldom ends."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    end = speller.eos_token_id
    config = GPT2Config(
        vocab_size=len(speller), n_layer=2, n_embd=128, n_head=4, n_positions=512, bos_token_id=end, eos_token_id=end,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, tie_word_embeddings=False,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(12.0)
        model.lm_head.weight[end] = 0.0
    return model


class Peer:
    """genlm-control's SMC, a fresh engine for each call, as its own benchmarks do."""

    def __init__(self, model: Any, speller: Any, prompt: list[int], check: Check, engine: str) -> None:
        self.model, self.speller, self.prompt, self.check, self.engine = model, speller, prompt, check, engine

    def __call__(self, particles: int, most: int, seed: int) -> tuple[int, float]:
        """(tokens generated, log evidence)."""
        from genlm.backend.llm.hf import AsyncTransformer
        from genlm.control import AWRS, Potential, PromptedLLM

        check = self.check

        class Condition(Potential):  # type: ignore[misc]
            async def prefix(self, context: Any) -> float:
                return 0.0 if check(b"".join(map(bytes, context))) else -np.inf

            async def complete(self, context: Any) -> float:
                return await self.prefix(context)

            async def logw_eos(self, context: Any) -> float:
                """Without it the forced end asks for the whole vocabulary."""
                return await self.complete(context) - await self.prefix(context)

        options = {} if self.engine == "as shipped" else {"batch_size": particles, "timeout": 0.0}
        engine = AsyncTransformer(self.model, self.speller, **options)
        if self.engine == "tuned, prompt kept":
            engine.cache_kv(self.prompt)
        potential = PromptedLLM(engine, prompt_ids=self.prompt)
        sampler = AWRS(potential, Condition(potential.vocab, tables=potential.tables), seed=seed)

        async def go() -> Any:
            return await sampler.smc(n_particles=particles, ess_threshold=0.5, max_tokens=most)

        found = asyncio.run(go())
        return sum(len(one) for one in found.contexts), float(found.log_ml)


class Ours:
    """decodekit with the peer's estimator, or with its own default."""

    def __init__(self, model: Any, speller: Any, prompt: list[int], check: Check, selector: AWRS) -> None:
        self.model, self.prompt, self.rule, self.selector = (model, speller), prompt, check, selector

    def __call__(self, particles: int, most: int, seed: int) -> tuple[int, float]:
        """(tokens generated, log evidence)."""
        out = dk.generate(
            self.model,
            [self.prompt],
            constraint=Predicate(self.rule, over="bytes", closed=True),
            strategy=[self.selector, SMC(particles=particles, ess=0.5)],
            max_tokens=most,
            seed=seed,
            must_end=True,
        )[0]
        assert out.evidence is not None
        return sum(len(one.tokens) for one in out.samples), out.evidence


def cell(
    arms: dict[str, Any], checks: dict[str, Check], particles: int, most: int, repeats: int
) -> list[dict[str, Any]]:
    """Tokens per second and checks of each arm, and how many times faster than each of the peer's engines ours is."""
    told: dict[str, list[tuple[int, float]]] = {name: [] for name in arms}

    def call(name: str) -> Callable[[], None]:
        return lambda: told[name].append(arms[name](particles, most, len(told[name])))

    for check in checks.values():
        check.calls = 0
    times = paired({name: call(name) for name in arms}, repeats)
    rows, rate = list[dict[str, Any]](), dict[str, Timed]()
    for name, timed in times.items():
        tokens = [one for one, _ in told[name]][1:]
        rate[name] = Timed(name, tuple(s / n for s, n in zip(timed.seconds, tokens, strict=True)))
        every = sum(one for one, _ in told[name])
        row: dict[str, Any] = {
            "particles": particles,
            "new_tokens": most,
            "arm": name,
            "tokens_per_s": round(1 / rate[name].median, 1),
        }
        row["check_calls_per_token"] = round(checks[name].calls / every, 2)
        row["log_evidence"] = round(statistics.median(one for _, one in told[name]), 3)
        rows.append(row)
    for row in rows:
        row["times_as_fast_as"] = {
            name: ratio(rate[name], rate[row["arm"]])
            for name in rate
            if name.startswith("genlm") and name != row["arm"]
        }
        print(row)
    return rows


def main() -> None:
    torch.set_num_threads(1)
    speller = tokenizer()
    model = network(speller)
    prompt = speller.encode("the quick brown fox jumps over the lazy dog while twelve birds sing")[:PROMPT]
    checks, arms = dict[str, Check](), dict[str, Any]()
    for engine in ("as shipped", "tuned", "tuned, prompt kept"):
        name = f"genlm-control, {engine}"
        checks[name] = Check()
        arms[name] = Peer(model, speller, prompt, checks[name], engine)
    for name, selector in (("awrs(weight='recursive')", AWRS(weight="recursive")), ("awrs", AWRS())):
        checks[name] = Check()
        arms[name] = Ours(model, speller, prompt, checks[name], selector)
    rows = [row for particles, most in CELLS for row in cell(arms, checks, particles, most, 5)]
    save("awrs_peer", 0, rows, "AWRS-SMC against genlm-control, one thread", (*PACKAGES, "genlm-control"))


if __name__ == "__main__":
    main()
