"""A topology as an SVG image: modules one below another, calls at their left, events right.

Each module that is called, and each event, has a line of its own that runs up and down
beside the modules, in a lane that nobody beside it needs; whoever calls or hears joins it.
So no line runs through a box, and the picture needs no solver. (The layouts of layered
graphs in pure Python are not kept up, and Graphviz is a program that would have to be there.)
"""

from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import escape

from tenfold.runtimes.pictures.plan import Group, Picture

__all__ = ["render_svg"]

_PORT, _LANE, _ROW, _TITLE, _PAD = 18, 14, 30, 24, 16
_BOX_WIDTH, _GAP = 170, 4
_LETTER = 6.6
"""How wide a letter is, about, in the font of the labels."""
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1c2733 }
text.quiet { fill: #52606d }
text.strong { font-weight: 600 }
text.event { font-size: 11px; fill: #8a3f14 }
rect { fill: #ffffff; stroke: #9aa5b1 }
rect.paper { stroke: none }
rect.group { fill: #f5f7fa }
rect.all { fill: none; stroke-dasharray: 5 4 }
path { fill: none; stroke-width: 1.4 }
path.call { stroke: #2b5fb3 }
path.event { stroke: #b0531f; stroke-dasharray: 4 2 }
path.way { stroke: #52606d }
path.tip, circle { stroke: none }
.tip.call, circle.call { fill: #2b5fb3 }
.tip.event, circle.event { fill: #b0531f }
.tip.way { fill: #52606d }
""".strip()


def render_svg(picture: Picture) -> str:
    """A topology as one SVG document."""
    return _Drawing(picture).text()


class _Box:
    """A module's box, and the places at its sides that lines have taken."""

    def __init__(self) -> None:
        self.top = 0.0
        self.ports = {"call": 0, "event": 0}
        self._taken = {"call": 0, "event": 0}

    @property
    def height(self) -> float:
        return max(_ROW, _PORT * max(self.ports.values()) + 8)

    def take(self, kind: str) -> float:
        """The height of the next free place at one side, in the middle of its box if alone."""
        number, self._taken[kind] = self._taken[kind], self._taken[kind] + 1
        spare = self.height - _PORT * self.ports[kind]
        return self.top + spare / 2 + _PORT * (number + 0.5)


class _Line:
    """One line beside the modules: where it comes from, and who joins it."""

    def __init__(self, kind: str, name: str, ends: Iterable[tuple[float, bool]]) -> None:
        self.kind = kind
        self.name = name
        self.ends = list(ends)
        """The height of each end, and whether it has a tip."""
        heights = [height for height, _ in self.ends]
        self.top, self.bottom = min(heights), max(heights)
        self.lane = 0

    def is_beside(self, other: _Line) -> bool:
        """Whether the two would touch in one lane."""
        return self.top < other.bottom + _GAP and other.top < self.bottom + _GAP


class _Drawing:
    def __init__(self, picture: Picture) -> None:
        self._picture = picture
        self._drawn: list[str] = []
        self._boxes = {module: _Box() for group in picture.groups for module in group.modules}
        self._calls = {
            callee: [line.caller for line in picture.calls if line.callee == callee]
            for callee in dict.fromkeys(line.callee for line in picture.calls)
        }
        self._events = picture.heard()
        for callee, callers in self._calls.items():
            for module in (callee, *callers):
                self._boxes[module].ports["call"] += 1
        for (publisher, _), subscribers in self._events.items():
            for module in (publisher, *subscribers):
                self._boxes[module].ports["event"] += 1
        self._top = 20.0 + _PAD + (_ROW + _PAD) * (2 if picture.gateways else 1)
        bottom = self._top + _PAD
        for group in picture.groups:
            bottom += _TITLE
            for module in group.modules:
                self._boxes[module].top = bottom
                bottom += self._boxes[module].height + _PAD / 2
            bottom += _PAD * 1.5
        self._bottom = bottom
        calls, events = self._lines()
        self._all_lines = calls + events
        self._left = 2.0 * _PAD + _LANE * _lanes(calls)
        titles = max(len(group.name + group.processes) + 5 for group in picture.groups)
        self._frame = max(_BOX_WIDTH + 2 * _PAD, titles * _LETTER)
        names = max((len(line.name) for line in events), default=-2) * _LETTER + 12
        self._lanes_at = self._left + self._frame + names
        resources = max(len(each.name + each.what) + 4 for each in picture.resources) * _LETTER
        self._width = max(
            self._lanes_at + _LANE * _lanes(events) + 2 * _PAD, resources + 4 * _PAD, 420
        )

    def text(self) -> str:
        picture = self._picture
        name = f"{picture.product} · topology {picture.topology}"
        self._text(_PAD, _PAD + 8, name, "strong")
        self._rect(_PAD, self._top, self._width - 2 * _PAD, self._bottom - self._top, "all")
        self._front()
        for group in picture.groups:
            self._group(group)
        for line in self._all_lines:
            self._line(line)
        height = self._foot()
        size = f'width="{self._width:.0f}" height="{height:.0f}"'
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
                f"<title>{escape(name)}</title>",
                f"<style>{_STYLE}</style>",
                f'<rect class="paper" {size}/>',
                *self._drawn,
                "</svg>\n",
            ]
        )

    def _lines(self) -> tuple[list[_Line], list[_Line]]:
        """The lines at both sides, each in the innermost lane that is free where it runs."""
        calls = [
            _Line("call", callee, self._ends("call", callee, callers, tip_first=True))
            for callee, callers in self._calls.items()
        ]
        events = [
            _Line("event", event, self._ends("event", publisher, subscribers, tip_first=False))
            for (publisher, event), subscribers in self._events.items()
        ]
        for lines in (calls, events):
            placed: list[_Line] = []
            for line in sorted(lines, key=lambda line: line.bottom - line.top):
                beside = {other.lane for other in placed if other.is_beside(line)}
                line.lane = next(n for n in range(len(lines)) if n not in beside)
                placed.append(line)
        return calls, events

    def _ends(
        self, kind: str, first: str, others: Iterable[str], *, tip_first: bool
    ) -> list[tuple[float, bool]]:
        own = (self._boxes[first].take(kind), tip_first)
        return [own, *((self._boxes[other].take(kind), not tip_first) for other in others)]

    def _front(self) -> None:
        """Where requests come in: an address, and the gateways before the services."""
        y = _PAD + 20.0
        middle = self._left + self._frame / 2
        said = [f"HTTP on {self._picture.listens}"]
        if self._picture.gateways:
            said.append(self._picture.gateways)
        for text in said:
            width = len(text) * _LETTER + 2 * _PAD
            at = max(middle - width / 2, _PAD)
            self._rect(at, y, width, _ROW, "box")
            self._text(at + _PAD, y + 19, text)
            self._arrow(middle, y + _ROW, y + _ROW + _PAD)
            y += _ROW + _PAD

    def _group(self, group: Group) -> None:
        first, last = self._boxes[group.modules[0]], self._boxes[group.modules[-1]]
        top = first.top - _TITLE
        self._rect(self._left, top, self._frame, last.top + last.height + _PAD - top, "group")
        bold = f'<tspan font-weight="600">{escape(group.name)}</tspan> · ' if group.name else ""
        self._drawn.append(
            f'<text x="{self._left + _PAD:.1f}" y="{top + 16:.1f}" class="quiet">'
            f"{bold}{escape(group.processes)}</text>"
        )
        for module in group.modules:
            box = self._boxes[module]
            self._rect(self._left + _PAD, box.top, self._frame - 2 * _PAD, box.height, "box")
            self._text(self._left + 2 * _PAD, box.top + box.height / 2 + 4, module, "strong")

    def _line(self, line: _Line) -> None:
        if line.kind == "call":
            edge, away = self._left + _PAD, -1
            lane = self._left - _PAD / 2 - _LANE * line.lane
        else:
            edge, away = self._left + self._frame - _PAD, 1
            lane = self._lanes_at + _LANE * line.lane
            for height, _ in line.ends:
                self._text(self._left + self._frame + 5, height - 3, line.name, "event")
        path = [f"M{lane:.1f} {line.top:.1f}V{line.bottom:.1f}"]
        for height, tip in line.ends:
            path.append(f"M{edge + (6 * away if tip else 0):.1f} {height:.1f}H{lane:.1f}")
            if line.top < height < line.bottom:
                self._drawn.append(
                    f'<circle class="{line.kind}" cx="{lane:.1f}" cy="{height:.1f}" r="2.4"/>'
                )
            if tip:
                self._drawn.append(
                    f'<path class="tip {line.kind}" d="M{edge:.1f} {height:.1f}l{7 * away} -4v8z"/>'
                )
        self._drawn.append(f'<path class="{line.kind}" d="{"".join(path)}"/>')

    def _foot(self) -> float:
        """What the modules run on, and what the lines mean; how high the image is."""
        y = self._bottom
        self._arrow(self._left + self._frame / 2, y, y + _PAD)
        y += _PAD
        for resource in self._picture.resources:
            self._rect(_PAD, y, self._width - 2 * _PAD, _ROW, "box")
            self._drawn.append(
                f'<text x="{2 * _PAD}" y="{y + 19:.1f}"><tspan font-weight="600">'
                f"{escape(resource.name)}</tspan>  {escape(resource.what)}</text>"
            )
            y += _ROW + _PAD / 2
        y += _PAD
        for kind, text, x in (("call", "calls", _PAD), ("event", "events", _PAD + 110)):
            self._drawn.append(f'<path class="{kind}" d="M{x} {y - 4:.1f}h30"/>')
            self._text(x + 38, y, text, "quiet")
        return y + _PAD

    def _rect(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        self._drawn.append(
            f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
            f'height="{height:.1f}" rx="6"/>'
        )

    def _text(self, x: float, y: float, text: str, kind: str = "") -> None:
        css = f' class="{kind}"' if kind else ""
        self._drawn.append(f'<text x="{x:.1f}" y="{y:.1f}"{css}>{escape(text)}</text>')

    def _arrow(self, x: float, top: float, bottom: float) -> None:
        self._drawn.append(f'<path class="way" d="M{x:.1f} {top:.1f}V{bottom - 6:.1f}"/>')
        self._drawn.append(f'<path class="tip way" d="M{x:.1f} {bottom:.1f}l-4 -7h8z"/>')


def _lanes(lines: Iterable[_Line]) -> int:
    return max((line.lane + 1 for line in lines), default=0)
