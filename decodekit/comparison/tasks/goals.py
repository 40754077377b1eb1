"""Goal inference: a planning goal in PDDL from its description (after Planetarium, with a validator of our own).

Two domains. *blocksworld*: blocks stand on the table or on one another. *gripper*: balls lie in rooms, a robot has two
grippers. Two goals are equal if the same facts follow from them: where every object has a place, what is clear and what
is free is determined, and need not be said.
"""

from __future__ import annotations

import random
import re
from typing import Annotated, Final

from pydantic import Field

from decodekit.comparison.task import Item, constraint
from decodekit.registry.declaration import plugin

Fact = tuple[str, ...]
BLOCKS: Final = "abcd"
BALLS, ROOMS, HANDS = ("ball1", "ball2", "ball3"), ("hall", "kitchen"), ("left", "right")


@plugin(role="task", paper="arXiv 2407.03321 (Planetarium); arXiv 2504.05410, goal inference")
class Goals:
    """The goal of a described scene in PDDL; score: 1 where it is equivalent to the gold goal.

    Args:
        limit: how many scenes, blocksworld and gripper in turn.
        seed: of the scenes.
        most: tokens that an answer may have.
    """

    limit: Annotated[int, Field(ge=1)] = 20
    seed: int = 0
    most: Annotated[int, Field(ge=1)] = 120

    def items(self) -> list[Item]:
        """Generated scenes, each with its domain's grammar and, as a check that no grammar can express, consistency."""
        rng = random.Random(self.seed)
        limits = {domain: limit_of(domain) for domain in ("blocksworld", "gripper")}
        found = []
        for number in range(self.limit):
            domain = ("blocksworld", "gripper")[number % 2]
            facts = _tower(rng) if domain == "blocksworld" else _layout(rng)
            prompt = f"{_told(facts)}\nThe goal in PDDL ({domain}):\n"
            found.append(Item(f"{number}", prompt, limits[domain], (domain, facts), self.most, domain))
        return found

    def score(self, item: Item, text: str) -> float:
        """Equivalence by closure; a goal that contradicts itself is wrong."""
        domain, gold = item.gold
        facts = read(text)
        return float(facts is not None and consistent(facts) and closed(domain, facts) == closed(domain, gold))


def limit_of(domain: str) -> tuple[object, ...]:
    """The constraint of a domain: its PDDL grammar, and consistency of all facts read so far."""
    if domain == "blocksworld":
        block = f"[{BLOCKS}]"
        facts = rf"on {block} {block}|on-table {block}|clear {block}|arm-empty"
    else:
        balls, rooms, hands = ("|".join(words) for words in (BALLS, ROOMS, HANDS))
        facts = rf"at ({balls}) ({rooms})|carry ({balls}) ({hands})|free ({hands})|at-robby ({rooms})"
    grammar = constraint("regex", rf"\(:goal \(and( \(({facts})\)){{1,10}}\)\)")
    return (grammar, constraint("predicate", may_hold))


def read(text: str) -> frozenset[Fact] | None:
    """The facts of `(:goal (and (...) ...))`, or None if it is not one."""
    whole = re.fullmatch(r"\(:goal \(and((?: \([^()]+\))+)\)\)", text.strip())
    return frozenset(_facts(whole[1])) if whole else None


def may_hold(text: str) -> bool:
    """Whether the facts that `text` has finished can all hold at once; false as soon as one is said twice."""
    facts = _facts(text)
    return len(set(facts)) == len(facts) and consistent(frozenset(facts))


def _facts(text: str) -> list[Fact]:
    return [tuple(found.split()) for found in re.findall(r"\(([^():]+)\)", text)]


def consistent(facts: frozenset[Fact]) -> bool:
    """Whether some state satisfies all of `facts`: one place for each object, no tower in a circle, one ball a hand."""
    under: dict[str, str] = {}  # what each block stands on, or where each ball is
    hands: dict[str, str] = {}
    robot = [fact[1] for fact in facts if fact[0] == "at-robby"]
    for fact in facts:
        if fact[0] in ("on", "on-table", "at", "carry"):
            place = "table" if fact[0] == "on-table" else fact[2]
            if under.setdefault(fact[1], place) != place or place == fact[1]:
                return False
        if fact[0] == "on" and (
            ("clear", fact[2]) in facts or sum(f[0] == "on" and f[2] == fact[2] for f in facts) > 1
        ):
            return False
        if fact[0] == "carry" and (("free", fact[2]) in facts or hands.setdefault(fact[2], fact[1]) != fact[1]):
            return False
    return len(robot) < 2 and not any(_circular(block, under) for block in under)


def _circular(block: str, under: dict[str, str]) -> bool:
    seen = set[str]()
    while block in under and block not in seen:
        seen.add(block)
        block = under[block]
    return block in seen


def closed(domain: str, facts: frozenset[Fact]) -> frozenset[Fact]:
    """`facts` with all that follows from them."""
    placed = {fact[1] for fact in facts if fact[0] in ("on", "on-table", "at", "carry")}
    more = set(facts)
    if domain == "blocksworld" and placed == {*BLOCKS}:
        covered = {fact[2] for fact in facts if fact[0] == "on"}
        more |= {("clear", block) for block in BLOCKS if block not in covered} | {("arm-empty",)}
    if domain == "gripper" and placed == {*BALLS}:
        busy = {fact[2] for fact in facts if fact[0] == "carry"}
        more |= {("free", hand) for hand in HANDS if hand not in busy}
    return frozenset(more)


def _tower(rng: random.Random) -> frozenset[Fact]:
    order = rng.sample(BLOCKS, len(BLOCKS))
    facts: set[Fact] = set()
    for below, block in zip([None, *order], order, strict=False):
        on = below is not None and rng.random() < 0.6
        facts.add(("on", block, str(below)) if on else ("on-table", block))
    return frozenset(facts)


def _layout(rng: random.Random) -> frozenset[Fact]:
    hands = list(HANDS)
    facts: set[Fact] = {("at-robby", rng.choice(ROOMS))}
    for ball in BALLS:
        held = bool(hands) and rng.random() < 0.25
        facts.add(("carry", ball, hands.pop(0)) if held else ("at", ball, rng.choice(ROOMS)))
    return frozenset(facts)


def _told(facts: frozenset[Fact]) -> str:
    said = {
        "on": "block {} is on block {}",
        "on-table": "block {} is on the table",
        "at": "{} is in the {}",
        "carry": "{} is held by the {} gripper",
        "at-robby": "the robot is in the {}",
    }
    sentences = [said[fact[0]].format(*fact[1:]) for fact in sorted(facts)]
    text = ", ".join(sentences)
    return text[0].upper() + text[1:] + "."
