"""Claim-conditioned probability (CCP): how sure the model is of what is said, and not of how it is worded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final

import numpy as np
from pydantic import Field

from decodekit.registry.declaration import plugin
from decodekit.scores.base import Floats, ScoreError, Text
from decodekit.scores.needs import Needs
from decodekit.scores.tools import Tools

_WORDS: Final = """
a an the and or but if of to in on at by for from with as is are was were be been being am do does did has have had it
its this that these those he she they them his her their i you we not no so than then there here
"""
STOP_WORDS: Final = frozenset(_WORDS.split())
"""Words that say nothing by themselves: they count as certain, as in the paper."""


@dataclass(frozen=True)
class Claim:
    """A stretch of the text. begin, end: characters. uncertainty: 1 - the product of its tokens' CCP."""

    text: str
    begin: int
    end: int
    uncertainty: float


@plugin(role="score", paper="Fadeeva et al. 2024, arXiv 2403.04696")
class Ccp:
    """Uncertainty of the least certain claim: 1 - product over its tokens of the claim-conditioned probability.

    At each token the alternatives among the `top` likeliest are compared with the one taken (the text of the claim so
    far, with the one and with the other): CCP = p of those that entail it / p of those that entail or contradict it.
    Neutral ones do not count, and stop words are certain.

    Args:
        top: alternatives, the token itself included.
        context: whether the claim so far stands before the compared tokens, or they are compared bare.
        nli: callable for this score alone. claims: likewise; the built-in one splits sentences.
    """

    rising: ClassVar[bool] = True
    top: Annotated[int, Field(ge=2)] = 10
    context: bool = True
    nli: Any = None
    claims: Any = None

    def needs(self) -> Needs:
        """What the text says, its alternatives, a judge of entailment."""
        return Needs(("logp",), top=self.top, text=True, tools=("nli", "claims"))

    def of_text(self, text: Text, tools: Tools) -> float:
        """The uncertainty of the least certain claim; 0 of a text without claims."""
        return max((claim.uncertainty for claim in self.split(text, tools)), default=0.0)

    def of_tokens(self, text: Text, tools: Tools) -> Floats:
        """[T] 1 - CCP of each token."""
        tools = tools.having({"nli": self.nli, "claims": self.claims})
        spans = tools.spans(b"".join(text.pieces).decode("utf-8", "replace"))
        begins, _ = places(text)
        return 1.0 - self.tokens(text, tools, spans, begins)

    def split(self, text: Text, tools: Tools) -> list[Claim]:
        """All claims of a text, in its order."""
        tools = tools.having({"nli": self.nli, "claims": self.claims})
        whole = b"".join(text.pieces).decode("utf-8", "replace")
        spans = tools.spans(whole)
        begins, ends = places(text)
        chance = self.tokens(text, tools, spans, begins)
        found = []
        for a, b in spans:
            mine = [i for i, at in enumerate(begins) if at < b and ends[i] > a]
            found.append(Claim(whole[a:b], a, b, 1.0 - float(np.prod(chance[mine]))))
        return found

    def tokens(self, text: Text, tools: Tools, spans: list[tuple[int, int]], begins: list[int]) -> Floats:
        """[T] the claim-conditioned probability of each token."""
        if text.trace is None:
            raise ScoreError("ccp reads what the alternatives say, which only a trace knows")
        whole = b"".join(text.pieces).decode("utf-8", "replace")
        logps, ids = text.columns["top_logps"][:, : self.top], text.columns["top_ids"][:, : self.top]
        asked: list[tuple[int, list[str], Floats]] = []
        out = np.ones(len(text))
        for i, piece in enumerate(text.pieces):
            said = piece.decode("utf-8", "replace")
            if not said.strip() or said.strip().lower() in STOP_WORDS:
                continue
            others = ids[i] != text.columns["token"][i]
            words = [text.trace.bytes_of(int(t)).decode("utf-8", "replace") for t in ids[i][others]][: self.top - 1]
            before = ""
            if self.context:
                start = next((a for a, b in spans if a <= begins[i] + (len(said) - len(said.lstrip())) < b), 0)
                before = whole[min(start, begins[i]) : begins[i]]
            chance = np.exp(np.concatenate([[text.logp[i]], logps[i][others][: self.top - 1].astype(np.float64)]))
            asked.append((i, [(before + word).strip() for word in (said, *words)], chance))
        pairs = [pair for _, words, _ in asked for one in words[1:] for pair in ((words[0], one), (one, words[0]))]
        law = tools.entailment(pairs).reshape(-1, 2, 3)
        at = 0
        for i, words, chance in asked:
            verdict = combined(law[at : at + len(words) - 1])
            at += len(words) - 1
            out[i] = conditioned(chance, verdict)
        return out


def places(text: Text) -> tuple[list[int], list[int]]:
    """The characters at which each token begins and ends."""
    whole, sizes = b"".join(text.pieces), np.cumsum([len(piece) for piece in text.pieces], dtype=np.int64)
    ends = [len(whole[:size].decode("utf-8", "ignore")) for size in sizes.tolist()]
    return [0, *ends[:-1]], ends


def combined(law: Floats) -> list[str]:
    """[n] "entail", "contradict" or "neutral" from laws [n, 2, 3] of both directions.

    Both the same: that. Entailment and contradiction: neutral. One neutral: the other.
    """
    words = np.array(["entail", "neutral", "contradict"])[law.argmax(-1)]
    out = []
    for one, two in words.tolist():
        if one == two:
            out.append(one)
        elif "neutral" in (one, two):
            out.append(two if one == "neutral" else one)
        else:
            out.append("neutral")
    return out


def conditioned(chance: Floats, verdict: list[str]) -> float:
    """CCP of a token: chance [n + 1] of it and its alternatives, verdict [n] of these."""
    same = chance[0] + sum(p for p, word in zip(chance[1:], verdict, strict=True) if word == "entail")
    other = sum(p for p, word in zip(chance[1:], verdict, strict=True) if word == "contradict")
    return float(same / (same + other)) if same > 0 else 0.0
