"""The inside of objects and arrays: places of the JSON machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from . import scalars
from .machine import DEPTH, Holder, JsonMachine, Opener, Place, Value
from .rules import Items, Seen
from .scalars import String
from .tracks import Track, alive, begin, came_true
from .white_space import Spot

QUOTE, COMMA = 0x22, 0x2C


class Body(NamedTuple):
    """An open object. parts: its properties in canonical form, where they are asked for."""

    holder: Holder
    tracks: tuple[Track, ...]
    seen: Seen
    parts: frozenset[Any] | None


def open_object(machine: JsonMachine, holder: Holder) -> Body | None:
    """After `{`."""
    tracks = machine.begin(holder, "object")
    if not tracks:
        return None
    order = tuple(dict.fromkeys(name for track in tracks for name in track.rules.order))
    seen = Seen(frozenset(), order, -1, machine.space.fixed)
    kept = tuple(track for track in tracks if track.rules.viable(track.state, seen))
    return Body(holder, kept, seen, frozenset() if holder.keep else None) if alive(kept, holder.main) else None


class ObjectBody(Place):
    """Between the parts of an object. start: right after `{`; key: right after a comma; else after a value."""

    __slots__ = ("body", "key", "start")
    spaced = True

    def __init__(self, machine: JsonMachine, body: Body, start: bool = False, key: bool = False) -> None:
        super().__init__(machine)
        self.body, self.start, self.key = body, start, key

    @property
    def spot(self) -> Spot:
        """The opening bracket, a comma, or a value."""
        return "open" if self.start else "comma" if self.key else "value"

    @property
    def level(self) -> int:
        """Brackets open here."""
        return self.body.holder.depth + 1

    def goes_on(self) -> bool:
        """Whether a key can follow."""
        return self._name() is not None

    def read(self, byte: int) -> Place | None:
        """A key, a comma, or the end."""
        body, machine = self.body, self.machine
        if byte == QUOTE and (self.start or self.key):
            return self._name()
        if byte == COMMA and not (self.start or self.key):
            after = ObjectBody(machine, body, key=True)
            return after if after._name() is not None else None
        if byte == 0x7D and not self.key:
            final = [track for track in body.tracks if track.rules.final(track.state, body.seen)]
            value = None if body.parts is None else ("object", body.parts)
            return body.holder.closed(came_true(final), value)
        return None

    def _name(self) -> Place | None:
        body, machine = self.body, self.machine
        arena = machine.space.arena
        formula = arena.either(
            track.rules.keys(track.state, body.seen) for track in body.tracks if track.goal in body.holder.main
        )
        tracks = begin(machine.space, [formula], "string")
        holder = Holder(frozenset({formula}), frozenset(), True, body.holder.depth, self._named)
        return String.started(machine, holder, tracks) if tracks else None

    def _named(self, true: frozenset[int], value: Any) -> Place | None:
        """After a key: what its value must satisfy, for each way to go on."""
        body, machine, key = self.body, self.machine, value[1]
        if key in body.seen.keys:
            return None
        seen, table = body.seen.after(key), list[tuple[int, Track]]()
        for track in body.tracks:
            for left, formula in track.rules.options(track.state, key):
                if machine.space.satisfiable(formula) and track.rules.viable(left, seen):
                    table.append((formula, track.at(left)))

        def close(true: frozenset[int], value: Any) -> Place | None:
            kept = tuple(dict.fromkeys(track for formula, track in table if formula in true))
            if not alive(kept, body.holder.main):
                return None
            parts = None if body.parts is None else body.parts | {(key, value)}
            return between(machine, Body(body.holder, kept, seen, parts))

        holder = held(machine, body.holder, table, body.parts is not None, close)
        return Colon(machine, holder) if holder is not None else None


def between(machine: JsonMachine, inside: Body | Row) -> Place:
    """The place after a part; bodies that hold the same are one."""
    places = inside.holder.places
    found = places.get(inside[1:])
    if found is None:
        found = ObjectBody(machine, inside) if isinstance(inside, Body) else ArrayBody(machine, inside)
        places[inside[1:]] = found
    return found


def held(machine: JsonMachine, outer: Holder, table: list[tuple[int, Track]], keep: bool, close: Any) -> Holder | None:
    """The holder of a part; None where no way to go on is left."""
    if not alive((track for _, track in table), outer.main):
        return None
    main = frozenset(formula for formula, track in table if track.goal in outer.main)
    others = frozenset(formula for formula, _ in table) - main
    return Holder(main, others, keep, outer.depth + 1, close)


class Colon(Place):
    """After a key."""

    __slots__ = ("holder",)
    spaced = True

    def __init__(self, machine: JsonMachine, holder: Holder) -> None:
        super().__init__(machine)
        self.holder = holder

    @property
    def spot(self) -> Spot:
        """The key."""
        return "key"

    @property
    def level(self) -> int:
        """Brackets open here."""
        return self.holder.depth

    def read(self, byte: int) -> Place | None:
        """The colon."""
        return Value(self.machine, self.holder, "colon") if byte == 0x3A else None


class Row(NamedTuple):
    """An open array of `size` items. parts: those in canonical form, where they are asked for. far: from so many
    items on nothing changes any more, and they are not counted.
    """

    holder: Holder
    tracks: tuple[Track, ...]
    size: int
    items: Items
    parts: tuple[Any, ...] | None
    watched: bool
    far: int


def open_array(machine: JsonMachine, holder: Holder) -> Row | None:
    """After `[`."""
    tracks = machine.begin(holder, "array")
    if not tracks:
        return None
    watched = any(track.rules.unique or track.rules.repeated for track in tracks)
    far = max(track.rules.far() for track in tracks)
    return Row(holder, tracks, 0, Items(), () if holder.keep else None, watched, far)


class ArrayBody(Place):
    """Between the items of an array."""

    __slots__ = ("row", "start")
    spaced = True

    def __init__(self, machine: JsonMachine, row: Row, start: bool = False) -> None:
        super().__init__(machine)
        self.row, self.start = row, start

    @property
    def spot(self) -> Spot:
        """The opening bracket, or a value."""
        return "open" if self.start else "value"

    @property
    def level(self) -> int:
        """Brackets open here."""
        return self.row.holder.depth + 1

    def goes_on(self) -> bool:
        """Whether an item can follow."""
        return self._item() is not None

    def read(self, byte: int) -> Place | None:
        """The first item, a comma, or the end."""
        row = self.row
        if byte == 0x5D:
            final = [track for track in row.tracks if track.rules.final(track.state, row.size, row.items)]
            return row.holder.closed(came_true(final), None if row.parts is None else ("array", row.parts))
        if self.start or byte == COMMA:
            inside = self._item()
            # white space after the bracket was read here, so the item itself does not ask for it
            return inside if inside is None or (byte == COMMA and not self.start) else inside.read(byte)
        return None

    def _item(self) -> Place | None:
        row, machine = self.row, self.machine
        space, size = machine.space, row.size + 1
        known = [value for value in row.items.values if value[0] not in ("array", "object")]
        other = space.arena.make("in", frozenset(known), False) if known else space.arena.true
        table = list[tuple[int, Track]]()
        for track in row.tracks:
            for state, formula in track.rules.options(track.state, row.size):
                formula = space.arena.both([formula, other]) if track.rules.unique else formula
                # what the item itself uses up of few different values is seen when it is closed
                if space.satisfiable(formula) and track.rules.viable(state, size, row.items):
                    table.append((formula, track.at(state)))

        def close(true: frozenset[int], value: Any) -> Place | None:
            items = Items()
            if row.watched:
                items = Items(row.items.values | {value}, row.items.twice or value in row.items.values)
            kept = tuple(
                dict.fromkeys(
                    track
                    for formula, track in table
                    if formula in true and track.rules.viable(track.state, size, items)
                    and not (track.rules.unique and items.twice)
                )
            )  # fmt: skip
            if not alive(kept, row.holder.main):
                return None
            parts = None if row.parts is None else (*row.parts, value)
            return between(machine, Row(row.holder, kept, min(size, row.far), items, parts, row.watched, row.far))

        holder = held(machine, row.holder, table, row.watched or row.parts is not None, close)
        return Value(machine, holder, "comma") if holder is not None else None


def _object(machine: JsonMachine, holder: Holder, byte: int) -> Place | None:
    body = open_object(machine, holder) if holder.depth < DEPTH else None
    return None if body is None else ObjectBody(machine, body, True)


def _array(machine: JsonMachine, holder: Holder, byte: int) -> Place | None:
    body = open_array(machine, holder) if holder.depth < DEPTH else None
    return None if body is None else ArrayBody(machine, body, True)


OPENERS: Final[Mapping[int, Opener]] = {**scalars.OPENERS, ord("{"): _object, ord("["): _array}
"""By the first byte of a value: all of JSON but its three words."""
