"""Repeats: what the deliveries of one message did, and whether they were safe to repeat.

Whatever is delivered at least once is one day delivered twice: after a process was killed
before its commit, or after it and before it could say so. The topology `twice` makes both
happen to every message, and this decides, from what each of its deliveries did, whether
the message still had its effect once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import msgspec

from tenfold.contracts.errors import KeyReusedError, Outcome, TenfoldError
from tenfold.contracts.operations import Kind
from tenfold.contracts.refusals import Refusal
from tenfold.contracts.structs import Struct
from tenfold.path.admit import fingerprint
from tenfold.ports.peers import Outgoing, Returned

__all__ = [
    "RUN",
    "Asked",
    "Finding",
    "Findings",
    "NotRepeatableError",
    "Run",
    "ThrownAwayError",
    "decide_answers",
    "decide_repeats",
]

_SHOWN = 60
"""Characters of a value that are shown."""
_MOST_FIELDS = 3
_NOT_ITS_OWN = (OSError, TenfoldError)
"""What a handler may fail with for reasons that are not its message's."""
_log = logging.getLogger("tenfold.repeats")


class NotRepeatableError(TenfoldError):
    """What ran in the topology `twice` is committed, and some of it is not safe to repeat.

    `findings` say of each what differed, and how to mend it.
    """

    code = "repeat.not_safe"
    outcome = Outcome.DONE

    def __init__(self, message: str, *, findings: tuple[Finding, ...] = ()) -> None:
        super().__init__(message)
        self.findings = findings


class ThrownAwayError(TenfoldError):
    """A delivery ended before its commit, as if its process had been killed; another follows."""

    code = "repeat.thrown_away"


class Finding(Struct):
    """One thing that is not safe to repeat: whose, what differed, and how to mend it.

    `target` is `module.operation` or `module.handler`, and `kind` what brings it.
    """

    target: str
    kind: str
    differed: str
    mend: str
    about: str = ""
    """What tells it from another finding of the same target."""

    def __str__(self) -> str:
        return f"{self.target} ({self.kind}) is not safe to repeat: {self.differed} {self.mend}"


class Asked:
    """One command that a handler called. `done` says that it ran, and was not answered before."""

    __slots__ = ("arguments", "done", "fingerprint", "key", "target")

    def __init__(self, target: str, key: str | None, arguments: msgspec.Struct) -> None:
        self.target = target
        self.key = key
        self.arguments = arguments
        self.fingerprint = fingerprint(arguments)
        self.done = False

    def is_like(self, other: Asked) -> bool:
        """Whether they are the same call, or one under another key or with other arguments."""
        alike = self.key == other.key or self.fingerprint == other.fingerprint
        return self.target == other.target and alike

    @staticmethod
    def of(outgoing: Outgoing) -> Asked:
        """What travels of a command."""
        return Asked(_target(outgoing), outgoing.key, outgoing.arguments)


class Run:
    """One delivery of a message: what its handler called, whether it committed, how it failed.

    Args:
        cut: whether its unit of work is thrown away just before the commit.
    """

    __slots__ = ("asked", "committed", "cut", "error")

    def __init__(self, *, cut: bool = False) -> None:
        self.cut = cut
        self.asked: list[Asked] = []
        self.committed = False
        self.error: Exception | None = None

    @property
    def had_effect(self) -> bool:
        """Whether anything of it is committed, here or in a module that it called."""
        return self.committed or any(asked.done for asked in self.asked)


RUN: ContextVar[Run] = ContextVar("tenfold_run")
"""The delivery that is being handled, in its handler's context."""


def decide_repeats(
    target: str, kind: Kind, runs: Sequence[Run], *, duplicate: bool
) -> Iterator[Finding]:
    """What the deliveries of one message show of its handler.

    Args:
        runs: in order; each may have been cut short, failed, or committed.
        duplicate: whether the last one came after another had ended well.
    """
    for number in range(1, len(runs)):
        earlier = [asked for run in runs[:number] for asked in run.asked]
        yield from _decide_calls(target, kind, earlier, runs[number].asked)
    if duplicate:
        yield from _decide_duplicate(target, kind, runs[:-1], runs[-1])


def _decide_calls(
    target: str, kind: Kind, earlier: Sequence[Asked], later: Sequence[Asked]
) -> Iterator[Finding]:
    """What is wrong with the commands that a handler called when it was run again."""
    again = {(asked.target, asked.key) for asked in later}
    known = {(asked.target, asked.key) for asked in earlier}
    for asked in later:
        same_key = [e for e in earlier if (e.target, e.key) == (asked.target, asked.key)]
        if same_key and all(e.fingerprint != asked.fingerprint for e in same_key):
            yield Finding(
                target=target,
                kind=kind.value,
                about=f"arguments {asked.target}",
                differed=f"run again, it called {asked.target} under the same key with other "
                f"arguments: {_difference(same_key[0].arguments, asked.arguments)}. After a "
                "crash that call is refused (admit.key_reused), and the work is never finished.",
                mend="Make the arguments from the message, from `call_key(step)` or from what is "
                "stored: not from new_id(), now(), chance or the order of a set; and give calls "
                "that may change places keys of their own: keyed(self.other, key).",
            )
        elif (asked.target, asked.key) not in known:
            lost = [
                e
                for e in earlier
                if e.target == asked.target
                and e.fingerprint == asked.fingerprint
                and (e.target, e.key) not in again
            ]
            if lost:
                yield Finding(
                    target=target,
                    kind=kind.value,
                    about=f"key {asked.target}",
                    differed=f"run again, it called {asked.target} with the same arguments under "
                    f"another key: {_shown(lost[0].key)}, then {_shown(asked.key)}. After a crash "
                    "it is done twice.",
                    mend="Leave the key out, and it is made from the message; or make it from "
                    "what the call is about, such as an order's id.",
                )


def _decide_duplicate(
    target: str, kind: Kind, earlier: Sequence[Run], last: Run
) -> Iterator[Finding]:
    """What is wrong where a message that was handled is handled once more."""
    if last.error is not None and _is_its_own(last.error):
        yield Finding(
            target=target,
            kind=kind.value,
            about="duplicate fails",
            differed=f"delivered again after it had ended well, it failed with "
            f"{_failed(last.error)}. A message that is delivered twice becomes a dead letter.",
            mend="Let it end well where the work is done already: look at its own tables first "
            "(self.db.outside), and take a refusal that says so for success.",
        )
    # A schedule's handler does whatever is due: its duplicate is no more than a tick that came
    # early. And where nothing was done, there was nothing to repeat.
    if kind is Kind.SCHEDULE or not any(run.had_effect for run in earlier):
        return
    before = [asked for run in earlier for asked in run.asked]
    more = [
        asked.target
        for asked in last.asked
        # What was called with the same arguments was told of already, where its key was new.
        if asked.done and not any(asked.is_like(other) for other in before)
    ]
    if last.committed:
        yield Finding(
            target=target,
            kind=kind.value,
            about="duplicate commits",
            differed="delivered again after it had ended well, it committed a unit of work. The "
            "delivery before it had called others and committed none of its own, so that the "
            "inbox did not know the message.",
            mend="Let every delivery commit something of its own, such as a row that says what "
            "was done, so that the inbox notes the message with it.",
        )
    if more:
        yield Finding(
            target=target,
            kind=kind.value,
            about=f"duplicate calls {more[0]}",
            differed=f"delivered again after it had ended well, it called {', '.join(more)}, "
            "which the deliveries before had not. A message that is delivered twice has more "
            "effect than one.",
            mend="Let the message say what is to be called, not what others answer at the "
            "moment; or look at its own tables first whether it was handled (self.db.outside).",
        )


def decide_answers(
    outgoing: Outgoing, first: Returned, second: Returned | Exception
) -> Iterator[Finding]:
    """What the two answers to one command under one key show, which are to be equal."""
    target = _target(outgoing)
    if isinstance(second, Exception):
        if _is_its_own(second):
            yield _answered(target, f"it failed with {_failed(second)}")
    elif not second.replayed:
        yield _answered(target, "it was done again")
    elif not _equal(first.value, second.value):
        yield _answered(target, f"it answered otherwise: {_difference(first.value, second.value)}")


def _answered(target: str, differed: str) -> Finding:
    return Finding(
        target=target,
        kind=Kind.COMMAND.value,
        about="answers",
        differed=f"delivered again under its key after it had been answered, {differed}.",
        mend="Its first reply is stored under its key, and answers whatever comes under it: see "
        "what else writes to the module's database, and whether its result's type says all "
        "that its handler returns.",
    )


def _target(outgoing: Outgoing) -> str:
    return f"{outgoing.module}.{outgoing.operation.name}"


def _failed(error: Exception) -> str:
    """An error in a sentence, which goes on or ends behind it."""
    return f"{type(error).__name__}: {_cut(str(error))}".rstrip(".: ")


class Findings:
    """What was found so far, each thing once; told in the log when it is found."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Finding] = {}

    def add(self, findings: Iterable[Finding]) -> None:
        """Keep those that are new."""
        for finding in findings:
            if (finding.target, finding.about) not in self._found:
                self._found[finding.target, finding.about] = finding
                _log.error("%s", finding, extra={"operation": finding.target})

    def error(self) -> NotRepeatableError | None:
        """All of them as an error; None where there are none."""
        found = tuple(sorted(self._found.values(), key=lambda f: (f.target, f.about)))
        if not found:
            return None
        lines = "\n".join(f"  {number}. {finding}" for number, finding in enumerate(found, 1))
        what = "One thing is" if len(found) == 1 else f"{len(found)} things are"
        return NotRepeatableError(
            f"{what} not safe to repeat. What ran is committed; the next crash or lost connection "
            f"repeats it by itself.\n{lines}",
            findings=found,
        )


def _is_its_own(error: Exception) -> bool:
    """Whether an error tells of the message, and not of trouble on the way."""
    return isinstance(error, (Refusal, KeyReusedError)) or not isinstance(error, _NOT_ITS_OWN)


def _equal(one: Any, other: Any) -> bool:
    # What is encoded is compared, since NaN does not equal itself.
    return bool(one == other) or msgspec.msgpack.encode(one) == msgspec.msgpack.encode(other)


def _difference(one: Any, other: Any) -> str:
    """Where two values differ: by their fields, where they have any."""
    before, after = msgspec.to_builtins(one), msgspec.to_builtins(other)
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return f"{_shown(before)}, then {_shown(after)}"
    names = [n for n in {**before, **after} if before.get(n) != after.get(n)]
    said = [f"`{n}` {_shown(before.get(n))}, then {_shown(after.get(n))}" for n in names]
    more = [f"and {len(said) - _MOST_FIELDS} more"] if len(said) > _MOST_FIELDS else []
    return "; ".join(said[:_MOST_FIELDS] + more)


def _shown(value: Any) -> str:
    return _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
