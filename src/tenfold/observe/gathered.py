"""Prometheus texts of several processes as one, in which each series says whose it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

__all__ = ["Family", "merge_texts"]

_HEADS = ("# HELP ", "# TYPE ")


class Family:
    """One metric and its samples, for a process that does without prometheus_client.

    Args:
        name: as it stands in the text.
        kind: `gauge` or `counter`.
    """

    def __init__(self, name: str, kind: str, help_text: str) -> None:
        self._lines = [f"# HELP {name} {help_text}\n# TYPE {name} {kind}\n"]
        self._name = name

    def add(self, labels: Mapping[str, str], value: float) -> None:
        """Add a sample."""
        self._lines.append(f"{self._name}{{{_inside(labels)}}} {float(value)}\n")

    def text(self) -> str:
        """All of it."""
        return "".join(self._lines)


def merge_texts(texts: Iterable[tuple[Mapping[str, str], str]]) -> str:
    """One text with every series of all of them.

    A metric may stand in a text only once, so that the samples of one name are
    brought together; its help is that of the first.

    Args:
        texts: in version 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/),
            each with the labels that its samples get.
    """
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for labels, text in texts:
        inside, family = _inside(labels), ""
        seen_before = set(heads)
        for line in text.split("\n"):
            if line.startswith(_HEADS):
                family = line.split(" ", 3)[2]
                if family not in seen_before:
                    heads.setdefault(family, []).append(line)
                    samples.setdefault(family, [])
            elif line and not line.startswith("#"):
                samples[family].append(_labelled(line, inside))
    lines = (line for name, head in heads.items() for line in (*head, *samples[name]))
    return "".join(f"{line}\n" for line in lines)


def _labelled(line: str, inside: str) -> str:
    """A sample with more labels. Its name ends at the first brace or blank."""
    name, brace, rest = line.partition("{")
    if not brace:
        name, _, value = line.partition(" ")
        return f"{name}{{{inside}}} {value}"
    return f"{name}{{{inside},{rest}"


def _inside(labels: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
