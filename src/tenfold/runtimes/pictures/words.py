"""A topology in words, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from tenfold.runtimes.pictures.plan import Picture

__all__ = ["render_words"]


def render_words(picture: Picture) -> str:
    """A topology as indented lines, in columns."""
    blocks = [
        [f"{picture.product} · topology {picture.topology}"],
        _block("answers", _answers(picture)),
        _block("hosts", _hosts(picture)),
        _block("on", [(resource.name, resource.what) for resource in picture.resources]),
        _block("calls", _calls(picture)),
        _block("events", _events(picture)),
    ]
    return "\n\n".join("\n".join(lines) for lines in blocks if lines) + "\n"


def _block(title: str, rows: list[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    aligned = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return [title, *(f"  {line}" for line in aligned)]


def _answers(picture: Picture) -> list[tuple[str, ...]]:
    return [(f"HTTP on {picture.listens}", picture.gateways)]


def _hosts(picture: Picture) -> list[tuple[str, ...]]:
    unnamed = "all" if len(picture.groups) == 1 else "web"
    return [(g.name or unnamed, g.processes, ", ".join(g.modules)) for g in picture.groups]


def _calls(picture: Picture) -> list[tuple[str, ...]]:
    return [
        (line.caller, f"→ {line.callee}", "by frames" if line.remote else "in the process")
        for line in picture.calls
    ]


def _events(picture: Picture) -> list[tuple[str, ...]]:
    return [
        (f"{publisher}.{event}", f"→ {', '.join(handlers)}")
        for (publisher, event), handlers in _heard(picture)
    ]


def _heard(picture: Picture) -> Iterator[tuple[tuple[str, str], list[str]]]:
    """Who hears of each event, in the order in which the modules publish."""
    found: dict[tuple[str, str], list[str]] = {}
    for line in sorted(picture.events, key=lambda line: (line.publisher, line.event)):
        heard = found.setdefault((line.publisher, line.event), [])
        heard.append(f"{line.subscriber}.{line.handler}")
    yield from found.items()
