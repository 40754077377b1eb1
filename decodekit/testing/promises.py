"""Checks of what a plugin declares to keep, against full enumeration, and of what each role promises."""

from __future__ import annotations

from typing import Any, cast

import torch

from decodekit.core.bound import BindContext
from decodekit.core.protocols import Proposal, Warper
from decodekit.core.rows import NONE, Retired
from decodekit.testing.harness import Outcome, kit_for, opened
from decodekit.testing.oracle import FALSE_ALARM, Z_ALARM, Laws, Text, chi_square, enumerate_law, rows_of, z_score
from decodekit.testing.reference import Uniform
from decodekit.testing.subject import ConformanceError, Subject, demand


def written(row: Retired) -> Text:
    """Generated ids; NONE at the end of a row that ran into a dead end, as the enumeration writes it."""
    return (*row.tokens[row.start :], *((NONE,) if row.reason == "dead end" else ()))


def _laws(s: Subject, constraint: Any) -> Laws:
    model = cast(Any, s.model)
    if not hasattr(model, "logits"):
        raise ConformanceError("laws are enumerated over a TableModel; give one as model=")
    kit, _ = kit_for(s.parts(), s.model, constraint=constraint)
    return enumerate_law(model.logits, s.prompts[0], s.horizon, s.model.eos, constraint, kit.warpers)


def _drawn(s: Subject, constraint: Any, samples: int, extra: tuple[Any, ...] = ()) -> Outcome:
    return s.run(prompts=s.prompts[:1], most=s.horizon, samples=samples, seed=17, constraint=constraint, extra=extra)


def _fits(s: Subject, constraint: Any, extra: tuple[Any, ...] = ()) -> None:
    laws = _laws(s, constraint)
    out = _drawn(s, constraint, s.samples, extra)
    width = len(out.rows) // s.samples
    rows = out.rows[::width]  # slots of a population depend on each other; one of each group does not
    p = chi_square(laws.plain if constraint is None else laws.masked, [written(row) for row in rows])
    demand(p > FALSE_ALARM, f"the texts do not have the law of the enumeration (p = {p:.1g}, {len(rows)} texts)")


def law_of_the_model(s: Subject) -> None:
    """Without a constraint the texts have the (warped) law of the model."""
    _fits(s, None)


def law_under_a_constraint(s: Subject) -> None:
    """With a constraint each token has the (warped) law of the model, restricted to what is allowed."""
    _fits(s, s.constraint)


def law_with_guesses(s: Subject) -> None:
    """Guesses of a foreign drafter do not change the law."""
    _fits(s, None if s.takes("constraint") and not s.needs_constraint else s.constraint, (Uniform(),))


def weighted_estimates(s: Subject) -> None:
    """The mean weight is an unbiased estimate of the evidence, and at each text of that text's joint probability."""
    laws = _laws(s, s.constraint)
    out = _drawn(s, s.constraint, s.samples)
    width = len(out.rows) // s.samples
    weight = torch.tensor([row.logw for row in out.rows], dtype=torch.float64).exp().view(s.samples, width)  # [G, N]
    z = z_score(weight.mean(1), laws.evidence)
    demand(abs(z) < Z_ALARM, f"the evidence is off by {z:.1f} standard errors")
    texts = [written(row) for row in out.rows]
    often = [t for t, p in laws.masked.items() if p * len(texts) > 60 and t in laws.posterior]
    for text in often:
        here = torch.tensor([t == text for t in texts], dtype=torch.float64).view(weight.shape)
        z = z_score((weight * here).mean(1), laws.posterior[text] * laws.evidence)
        demand(abs(z) < Z_ALARM, f"the weight at the text {text} is off by {z:.1f} standard errors")
    for text, w in zip(texts, weight.flatten().tolist(), strict=True):
        demand(w == 0 or text in laws.posterior, f"the text {text} has weight {w} and is not allowed")


def same_texts_as_plain(s: Subject) -> None:
    """Under shared noise, guesses change nothing: the texts are those of the plain selector alone."""
    for seed in range(4):
        for constraint in (None, s.constraint) if s.takes("constraint") else (None,):
            with_it = s.run(samples=2, seed=seed, constraint=constraint)
            plain = s.run(samples=2, seed=seed, constraint=constraint, bare=True)
            demand(with_it.texts == plain.texts, "the texts differ from those without the proposer")


def warps_not_in_place(s: Subject) -> None:
    """The logits that came in are as they were, and the result has their shape."""
    warper, raw, ask, rows = _warping(s)
    before = raw.clone()
    out = warper.warp(rows, ask, raw)
    demand(torch.equal(raw, before), "logits were changed in place")
    demand(out.shape == raw.shape, "the result has another shape than the logits")
    demand(not bool(out.isnan().any()), "the result holds NaN")
    demand(bool((out > -torch.inf).any(2).all()), "a position is left without any token")


def many_positions_are_single_ones(s: Subject) -> None:
    """K positions at once give what each gives alone, along the guesses before it."""
    warper, raw, ask, rows = _warping(s)
    out = warper.warp(rows, ask, raw)  # [R, K, V]
    for k in range(raw.shape[1]):
        single = Proposal(ask.at[:, k : k + 1], torch.full_like(ask.at[:, :1], NONE))
        alone = warper.warp(rows, single, raw[:, k : k + 1])
        demand(torch.equal(alone[:, 0], out[:, k]), f"position {k} of {raw.shape[1]} differs from a single one")
    for r in range(len(rows)):
        for k in range(raw.shape[1]):
            text = rows.tokens[r, : int(ask.at[r, k])].tolist()
            final = rows_of([text], start=int(rows.start[r]))
            alone = warper.warp(final, Proposal(final.n[:, None], torch.full((1, 1), NONE)), raw[r : r + 1, k : k + 1])
            demand(torch.equal(alone[0, 0], out[r, k]), f"position {k} of row {r} differs from the same text, final")


def _warping(s: Subject) -> tuple[Warper, torch.Tensor, Proposal, Any]:
    kit, _ = kit_for(s.parts(), s.model)
    (warper, *_) = kit.warpers
    noise = torch.Generator().manual_seed(4)
    rows = rows_of([[1, 2, 3, 3], [4, 1], [2, 2, 2]], start=1)
    at = rows.n[:, None] + torch.arange(4)
    guess = torch.randint(s.model.vocab, at.shape, generator=noise)
    guess[:, -1] = NONE
    rows.write(at, guess, guess != NONE)
    return warper, torch.randn(3, 4, s.model.vocab, generator=noise, dtype=torch.float64) * 2, Proposal(at, guess), rows


def mask_is_admits(s: Subject) -> None:
    """Along random walks: mask and admits agree over the whole vocabulary, guesses and padding are treated as said."""
    _walk(s, replay=False)


def moves_are_replays(s: Subject) -> None:
    """After growth, rollback, fork and keep the constraint says what a fresh one says of the same rows."""
    _walk(s, replay=True)


def _walk(s: Subject, replay: bool) -> None:
    noise = torch.Generator().manual_seed(8)
    vocab, eos = s.model.vocab, list(s.model.eos)
    run = BindContext(s.model, opened, eos=s.model.eos)
    bound = s.plugin.bind(run)
    rows = rows_of([[1], [2, 1], [1]], room=64)
    for step in range(10):
        mask = bound.mask(rows, rows.n[:, None])[:, 0]  # [R, V]
        everything = torch.arange(vocab).expand(len(rows), vocab)
        demand(torch.equal(bound.admits(rows, rows.n, everything), mask), "admits and mask disagree")
        nothing = torch.full_like(rows.n[:, None], NONE)
        demand(not bool(bound.admits(rows, rows.n, nothing).any()), "admits is True for a token that is none")
        if eos:
            demand(torch.equal(mask[:, eos].any(1), bound.complete(rows)), "an end token is allowed elsewhere")
        for r, forced in enumerate(bound.forced(rows)):
            demand(not forced or bool(mask[r, forced[0]]), "a forced token is not allowed")
        inner = mask.clone()
        inner[:, eos] = False
        going = inner.any(1)
        token = torch.multinomial((inner | ~going[:, None]).double(), 1, generator=noise)  # [R, 1]
        _along_guesses(bound, rows, token, mask, going)
        rows.commit(rows.n[:, None], token, going[:, None])
        if replay:
            if step % 3 == 2:
                rows.fork(torch.randint(len(rows), (len(rows),), generator=noise))
            if step == 6:
                rows.keep(torch.tensor([2, 0]))
            fresh = s.plugin.bind(BindContext(s.model, opened, eos=s.model.eos))
            demand(
                torch.equal(bound.mask(rows, rows.n[:, None]), fresh.mask(rows, rows.n[:, None])),
                "after moves the mask is not that of a fresh constraint on the same rows",
            )


def _along_guesses(bound: Any, rows: Any, token: torch.Tensor, mask: torch.Tensor, going: torch.Tensor) -> None:
    """Positions past a guess that is not allowed, padding, and done rows: all True."""
    at = rows.n[:, None] + torch.arange(2)  # [R, 2]
    wrong = (~mask).to(torch.uint8).argmax(1, keepdim=True)  # [R, 1] some token that is not allowed
    is_wrong = ~mask.gather(1, wrong)
    rows.write(at[:, :1], wrong, torch.ones_like(is_wrong))
    both = bound.mask(rows, at)
    demand(torch.equal(both[:, 0], mask), "the mask at a position depends on the guess that stands there")
    demand(bool(both[:, 1][is_wrong[:, 0]].all()), "behind a guess that is not allowed not everything is allowed")
    demand(bool(bound.mask(rows, torch.full_like(at, NONE)).all()), "at padding not everything is allowed")
    rows.write(at[:, :1], token, going[:, None])
    along = bound.mask(rows, at)
    rows.commit(at[:, :1], token, going[:, None])
    after = bound.mask(rows, rows.n[:, None])
    demand(torch.equal(along[:, 1][going], after[:, 0][going]), "the mask along a guess is not the mask after it")
    rows.commit(at[:, :1], torch.full_like(token, NONE), going[:, None])  # back to where it was
