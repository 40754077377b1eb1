"""Relaxed acceptance of guesses among interchangeable tokens: LANTERN's rules, and transport, whose law is bounded.

p is the target's law of the next token, q the guesser's, x the guess, `near` a table of nearest tokens
(:meth:`decodekit.models.codebook.Codebook.near`). All functions take any leading shape: p, q [..., V], x [...].

With A(x) the largest neighbourhood of x, grown from near to far among its k nearest tokens, whose mass is at most
delta (or delta * p(x)), LANTERN (arXiv 2410.03355) moves that mass onto x: p_A(x) = p(x) + p(A), nothing on A, p
elsewhere.

The bound holds for each p_A against p. It does not hold for what a step draws: p_A depends on x, and the step's law
:func:`step_law` is a mixture. `transport` instead chooses ONE law before it looks at x, and exact speculation with
that law draws from that law.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, NamedTuple

import torch
from torch import Tensor

from decodekit.core.rows import NONE

Rule = Literal["paper", "dynamic", "static", "greedy", "transport"]
Bound = Literal["additive", "multiplicative"]
_ROUNDING: Final = 1e-9
_EVERY: Final = 4  # ranks between two looks at whether anything is left to move


class Verdict(NamedTuple):
    """mass, against [...]: the guess is taken where u * against < mass, u uniform. rest [..., V]: unnormalised, what is
    drawn from where it is not taken.
    """

    mass: Tensor
    against: Tensor
    rest: Tensor

    @property
    def chance(self) -> Tensor:
        """[...] the probability that the guess is taken."""
        return (self.mass / self.against).nan_to_num(0.0).clamp(max=1.0)


def around(
    p: Tensor, x: Tensor, near: Tensor, delta: float | Tensor, bound: Bound = "additive"
) -> tuple[Tensor, Tensor]:
    """A(x): ([..., k] the nearest tokens of x, [..., k] bool which of them are in it).

    delta = 0 leaves it empty, also where neighbours have no mass.
    """
    tokens = near[x]  # [..., k]
    mass = p.gather(-1, tokens.clamp(min=0)).masked_fill(tokens == NONE, 0.0)
    most = _spread(delta, p) * (1 + _ROUNDING)  # [..., 1]
    limit = most if bound == "additive" else most * p.gather(-1, x[..., None])
    return tokens, (mass.cumsum(-1) <= limit) & (tokens != NONE) & (most > 0)


def transport(p: Tensor, q: Tensor, near: Tensor, delta: float | Tensor) -> tuple[Tensor, Tensor]:
    """(p' [..., V], the mass moved [...], at most delta): mass of p flows from where p > q to near tokens where q > p.

    Nearest first: for j = 1, 2, ... every token that wants mass asks its j-th nearest, and who is asked for more than
    it has shares what it has in proportion. After rank j no pair of that rank has both want and supply left, so the
    flow is maximal (no edge could carry more by itself), though not always maximum.

    A token gives or takes, never both, and never past q: so TV(p', p) is the mass moved, and TV(p', q) is smaller than
    TV(p, q) by as much. Each unit of the budget buys one unit of acceptance, the most that any law within delta of p
    can have.
    """
    # Tokens first: a neighbour is then a row of memory, several times faster to look up and to add to.
    apart = (q - p).reshape(-1, p.shape[-1]).T.contiguous()  # [V, M]
    have, want, left = (-apart).clamp(min=0.0), apart.clamp(min=0.0), _spread(delta, p).reshape(-1).clone()
    ends = torch.empty_like(apart), left.clone()  # of want - have, and of what is left, once nothing flows any more
    flowing = torch.arange(len(left), device=p.device)  # whose mass still flows
    for j in range(near.shape[1]):
        if j % _EVERY == 0:
            flows = (left > 0) & (have.amax(0) > 0) & (want.amax(0) > 0)
            if not bool(flows.all()):
                ends[0][:, flowing[~flows]], ends[1][flowing[~flows]] = (want - have)[:, ~flows], left[~flows]
                flowing, have, want, left = flowing[flows], have[:, flows], want[:, flows], left[flows]
            if not len(flowing):
                break
        taken, given = _flow(have, want, left, near[:, j])
        have, want = (have - given).clamp_(min=0.0), (want - taken).clamp_(min=0.0)
        left = (left - taken.sum(0)).clamp(min=0.0)
    ends[0][:, flowing], ends[1][flowing] = want - have, left
    return p + (apart - ends[0]).T.reshape(p.shape), _spread(delta, p)[..., 0] - ends[1].view(p.shape[:-1])


def _flow(have: Tensor, want: Tensor, left: Tensor, of: Tensor) -> tuple[Tensor, Tensor]:
    """(taken, given) [V, M]: every token asks its neighbour `of` [V] for what it wants; `left` [M] at most in all."""
    source = of.clamp(min=0)
    ask = torch.minimum(want, have[source]).masked_fill_((of == NONE)[:, None], 0.0)
    asked = torch.zeros_like(have).index_add_(0, source, ask)
    share = (have / asked).nan_to_num_(1.0, posinf=1.0).clamp_(max=1.0)
    flow = ask.mul_(share[source])
    flow *= (left / flow.sum(0)).nan_to_num(0.0, posinf=1.0).clamp(max=1.0)
    return flow, torch.zeros_like(have).index_add_(0, source, flow)


def judge(
    rule: Rule, p: Tensor, q: Tensor, x: Tensor, near: Tensor, delta: float | Tensor, bound: Bound = "additive"
) -> Verdict:
    """Whether guess x [...] is taken, and what is drawn from instead.

    rule: "paper" as published; "dynamic", "static" and "greedy" as the authors' released code does with a dynamic
    tree, a static tree, and at temperature 0; "transport". `near` has k columns, k + 1 for "dynamic" and "static".
    """
    if rule == "transport":
        return _exactly(transport(p, q, near, delta)[0], q, x)
    code = rule in ("dynamic", "static")
    nearest = near[:, :-1] if code else near
    tokens, inside = around(p, x, nearest, delta, bound)
    own = x[..., None]
    moved = p.gather(-1, tokens.clamp(min=0)).masked_fill(~inside, 0.0).sum(-1)
    mass = p.gather(-1, own)[..., 0] + moved
    if rule == "greedy":
        best = p.scatter(-1, own, mass[..., None]).argmax(-1)
        taken = (best == x).to(p.dtype)
        return Verdict(taken, torch.ones_like(taken), torch.zeros_like(p).scatter_(-1, p.argmax(-1, True), 1.0))
    if rule == "paper":
        relaxed = _without(p, tokens, inside).scatter(-1, own, mass[..., None])
        return _exactly(relaxed, q, x)
    removed = near[x]  # [..., k + 1]: the code removes one neighbour more than it looks at
    where = inside.any(-1, keepdim=True) & (removed != NONE)
    if rule == "dynamic":
        rest = _without(p, removed, where).scatter(-1, own, 0.0)
        return Verdict(mass, torch.ones_like(mass), _or_uniform(rest, p))
    rest = (p - _without(q, removed, where)).clamp(min=0.0)
    return Verdict(mass, q.gather(-1, own)[..., 0], _or_uniform(rest, p))


def sift(
    rule: Rule,
    p: Tensor,
    q: Tensor | None,
    guesses: Tensor,
    near: Tensor,
    delta: float,
    bound: Bound = "additive",
    *,
    uniform: Callable[[int], Tensor],
) -> tuple[Tensor, Tensor]:
    """Try the guesses [..., C] of one place in turn: (the one taken or NONE [...], what is drawn from if none is).

    q: the law from which they were drawn one after another without replacement, or None if they were not drawn.
    uniform: number of a guess -> uniform variables [...]. NONE among the guesses is passed over.

    After a refusal the next guess meets the residual law. For "transport" what is left of the budget is divided by the
    probability of coming so far, so the whole walk stays within delta of p: given the refused guesses each later law
    is within its budget of the residual, and a mixture of laws is no further away than they are.
    """
    taken = torch.full(guesses.shape[:-1], NONE, dtype=guesses.dtype, device=guesses.device)
    law, budget = p, _spread(delta, p)[..., 0]
    for c in range(guesses.shape[-1]):
        x = guesses[..., c]
        own, waiting = x.clamp(min=0), (taken == NONE) & (x != NONE)
        before = law if c == 0 else normalised(law, p)
        drawn = torch.zeros_like(p).scatter_(-1, own[..., None], 1.0) if q is None else _remaining(q, guesses[..., :c])
        verdict = judge(rule, before, drawn, own, near, budget, bound)
        yes = waiting & (uniform(c) * verdict.against < verdict.mass)
        taken = torch.where(yes, x, taken)
        refused = waiting & ~yes
        if rule == "transport" and c + 1 < guesses.shape[-1]:
            refusal = verdict.rest.sum(-1)  # of p': 1 - its acceptance
            spent = distance(before, drawn) - refusal
            budget = torch.where(refused, ((budget - spent).clamp(min=0.0) / refusal).nan_to_num(0.0, 0.0), budget)
        law = torch.where(refused[..., None], _or(verdict.rest, before), law)
    return taken, law


def step_law(
    p: Tensor, q: Tensor, rule: Rule, near: Tensor, delta: float, bound: Bound = "additive"
) -> tuple[Tensor, Tensor]:
    """(P [..., V], acceptance [...]): the law of the token that one step writes, for guesses drawn from q.

    P(y) = sum over x of q(x) * (a(x) 1{y = x} + (1 - a(x)) r_x(y)), by enumeration of x; memory [..., V, V].
    """
    vocab = p.shape[-1]
    every = torch.arange(vocab, device=p.device).expand(*p.shape[:-1], vocab)  # [..., V]
    wide = (*p.shape[:-1], vocab, vocab)
    verdict = judge(rule, p[..., None, :].expand(wide), q[..., None, :].expand(wide), every, near, delta, bound)
    chance = verdict.chance  # [..., V]
    rest = normalised(verdict.rest, p[..., None, :].expand(wide))
    law = q * chance + ((q * (1 - chance))[..., None] * rest).sum(-2)
    return law, (q * chance).sum(-1)


def distance(one: Tensor, other: Tensor) -> Tensor:
    """[...] the total variation of two laws [..., V]."""
    return (one - other).abs().sum(-1) / 2


def normalised(rest: Tensor, p: Tensor) -> Tensor:
    """`rest` [..., V] as a law. Where nothing is left nothing was refused, up to rounding: p, which is never drawn."""
    rest = _or(rest, p)
    return rest / rest.sum(-1, keepdim=True)


def _exactly(law: Tensor, q: Tensor, x: Tensor) -> Verdict:
    """Acceptance-rejection for the target `law`."""
    own = x[..., None]
    return Verdict(law.gather(-1, own)[..., 0], q.gather(-1, own)[..., 0], (law - q).clamp(min=0.0))


def _without(law: Tensor, tokens: Tensor, where: Tensor) -> Tensor:
    """`law` [..., V] with nothing at `tokens` [..., k] wherever `where`."""
    gone = torch.zeros_like(law).scatter_add_(-1, tokens.clamp(min=0), where.expand_as(tokens).to(law.dtype))
    return law.masked_fill(gone > 0, 0.0)


def _or(rest: Tensor, p: Tensor) -> Tensor:
    return torch.where(rest.sum(-1, keepdim=True) > 0, rest, p)


def _spread(delta: float | Tensor, p: Tensor) -> Tensor:
    """[..., 1] of the type of p [..., V]."""
    return torch.as_tensor(delta, dtype=p.dtype, device=p.device).expand(p.shape[:-1])[..., None]


def _remaining(q: Tensor, gone: Tensor) -> Tensor:
    """The law q [..., V] without the tokens `gone` [..., C], renormalised; NONE among them is passed over."""
    if gone.shape[-1] == 0:
        return q
    left = _without(q, gone, gone != NONE)
    return left / left.sum(-1, keepdim=True).clamp(min=torch.finfo(q.dtype).tiny)


def _or_uniform(rest: Tensor, p: Tensor) -> Tensor:
    """The code falls back to the uniform law where it removed everything; here over the tokens that p allows."""
    return _or(rest, (p > 0).to(p.dtype))
