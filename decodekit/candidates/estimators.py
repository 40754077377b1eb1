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

The end of long walks
---------------------
Where a walk has a bound (`Walk.most` = M) an estimator sees at most M places of an order. Past them it asks for the
exact mass Z, which takes one mask, and returns the conditional mean of its own weight given all that it has seen so far
and given the token x. By the tower rule E[E[w | seen, x] 1{x}] = E[w 1{x}], so it stays proper, and its variance can
only fall. M must not depend on anything that was seen or measured, or weights would depend on the machine's mood. The
token is the best of the masked law under the same noise, which is the first allowed token of the order. The means:

`look`       Z itself. Let L be what is left before place j and R the refused part of L. Given that x is taken at j, the
             mean of p(x) + (L - p(x)) [next allowed] is p(x) + (L - p(x)) (L - R - p(x)) / (L - p(x)) = L - R = Z, and
             so by induction for more looks ahead. It is the same for every j and every x.
`replay`     A replay is a sequence of independent draws from p. It stops when it has drawn M different tokens; n
             refusals and a accepts, a < m, were among its draws. The draws to come are independent of those, and which
             allowed token is drawn first is independent of how many refusals come before it. So the mean is
             E[(m - 1) / (m - 1 + n + N)], N those before m - a more accepts of chance Z
             (:mod:`decodekit.candidates.stopped_draws`). It is near Z only while n Z is small; plain Z would be biased
             (an enumeration in the tests shows it).
`two_loops`  No mean is taken. The weight is the one that both loops would have counted to the end, read off the mask
             and the keys of both orders.

The same means are taken, in logarithms, where what is left of the mass falls below :data:`LEAST` (a temperature of
0.001): that is seen from the tokens refused so far, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from itertools import accumulate
from random import Random
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from decodekit.candidates.stopped_draws import mean

EXACT: Final = 2
"""Asked for in place of an order: the exact mass."""
MASKED: Final = -2
"""In place of a place: the token is the best of the masked law."""
LEAST: Final = 1e-280
"""Mass below which counts of draws, which are floats, would overflow."""
_RUN: Final = 64  # refusals in a row from which on their repetitions are drawn as an array


@dataclass(frozen=True, slots=True)
class Exact:
    """What a mask tells about a row.

    logz: log of the allowed mass. loops: refusals of the first and of the second loop of :func:`two_loops`, and log of
    the mass that the first did not refuse.
    """

    logz: float
    loops: Callable[[], tuple[int, int, float]]


@dataclass(slots=True)
class Walk:
    """What is known of one order.

    p: masses in that order, of the tokens fetched so far. left: mass of all that come after them. whole: whether no
    token comes after them. ok: verdicts of the first tokens. most: places that an estimator looks at before it asks for
    the exact mass, None for all. exact: that, once it was asked for.
    """

    p: list[float] = field(default_factory=list)
    left: float = 1.0
    whole: bool = False
    ok: list[bool] = field(default_factory=list)
    most: int | None = None
    exact: Exact | None = None
    _tails: tuple[int, float, list[float]] = field(default=(-1, 0.0, []), repr=False)

    def tails(self) -> list[float]:
        """Mass from each place on, and after the last: summed from the small end, so that nothing cancels.

        Made once for what is fetched, for all replays; not to be changed.
        """
        if self._tails[:2] != (len(self.p), self.left):
            sums = list(accumulate(reversed(self.p), initial=self.left))
            self._tails = (len(self.p), self.left, sums[::-1])
        return self._tails[2]

    def ends_before(self, place: int) -> bool:
        """Whether the order has no token at `place`."""
        return self.whole and place >= len(self.p)


Found: TypeAlias = tuple[int, float]
"""Place of the token in the first order, -1 where there is none, :data:`MASKED`, and the log weight."""
Steps: TypeAlias = Generator[tuple[int, int], None, Found]
"""Yields (which order, how many of its tokens must be known), or (:data:`EXACT`, 0)."""
DEAD: Found = (-1, -math.inf)


def log(mass: float) -> float:
    """Natural logarithm, -inf at 0."""
    return math.log(mass) if mass > 0 else -math.inf


def _first(walk: Walk, cap: int | None) -> Generator[tuple[int, int], None, int]:
    """Place of the first allowed token, or -1 where there is none among the first `cap`.

    Without a cap: -1 where there is none at all, MASKED where there is none among the first `walk.most`.
    """
    place = 0
    most = walk.most if cap is None else cap
    while most is None or place < most:
        known = walk.ok if most is None else walk.ok[:most]
        if True in known:
            return known.index(True)
        place = len(known)
        if most is not None and place >= most:
            break
        yield 0, place + 1
        if walk.ends_before(place):
            return -1
    return -1 if cap is not None else MASKED


def _exact(walk: Walk) -> Generator[tuple[int, int], None, Exact]:
    """What the mask says."""
    if walk.exact is None:
        yield EXACT, 0
    assert walk.exact is not None
    return walk.exact


def look(walk: Walk, ahead: int, cap: int | None = None) -> Steps:
    """E4k: let x be the token taken and t_1 ... t_k those after it in the order (`ahead` = k >= 1). Then

        w = p(x) + sum over i < k of p(t_i) [t_i allowed] + (p(t_k) + all after it) [t_k allowed]

    is proper, because the next token in the order is a draw from what is left. k is fixed before any verdict is known,
    and is cut only at the end of the order. With a `cap`, no more than `cap` places are ever checked; at the last
    permitted one the weight is all that has not been refused.
    """
    place = yield from _first(walk, cap)
    if place == MASKED:
        exact = yield from _exact(walk)
        return DEAD if exact.logz == -math.inf else (MASKED, exact.logz)
    if place < 0:
        return DEAD
    if cap is None and walk.tails()[place] < LEAST:
        exact = yield from _exact(walk)
        return place, exact.logz
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
    if place == MASKED:
        exact = yield from _exact(walk)
        return DEAD if exact.logz == -math.inf else (MASKED, 0.0)
    return DEAD if place < 0 else (place, 0.0)


def two_loops(walk: Walk, second: Walk, known: Callable[[int], int | None]) -> Steps:
    """E2: (1 - psi_1) / (n_1 + n_2 + 1), psi_1 the mass that the first loop refused, n_1 and n_2 how many tokens the
    two loops refused. The second runs along an order of its own, without what the first refused.

    `known(i)` is the place in the first order of the token at place i of the second, None where it was not fetched.
    """
    place = yield from _first(walk, None)
    if place == -1:
        return DEAD
    again, at = 0, 0
    while True:
        if place == MASKED or at == walk.most or walk.tails()[place] < LEAST:
            exact = yield from _exact(walk)
            if exact.logz == -math.inf:
                return DEAD
            one, other, left = exact.loops()
            return place, left - math.log(one + other + 1)
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
    place, logs, run = 0, list[float](), _Run(walk, 0, rng)
    if cap is None:
        place = yield from _first(walk, None)
        if place == -1:
            return DEAD
        run = _Run(walk, walk.most or 0 if place == MASKED else place, rng)
    for _ in range(replays):
        a, n = yield from _with_replacement(walk, accepts, cap, rng, run.start())
        if cap is None and (a < accepts or place == MASKED):
            exact = yield from _exact(walk)
            if exact.logz == -math.inf:
                return DEAD
            logs.append(mean(n, accepts, accepts - a, exact.logz))
        else:
            logs.append(log(min(accepts - 1, a) / (a + n - 1)) if a else -math.inf)
    if cap is not None:
        place = walk.ok.index(True) if True in walk.ok else -1
    best = max(logs)
    if place == -1 or best == -math.inf:
        return DEAD
    return place, best + math.log(math.fsum(math.exp(one - best) for one in logs) / replays)


class _Run:
    """How often refused tokens came again while the first `length` places, all of them refused, came up for the first
    time: for long runs drawn as arrays, since every replay goes through all of it.
    """

    __slots__ = ("_gaps", "_length", "_rng")

    def __init__(self, walk: Walk, length: int, rng: Random) -> None:
        self._length = 0
        self._gaps: npt.NDArray[np.float64] | None = None
        if length >= _RUN:
            tails = np.minimum(walk.tails()[:length], 1.0)  # what is not refused yet, before each place
            self._length = int(np.count_nonzero(tails >= LEAST))
            open_ = tails[1 : self._length]
            with np.errstate(divide="ignore"):  # log(0) where all is open: nothing comes again
                self._gaps = np.log1p(-open_)
            self._rng = np.random.default_rng(rng.getrandbits(64))

    def start(self) -> tuple[int, float]:
        """(places behind, refused draws so far) of one replay; (0, 0) for it to go through all places by itself."""
        if self._gaps is None:
            return 0, 0
        with np.errstate(divide="ignore", over="ignore"):
            again = np.floor(np.log(1.0 - self._rng.random(len(self._gaps))) / self._gaps)
        return self._length, float(self._length + again.sum())


def _with_replacement(
    walk: Walk, accepts: int, cap: int | None, rng: Random, start: tuple[int, float] = (0, 0)
) -> Generator[tuple[int, int], None, tuple[int, float]]:
    """(accepted, refused) draws of one replay. Fewer are accepted than asked for where `cap` refusals came first,
    where what is left is less than :data:`LEAST`, and without a cap where `walk.most` different tokens were drawn.

    start: how many places are behind it, all of them refused, and refused draws up to there.
    """
    a, (place, n) = 0, start
    refusals = place
    seen = 0.0  # mass of the allowed tokens drawn so far; they stay in the pool
    while a < accepts:
        if cap is None and place == walk.most:
            return a, n
        if place >= len(walk.ok) and not walk.ends_before(place):
            yield 0, place + 1
        fresh = 0.0 if walk.ends_before(place) else walk.tails()[place]
        open_ = seen + fresh  # all that is not a refused token drawn before
        if open_ < LEAST:
            return a, n
        if refusals:  # how often refused tokens come again before anything else does; a count, for 1 - open_ may round
            chance = rng.random() or 5e-324
            again = math.log(chance) / math.log1p(-open_) if open_ < 1.0 else 0.0
            n += math.floor(again) if again < math.inf else again
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
