"""Molecules as SMILES, checked atom by atom (OpenSMILES specification 1.0)."""

from __future__ import annotations

from typing import Final, NamedTuple

import regex

from decodekit.core.bound import BindContext
from decodekit.registry.declaration import plugin

from ..automata.byte_machine import States
from ..core.bound import Bound
from ..core.compile_cache import bound
from ..core.cursor import Compiled
from ..core.vocabulary import Vocabulary

VALENCE: Final = {
    "B": 3,
    "C": 4,
    "N": 5,
    "O": 2,
    "P": 5,
    "S": 6,
    "F": 1,
    "Cl": 1,
    "Br": 1,
    "I": 1,
    "b": 3,
    "c": 4,
    "n": 3,
    "o": 2,
    "p": 3,
    "s": 2,
}
"""Most bonds, by order, of an atom without brackets; lower case is aromatic. One in brackets says itself what it is."""
ORDER: Final = {"": 1, "-": 1, "=": 2, "#": 3, "$": 4, ":": 1, "/": 1, "\\": 1}
ANY: Final = 8
_ELEMENTS: Final = (
    "H|He|Li|Be|B|C|N|O|F|Ne|Na|Mg|Al|Si|P|S|Cl|Ar|K|Ca|Sc|Ti|V|Cr|Mn|Fe|Co|Ni|Cu|Zn|Ga|Ge|As|Se|Br|Kr|Rb|Sr|Y|"
    "Zr|Nb|Mo|Tc|Ru|Rh|Pd|Ag|Cd|In|Sn|Sb|Te|I|Xe|Cs|Ba|La|Ce|Pr|Nd|Pm|Sm|Eu|Gd|Tb|Dy|Ho|Er|Tm|Yb|Lu|Hf|Ta|W|Re|"
    "Os|Ir|Pt|Au|Hg|Tl|Pb|Bi|Po|At|Rn|Fr|Ra|Ac|Th|Pa|U|Np|Pu|Am|Cm|Bk|Cf|Es|Fm|Md|No|Lr|Rf|Db|Sg|Bh|Hs|Mt|Ds|"
    "Rg|Cn|Nh|Fl|Mc|Lv|Ts|Og|b|c|n|o|p|s|se|as"
)
"""Symbols, as alternatives."""
_INSIDE: Final = regex.compile(
    r"(?:[1-9]\d{0,2})?(?P<symbol>" + "|".join(sorted(_ELEMENTS.split("|"), key=len, reverse=True)) + r")"
    r"(?:@@?)?(?:H\d?)?(?:\+\+?|--?|[+-][1-9])?(?::\d{1,3})?"
)
"""What may stand between the brackets of an atom."""


class Atom(NamedTuple):
    """limit: most bonds, by order. used: of them. aromatic: written in lower case. near: indices of its neighbours."""

    limit: int
    used: int
    aromatic: bool
    near: tuple[int, ...]


class Molecule(NamedTuple):
    """What was read. here: index of the atom that the next bond starts at, -1 for none. branches: atoms to return to.
    rings: (number, atom, bond) of those that are open. bond: written and not yet used. part: an unfinished symbol.
    """

    atoms: tuple[Atom, ...] = ()
    here: int = -1
    branches: tuple[int, ...] = ()
    rings: tuple[tuple[int, int, str], ...] = ()
    bond: str = ""
    part: str = ""
    fresh: bool = False


@plugin(role="constraint", exactness="exact", provides=("mask", "admits"))
class Smiles:
    """A SMILES text: atoms, bonds, branches and ring closures as OpenSMILES has them, and no atom with too many bonds.

    Valences of atoms without brackets: B 3, C 4, N 5, O 2, P 5, S 6, halogens 1; aromatic c 4, b, n and p 3, o and s 2.
    An aromatic atom has at least two neighbours; whether its rings can be written with alternating double bonds is not
    checked. Atoms in brackets may have any number of bonds. Ring closures join different atoms that are not neighbours
    already. A text is whole when all branches, rings and brackets are closed; a dot begins another component.
    """

    def compile(self, vocabulary: Vocabulary) -> Compiled:
        """For one vocabulary."""
        return States(Reader(), vocabulary)

    def bind(self, run: BindContext) -> Bound:
        """Compiled for the run's model, following its rows."""
        return bound(self, run)

    def judge(self, text: str) -> bool:
        """Whether `text` is a whole SMILES text in this sense."""
        reader = Reader()
        state: Molecule | None = reader.first()
        for byte in text.encode():
            state = state and reader.step(state, byte)
        return state is not None and reader.final(state)

    def value(self, text: str) -> str | None:
        """The text itself, or None while it is not complete."""
        return text if self.judge(text) else None


class Reader:
    """The machine (:class:`decodekit.constraints.automata.byte_machine.Machine`)."""

    def first(self) -> Molecule:
        """Nothing read."""
        return Molecule()

    def final(self, state: Molecule) -> bool:
        """Whether the molecule is whole."""
        plain = not (state.branches or state.rings or state.bond or state.part[:1] in ("[", "%"))
        return plain and state.here >= 0 and _settled(state, state.here)

    def said(self, state: Molecule) -> str:
        """What stands open."""
        waiting = [f"ring {number}" for number, *_ in state.rings] + ["a branch"] * len(state.branches)
        return "expected SMILES" + (f"; open: {', '.join(waiting)}" if waiting else "")

    def step(self, state: Molecule, byte: int) -> Molecule | None:
        """One character more."""
        letter = chr(byte)
        if byte >= 128:
            return None
        if state.part[:1] == "[":
            return _bracket(state, letter)
        if state.part[:1] == "%":
            return _percent(state, letter)
        if state.part + letter in ("Cl", "Br"):
            return _renamed(state)
        state = state._replace(part="")
        if letter in VALENCE:
            added = _add(state, VALENCE[letter], letter.islower())
            return added and added._replace(part=letter)
        if letter == "[":
            return None if _blocked(state) else state._replace(part="[")
        if letter in "-=#$:/\\":
            fits = state.here >= 0 and not state.bond and _affords(state, state.here, ORDER[letter])
            return state._replace(bond=letter) if fits else None
        if letter.isdigit():
            return _ring(state, int(letter))
        if letter == "%":
            possible = any(_ring(state, number) for number in range(100))
            return state._replace(part="%") if possible else None
        return _structure(state, letter)


def _structure(state: Molecule, letter: str) -> Molecule | None:
    """Branches and dots."""
    if state.here < 0 or state.bond or state.fresh:
        return None
    if letter == "(":
        room = _affords(state, state.here, 1)
        return state._replace(branches=(*state.branches, state.here), fresh=True) if room else None
    if not _settled(state, state.here):
        return None
    if letter == ")" and state.branches:
        return state._replace(here=state.branches[-1], branches=state.branches[:-1])
    if letter == "." and not state.branches:
        return state._replace(here=-1)
    return None


def _free(state: Molecule, atom: int) -> int:
    return state.atoms[atom].limit - state.atoms[atom].used


def _affords(state: Molecule, atom: int, order: int, gain: int = 1) -> bool:
    """Whether a bond of `order` can go to an atom, which gains `gain` neighbours: an aromatic one must still be able to
    get as many as it needs.
    """
    one, left = state.atoms[atom], _free(state, atom) - order
    waiting = sum(where == atom for _, where, _ in state.rings)
    return left >= 0 and (not one.aromatic or len(one.near) + waiting + gain + left >= 2)


def _settled(state: Molecule, atom: int, more: int = 0) -> bool:
    """Whether an atom may be left as it is, with `more` neighbours than it has."""
    one = state.atoms[atom]
    waiting = sum(where == atom for _, where, _ in state.rings)
    return not one.aromatic or len(one.near) + waiting + more >= 2


def _blocked(state: Molecule) -> bool:
    """Whether no atom can follow: the one before has no bond left, or would be left too early."""
    if state.here < 0:
        return False
    if not _affords(state, state.here, ORDER[state.bond]):
        return True
    return state.here not in state.branches and not _settled(state, state.here, 1)


def _add(state: Molecule, limit: int, aromatic: bool) -> Molecule | None:
    """Another atom, bonded to the one before."""
    new = len(state.atoms)
    if state.here < 0:
        return state._replace(atoms=(*state.atoms, Atom(limit, 0, aromatic, ())), here=new)
    order = ORDER[state.bond]
    if _blocked(state) or order > limit - aromatic:
        return None
    atoms = [*state.atoms, Atom(limit, order, aromatic, (state.here,))]
    old = atoms[state.here]
    atoms[state.here] = old._replace(used=old.used + order, near=(*old.near, new))
    return state._replace(atoms=tuple(atoms), here=new, bond="", fresh=False)


def _renamed(state: Molecule) -> Molecule | None:
    """The C or B just read is Cl or Br."""
    last = state.atoms[-1]
    if last.used > 1:
        return None
    return state._replace(atoms=(*state.atoms[:-1], last._replace(limit=1)), part="")


def _bracket(state: Molecule, letter: str) -> Molecule | None:
    inside = state.part[1:]
    if letter == "]":
        found = _INSIDE.fullmatch(inside)
        return found and _add(state._replace(part=""), ANY, found["symbol"].islower())
    part = inside + letter
    return state._replace(part="[" + part) if _INSIDE.fullmatch(part, partial=True) else None


def _percent(state: Molecule, letter: str) -> Molecule | None:
    if not letter.isdigit():
        return None
    digits = state.part[1:] + letter
    if len(digits) == 2:
        return _ring(state._replace(part=""), int(digits))
    possible = any(_ring(state._replace(part=""), 10 * int(digits) + other) for other in range(10))
    return state._replace(part="%" + digits) if possible else None


def _ring(state: Molecule, number: int) -> Molecule | None:
    """Open ring `number`, or close it."""
    here, bond = state.here, state.bond
    if here < 0 or state.fresh:
        return None
    found = next((ring for ring in state.rings if ring[0] == number), None)
    atoms = list(state.atoms)
    if found is None:
        if not _affords(state, here, ORDER[bond]):
            return None
        atoms[here] = atoms[here]._replace(used=atoms[here].used + ORDER[bond])  # kept free for the closure
        return state._replace(atoms=tuple(atoms), rings=(*state.rings, (number, here, bond)), bond="")
    _, other, given = found
    told = bond or given
    differs = bond and given and ORDER[bond] != ORDER[given]
    if other == here or here in atoms[other].near or differs or not _affords(state, here, ORDER[told]):
        return None
    extra = ORDER[told] - ORDER[given]  # the opening had kept a single bond only
    if not _affords(state, other, extra, 0):
        return None
    atoms[other] = atoms[other]._replace(used=atoms[other].used + extra, near=(*atoms[other].near, here))
    atoms[here] = atoms[here]._replace(used=atoms[here].used + ORDER[told], near=(*atoms[here].near, other))
    rings = tuple(ring for ring in state.rings if ring[0] != number)
    return state._replace(atoms=tuple(atoms), rings=rings, bond="")
