"""Read a CSV file record by record, whatever state it is in: plain or gzip, whole or damaged."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from tenfold import Struct

__all__ = ["Damage", "Record", "open_bytes", "read_records"]

LONGEST_LINE_BYTES = 256 * 1024
LONGEST_RECORD_LINES = 50
_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK_BYTES = 64 * 1024


class Record(Struct):
    """One record of the file.

    `line` is the number of the physical line on which it begins, the first
    being 1. `fields` is None where the text is not CSV; `text` is the line as
    it stands, without its end, and shortened where it is longer than a line
    may be.
    """

    line: int
    text: str
    fields: list[str] | None


class Damage(Struct):
    """The file cannot be read any further; everything before `line` was handed over.

    It stands last. `detail` says what the decompressor found.
    """

    line: int
    detail: str


class _Line(Struct):
    """A physical line; `whole` is False where it was too long, or where the file broke off."""

    number: int
    text: str
    whole: bool


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading, through gzip where its first two bytes say that it is one."""
    plain = path.open("rb")
    if plain.peek(2)[:2] != _GZIP_MAGIC:
        return plain
    unzipped = gzip.GzipFile(fileobj=plain, mode="rb")
    # So that closing the one closes the other.
    unzipped.myfileobj = plain  # type: ignore[assignment]
    return cast("IO[bytes]", unzipped)


def read_records(stream: IO[bytes]) -> Iterator[Record | Damage]:
    """Read all records, in order; a bad line is a record too, and reading goes on after it.

    Bytes that are not UTF-8 become U+FFFD. Blank lines are no records. A
    quoted field may span lines; where its closing quote is not found within
    50 lines, only the line that opened it is given up, so that one stray quote
    does not swallow what follows.
    """
    lines = _Lookahead(_physical_lines(stream))
    while (line := lines.take()) is not None:
        if isinstance(line, Damage):
            yield line
            return
        if not line.whole:
            yield Record(line=line.number, text=line.text, fields=None)
        elif '"' not in line.text:
            if line.text.strip():
                yield Record(line=line.number, text=line.text, fields=line.text.split(","))
        else:
            yield _quoted(line, lines)


def _quoted(first: _Line, lines: _Lookahead) -> Record:
    text = first.text
    for further in range(LONGEST_RECORD_LINES):
        try:
            fields = next(csv.reader([text], strict=True))
        except csv.Error as error:
            following = lines.peek(further)
            if "unexpected end of data" not in str(error) or following is None:
                break
            if isinstance(following, Damage) or not following.whole:
                break
            text = f"{text}\n{following.text}"
            continue
        lines.skip(further)
        return Record(line=first.number, text=text, fields=fields)
    return Record(line=first.number, text=first.text, fields=None)


class _Lookahead:
    """Lines, of which the next ones can be looked at before they are taken."""

    def __init__(self, lines: Iterator[_Line | Damage]) -> None:
        self._lines = lines
        self._ahead: list[_Line | Damage] = []

    def take(self) -> _Line | Damage | None:
        return self._ahead.pop(0) if self._ahead else next(self._lines, None)

    def peek(self, index: int) -> _Line | Damage | None:
        while len(self._ahead) <= index:
            line = next(self._lines, None)
            if line is None:
                return None
            self._ahead.append(line)
        return self._ahead[index]

    def skip(self, count: int) -> None:
        del self._ahead[:count]


def _physical_lines(stream: IO[bytes]) -> Iterator[_Line | Damage]:
    """Split into lines as bytes: a newline's byte never occurs inside a UTF-8 character."""
    number, pending, overlong = 1, b"", False
    while True:
        try:
            # read1 hands over what was decompressed before an error; read would lose it.
            chunk = cast("gzip.GzipFile", stream).read1(_CHUNK_BYTES)
        except (EOFError, OSError, zlib.error) as error:
            if pending:
                # The rest of this line is lost: what stands there may be half a number.
                yield _Line(number=number, text=_decode(pending, number), whole=False)
                number += 1
            yield Damage(line=number, detail=str(error))
            return
        if not chunk:
            break
        *complete, pending = (pending + chunk).split(b"\n")
        for raw in complete:
            fits = not overlong and len(raw) <= LONGEST_LINE_BYTES
            yield _Line(number=number, text=_decode(raw, number), whole=fits)
            number, overlong = number + 1, False
        if len(pending) > LONGEST_LINE_BYTES:
            # Keep its beginning to show, and forget the rest until it ends.
            pending, overlong = pending[:LONGEST_LINE_BYTES], True
    if pending:
        yield _Line(number=number, text=_decode(pending, number), whole=not overlong)


def _decode(raw: bytes, number: int) -> str:
    raw = raw[:LONGEST_LINE_BYTES]
    return raw.decode("utf-8-sig" if number == 1 else "utf-8", "replace").removesuffix("\r")
