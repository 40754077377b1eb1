"""A text while it grows: what is settled goes out, what may still change is held."""

from __future__ import annotations

from collections.abc import Iterator

from decodekit.core.cost import Cost
from decodekit.errors import CompositionError
from decodekit.run.options import Options
from decodekit.run.result_building import result
from decodekit.run.results import Piece, Prompt
from decodekit.run.session import Session, Setup
from decodekit.text.codec import held_back


def pieces(session: Session, setup: Setup, options: Options, prompt: Prompt, cost: Cost) -> Iterator[Piece]:
    """Run `session`, which has one row, and give out its text; several tokens may come in one piece.

    Held back are bytes that do not yet make a character, and characters that may begin a stop string.

    Raises:
        CompositionError: the strategy takes back what was given out (revocation on a canvas).
    """
    state = setup.codec().start(prompt.before)
    sent, tokens, held = "", 0, ""
    for what in session.rounds():
        rows = what.rows
        if bool(rows.done[0]):  # the last piece is cut from the finished text
            continue
        ids = rows.text(0)[len(prompt.before) :]
        if len(ids) < tokens:
            raise CompositionError(
                f"the strategy {setup.spec!r} takes back text that it has already settled, so it cannot be streamed; "
                "use generate"
            )
        new = ids[tokens:]
        if not new:
            continue
        held += "".join(map(state.push, new))
        ready = len(held) - held_back(held, options.stop)
        out, held = held[:ready], held[ready:]
        sent, tokens = sent + out, len(ids)
        yield Piece(out, new)
    trace = session.trace()
    made = result(setup, options, prompt, session.outcomes(), cost, trace)
    yield Piece(made.text[len(sent) :], made.tokens[tokens:], made)
