"""A topology as a Mermaid flowchart, which Markdown pages on many sites draw."""

from __future__ import annotations

from collections.abc import Iterator

from tenfold.runtimes.pictures.plan import Group, Picture

__all__ = ["render_mermaid"]


def render_mermaid(picture: Picture) -> str:
    """A flowchart: calls are solid arrows, events dotted ones (https://mermaid.js.org)."""
    return "\n".join(["flowchart LR", *(f"  {line}" for line in _lines(picture))]) + "\n"


def _lines(picture: Picture) -> Iterator[str]:
    yield f"http([{_quoted(f'HTTP on {picture.listens}')}])"
    front = "http"
    if picture.gateways:
        front = "gateways"
        yield f"gateways[{_quoted(picture.gateways)}]"
        yield "http --> gateways"
    for number, group in enumerate(picture.groups):
        yield f"subgraph g{number} [{_quoted(_title(group))}]"
        for module in group.modules:
            yield f"  m_{module}[{_quoted(module)}]"
        yield "end"
        yield f"{front} --> g{number}"
    for line in picture.calls:
        yield f"m_{line.caller} --> m_{line.callee}"
    for publisher, subscriber, events in _between(picture):
        yield f"m_{publisher} -. {_quoted(', '.join(events))} .-> m_{subscriber}"
    for resource in picture.resources:
        yield f"r_{resource.name}[({_quoted(f'{resource.name}: {resource.what}')})]"
    for number in range(len(picture.groups)):
        yield f"g{number} ~~~ r_{picture.resources[0].name}"


def _title(group: Group) -> str:
    return f"{group.name}: {group.processes}" if group.name else group.processes


def _between(picture: Picture) -> Iterator[tuple[str, str, list[str]]]:
    """The events between each two modules."""
    found: dict[tuple[str, str], list[str]] = {}
    for (publisher, event), subscribers in picture.heard().items():
        for subscriber in subscribers:
            found.setdefault((publisher, subscriber), []).append(event)
    for (publisher, subscriber), events in found.items():
        yield publisher, subscriber, events


def _quoted(text: str) -> str:
    return '"' + text.replace('"', "#quot;") + '"'
