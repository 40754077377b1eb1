"""Results on disk: JSON lines, appended and synced unit by unit, so that nothing is lost and nothing doubled.

A unit writes a line for each of its items and one that closes it. A unit without its closing line (the process was
killed) does not count: its lines are cut off when the run goes on, and it is run again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any, Final

from decodekit.errors import OptionError

RESULTS: Final = "results.jsonl"
PART: Final = "part-{}.jsonl"
Row = dict[str, Any]


class Part:
    """The file of one worker, open for appending; a context manager. Cuts off an unfinished unit when it is opened."""

    def __init__(self, folder: Path, worker: int = 0) -> None:
        self.path = folder / PART.format(worker)
        kept = _whole(self.path)
        self._file: IO[bytes] = self.path.open("ab")
        self._file.truncate(kept)

    def __enter__(self) -> Part:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, rows: Sequence[Row], closing: Row) -> None:
        """Append the rows of a unit and the line that closes it, and sync.

        Raises:
            OptionError: the disk is full or gone. The file is cut back to the units that are whole.
        """
        before = self._file.tell()
        try:
            self._file.write(b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in (*rows, closing)))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            self._cut(before)
            raise OptionError(
                f"{str(self.path)!r} cannot be written ({error.strerror or error}); what is done is intact: "
                "make room and go on with --resume"
            ) from None

    def _cut(self, size: int) -> None:
        try:
            os.truncate(self.path, size)
        except OSError:  # the torn lines are cut off at the next opening
            return


def _whole(path: Path) -> int:
    """Bytes of a part up to the end of its last whole unit."""
    if not path.exists():
        return 0
    end = at = 0
    with path.open("rb") as file:
        for line in file:
            at += len(line)
            if line.endswith(b"\n") and line.startswith(b'{"closes"'):
                end = at
    return end


def read(folder: Path) -> tuple[list[Row], list[Row]]:
    """(rows of items, closing rows) of all whole units in all parts; a unit that two workers did counts once.

    Raises:
        OptionError: a line is damaged; its number is named.
    """
    rows: list[Row] = []
    closings: dict[str, Row] = {}
    for path in sorted(folder.glob(PART.format("*"))):
        pending: list[Row] = []
        with path.open("rb") as file:
            data = file.read(_whole(path))
        for number, line in enumerate(data.splitlines(), 1):
            try:
                row = json.loads(line)
            except ValueError:
                raise OptionError(
                    f"line {number} of {str(path)!r} is damaged; remove the line's unit, or start anew"
                ) from None
            if "closes" not in row:
                pending.append(row)
                continue
            if row["closes"] not in closings:
                closings[row["closes"]] = row
                rows += pending
            pending = []
    return rows, list(closings.values())


def merge(folder: Path, order: Iterable[str]) -> tuple[list[Row], list[Row]]:
    """All results in the order of the units, written to `results.jsonl` as well: the same file for any number of
    workers, but for the times.
    """
    rows, closings = read(folder)
    place = {key: number for number, key in enumerate(order)}
    rows.sort(key=lambda row: place.get(row["unit"], len(place)))  # stable: items of a unit keep their order
    closings.sort(key=lambda row: place.get(row["closes"], len(place)))
    fresh = folder / f"{RESULTS}.new"
    with fresh.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    fresh.replace(folder / RESULTS)
    return rows, closings
