"""Unbiased weights for a constrained step, from a few checks (Lipkin et al. 2025, arXiv 2504.05410).

The setting: a law p over the vocabulary, a check, and an *order*, the vocabulary in descending log p + Gumbel noise,
which is a sequence of draws from p without replacement. Its first allowed token x is a draw from p restricted to what
is allowed. A weight w is *proper* if E[w 1{token = x}] = p(x) for each allowed x: then E[w] = Z, the allowed mass, and
weights multiply over steps. Each estimator here is a generator that runs along a :class:`Walk`; it yields how many
tokens of which order it must know the verdicts of, and returns the place of the token taken and its log weight.

================  ====================================================================================================
`look`            E4: what is left of the mass if the next token in the order is allowed, else p(x); E4k: k looks ahead
`two_loops`       E2, Definition 2 of the paper: a second, independent order counts the rejections again
`replay`          E3: what sampling with replacement would have counted, replayed from the same order; averaged over
                  several replays (E3avg); with a cap on rejections (E3c)
================  ====================================================================================================

Mass that is nearly all refused is never computed as 1 - refused: a walk keeps what is left, which is exact down to the
smallest float.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias


@dataclass(slots=True)
class Walk:
    """What is known of one order.

    p: masses in that order, of the tokens fetched so far. left: mass of all that come after them. whole: whether no
    token comes after them. ok: verdicts of the first tokens.
    """

    p: list[float] = field(default_factory=list)
    left: float = 1.0
    whole: bool = False
    ok: list[bool] = field(default_factory=list)

    def tails(self) -> list[float]:
        """Mass from each place on, and after the last: summed from the small end, so that nothing cancels."""
        out = [self.left] * (len(self.p) + 1)
        for place in range(len(self.p) - 1, -1, -1):
            out[place] = out[place + 1] + self.p[place]
        return out

    def ends_before(self, place: int) -> bool:
        """Whether the order has no token at `place`."""
        return self.whole and place >= len(self.p)


Found: TypeAlias = tuple[int, float]
"""Place of the token in the first order, -1 where there is none, and the log weight."""
Steps: TypeAlias = Generator[tuple[int, int], None, Found]
"""Yields (which order, how many of its tokens must be known)."""
DEAD: Found = (-1, -math.inf)


def log(mass: float) -> float:
    """Natural logarithm, -inf at 0."""
    return math.log(mass) if mass > 0 else -math.inf


def _first(walk: Walk, cap: int | None) -> Generator[tuple[int, int], None, int]:
    """Place of the first allowed token, or -1 where there is none among the first `cap`."""
    place = 0
    while cap is None or place < cap:
        known = walk.ok if cap is None else walk.ok[:cap]
        if True in known:
            return known.index(True)
        place = len(known)
        if cap is not None and place >= cap:
            break
        yield 0, place + 1
        if walk.ends_before(place):
            return -1
    return -1


def look(walk: Walk, ahead: int, cap: int | None = None) -> Steps:
    """E4k: let x be the token taken and t_1 ... t_k those after it in the order (`ahead` = k >= 1). Then

        w = p(x) + sum over i < k of p(t_i) [t_i allowed] + (p(t_k) + all after it) [t_k allowed]

    is proper, because the next token in the order is a draw from what is left. k is fixed before any verdict is known,
    and is cut only at the end of the order. With a `cap`, no more than `cap` places are ever checked; at the last
    permitted one the weight is all that has not been refused.
    """
    place = yield from _first(walk, cap)
    if place < 0:
        return DEAD
    last = place + ahead if cap is None else min(place + ahead, cap - 1)
    yield 0, last + 1
    tails = walk.tails()
    if walk.whole:
        last = min(last, len(walk.p) - 1)
    if last == place:
        return place, log(tails[place])
    between = sum(walk.p[i] for i in range(place, last) if walk.ok[i])
    return place, log(between + (tails[last] if walk.ok[last] else 0.0))


def first(walk: Walk, cap: int | None = None) -> Steps:
    """No weight: the first allowed token."""
    place = yield from _first(walk, cap)
    return DEAD if place < 0 else (place, 0.0)


def two_loops(walk: Walk, second: Walk, known: Callable[[int], int | None]) -> Steps:
    """E2: (1 - psi_1) / (n_1 + n_2 + 1), psi_1 the mass that the first loop refused, n_1 and n_2 how many tokens the
    two loops refused. The second runs along an order of its own, without what the first refused.

    `known(i)` is the place in the first order of the token at place i of the second, None where it was not fetched.
    """
    place = yield from _first(walk, None)
    if place < 0:
        return DEAD
    again, at = 0, 0
    while True:
        yield 1, at + 1
        if second.ends_before(at):  # only rounding gets here: the token taken is allowed, and in both orders
            break
        if second.ok[at]:
            break
        where = known(at)
        again += where is None or where > place  # one that the first loop refused is not drawn in the second
        at += 1
    return place, log(walk.tails()[place]) - math.log(place + again + 1)


def replay(walk: Walk, accepts: int, replays: int, cap: int | None, rng: Random) -> Steps:
    """E3, E3c, E3avg: the mean over `replays` of min(m - 1, a) / (a + n - 1), with m = `accepts` >= 2.

    Sampling *with* replacement until m accepts or `cap` refusals, n and a being how many of each: given the counts,
    the weight is the conditional expectation of "the first draw was accepted", hence proper. It is simulated along the
    order: the next new token comes with the chance of what was not seen yet, and repetitions in between, which need no
    check, are drawn. All replays share one order, so x is the same in all of them and their mean is proper too;
    checks are only paid for the longest.
    """
    total = 0.0
    for _ in range(replays):
        a, n = yield from _with_replacement(walk, accepts, cap, rng)
        total += min(accepts - 1, a) / (a + n - 1) if a else 0.0
    place = walk.ok.index(True) if True in walk.ok else -1
    return (place, log(total / replays)) if place >= 0 and total > 0 else DEAD


def _with_replacement(
    walk: Walk, accepts: int, cap: int | None, rng: Random
) -> Generator[tuple[int, int], None, tuple[int, int]]:
    """(accepted, refused) draws of one replay."""
    a = n = place = refusals = 0
    seen = 0.0  # mass of the allowed tokens drawn so far; they stay in the pool
    fetched, tails = (-1, 1.0), [1.0]
    while a < accepts:
        if place >= len(walk.ok) and not walk.ends_before(place):
            yield 0, place + 1
        if (len(walk.p), walk.left) != fetched:
            fetched, tails = (len(walk.p), walk.left), walk.tails()
        fresh = 0.0 if walk.ends_before(place) else tails[place]
        open_ = seen + fresh  # all that is not a refused token drawn before
        if open_ <= 0.0:
            return 0, n
        if refusals:  # how often refused tokens come again before anything else does; a count, for 1 - open_ may round
            chance = rng.random() or 5e-324
            n += math.floor(math.log(chance) / math.log1p(-open_)) if open_ < 1.0 else 0
        if cap is not None and n >= cap:
            return a, cap
        if rng.random() * open_ < seen:
            a += 1
            continue
        if walk.ok[place]:
            a, seen = a + 1, seen + walk.p[place]
        else:
            n, refusals = n + 1, refusals + 1
            if cap is not None and n >= cap:
                return a, cap
        place += 1
    return a, n
