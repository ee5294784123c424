"""The walk as a page: a heading for each stop, the file that does it, envelope and rows."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from tenfold.contracts.envelope import Envelope
from tenfold.path.module import StoredEnvelope
from tests.walkthrough.rows import Change
from tests.walkthrough.walk import Call, Handled, Put, Seen, Taken, Walk, Work

__all__ = ["transcript"]

_HEAD = """# One order, stop by stop

An order for two lamps, from the request to the last read model, as the store in `examples/store`
carried it: its real modules, SQLite files and HTTP edge, with a clock that stands still and
identifiers that count. Workers took one piece of work at a time, so that the order is the same
whenever it is run; otherwise this is what `make run` does.

Every message takes the same path, and each stop below says which file does it:

`edge → admit → handle → unit of work → outbox → relay → queue → handle → projection`

This page is checked by `tests/walkthrough`. It is made by `make walkthrough`; nobody edits it.
"""
_WIDTH = 96
_DELIVERY = "src/tenfold/path/delivery.py"
_FILES = {
    "edge": "src/tenfold/edges/http/endpoint.py",
    "admit": "src/tenfold/path/admit.py",
    "handle": "src/tenfold/path/handle.py",
    "unit of work": "src/tenfold/path/unit_of_work.py",
    "outbox": "src/tenfold/path/module.py",
    "relay": "src/tenfold/path/relay.py",
    "queue": "src/tenfold/path/queue.py",
    "projection": _DELIVERY,
}
_ADAPTERS = {
    "unit of work": "src/tenfold/adapters/sqlite/store.py",
    "outbox": "src/tenfold/adapters/sqlite/outbox.py",
    "queue": "src/tenfold/adapters/sqlite/queue.py",
}


class _Page:
    def __init__(self) -> None:
        self.lines: list[str] = [_HEAD]
        self._stops = 0

    def stop(self, name: str, what: str, *own: str) -> None:
        self._stops += 1
        files = [file for file in (_FILES[name], _ADAPTERS.get(name), *own) if file]
        shown = ", ".join(f"[{file}](../{file})" for file in files)
        self.lines.append(f"## {self._stops}. {name} · {what}\n\n{shown}\n")

    def say(self, text: str) -> None:
        self.lines.append(text + "\n")

    def block(self, language: str, text: str) -> None:
        self.lines.append(f"```{language}\n{text}\n```\n")

    def json(self, value: Any) -> None:
        self.block("json", _folded(msgspec.to_builtins(value), ""))

    def envelope(self, envelope: Envelope) -> None:
        """An envelope, without what it does not have."""
        shown = msgspec.structs.asdict(envelope)
        if isinstance(envelope, StoredEnvelope):
            shown["payload"] = msgspec.msgpack.decode(envelope.payload)
        self.json({name: value for name, value in shown.items() if value not in (None, {})})


def transcript(walk: Walk) -> str:
    """The page, ready to be written."""
    page = _Page()
    answer: Call | None = None
    for seen in walk.seen:
        if answer is not None and isinstance(seen, Put):
            _answered(page, answer)
            answer = None
        _tell(page, seen)
        if isinstance(seen, Call):
            answer = seen
    page.lines.append("## What can be seen now\n")
    for call in walk.afterwards:
        page.block("http", call.request)
        page.block("http", call.answer)
    return "\n".join(page.lines).rstrip() + "\n"


def _tell(page: _Page, seen: Seen) -> None:
    match seen:
        case Call():
            _came_in(page, seen)
        case Handled():
            _handled(page, seen)
        case Work():
            _committed(page, seen)
        case Put():
            _relayed(page, seen)
        case Taken():
            _taken(page, seen)


def _came_in(page: _Page, call: Call) -> None:
    incoming = call.incoming
    assert incoming is not None
    page.stop("edge", "bytes become a call")
    page.block("http", call.request)
    operation = incoming.operation
    page.say(f"The body and the headers, read as what `{operation.contract}` declares:")
    page.json(
        {
            "operation": f"{operation.contract}.{operation.name}",
            "arguments": msgspec.to_builtins(incoming.arguments),
            "principal": incoming.principal,
            "tenant": incoming.tenant,
            "trace": incoming.trace,
            "idempotency_key": incoming.idempotency_key,
        }
    )
    page.stop("admit", "may it begin?")
    page.say(f"Decided before any work is done, in this order; here: **{call.admitted}**.")
    page.block(
        "text",
        f"who    {operation.declaration.who!r} may, and {incoming.principal.id!r} asks\n"
        f"time   {call.timeout_s:g} s are left\n"
        "load   below the limit\n"
        f"key    {operation.declaration.key}, and it is {incoming.idempotency_key!r}: "
        "no reply is stored under it yet",
    )


def _answered(page: _Page, call: Call) -> None:
    page.stop("edge", "the answer, after the commit")
    page.block("http", call.answer)


def _handled(page: _Page, seen: Handled) -> None:
    envelope = seen.envelope
    own = f"examples/store/store/{seen.module}/module.py"
    if seen.projection is not None:
        page.stop(
            "projection",
            f"{seen.module}.{seen.projection}",
            f"examples/store/store/{seen.module}/projections.py",
        )
        page.say(f"The read model is kept by `{envelope.target}`:")
    elif envelope.kind.value == "query":
        page.stop("handle", envelope.target, own)
        page.say(
            "While it gathers, the handler above calls another module's query. The same path, "
            "less the bytes: its envelope has the caller's deadline and trace, and names its cause."
        )
    elif envelope.kind.value == "command":
        page.stop("handle", envelope.target, own)
        page.say("What was admitted is an envelope from here on:")
    else:
        page.stop("handle", envelope.target, _DELIVERY, own)
        page.say("The envelope as it was stored, under a new span of the same trace:")
    page.envelope(envelope)


def _committed(page: _Page, work: Work) -> None:
    page.stop("unit of work", f"one commit in {work.module}.db")
    rows = [_row(change) for change in work.rows]
    page.block("diff", "\n".join(rows))
    if work.reply_key is not None:
        page.say("The reply stands beside its key: sent again, the request is answered from there.")
    if work.inbox is not None:
        page.say("The inbox row is what makes the effect happen once.")
    for entry, envelope in work.jobs:
        page.say(f"In the same commit the job `{entry.handler}` went into the module's own queue:")
        page.envelope(envelope)
    for event, envelope in work.events:
        page.stop("outbox", event.name)
        page.say(f"Published in that commit, as a fact about `{event.order_key}`:")
        page.envelope(envelope)


def _relayed(page: _Page, put: Put) -> None:
    entries = put.delivery.entries
    (source,) = {entry.source for entry in entries}
    page.stop("relay", f"from the outbox of {source} into the queue of {put.module}")
    page.say("One entry for each subscription, with the envelope's bytes as they were published:")
    page.json(
        [
            {
                "handler": entry.handler,
                "lane": entry.lane,
                "source": f"{entry.source} {entry.source_seq}",
                "envelope": _label(entry.body),
            }
            for entry in entries
        ]
    )


def _taken(page: _Page, taken: Taken) -> None:
    page.stop("queue", f"the worker of {taken.module} takes what is due")
    page.json(
        [
            {
                "handler": entry.handler,
                "attempt": entry.attempt,
                "lane": entry.lane,
                "fence": taken.claim.fence,
                "envelope": _label(entry.body),
            }
            for entry in taken.claim.entries
        ]
    )


def _label(body: bytes) -> dict[str, str]:
    envelope = msgspec.msgpack.decode(body, type=StoredEnvelope)
    return {"id": envelope.id, "kind": envelope.kind.value, "target": envelope.target}


def _row(change: Change) -> str:
    if change.before is None or change.after is None:
        row = change.after or change.before or {}
        sign = "-" if change.after is None else "+"
        shown = "\n".join(f"{sign}   {name}: {_value(row[name])}" for name in row)
        return f"{sign} {change.table}\n{shown}"
    lines = [f"  {change.table}"]
    for name, value in change.after.items():
        if change.before[name] == value:
            lines.append(f"    {name}: {_value(value)}")
        else:
            lines.append(f"-   {name}: {_value(change.before[name])}")
            lines.append(f"+   {name}: {_value(value)}")
    return "\n".join(lines)


def _folded(value: Any, indent: str) -> str:
    """JSON in which whatever fits on a line is on one."""
    whole = _spaced(value)
    if len(indent) + len(whole) <= _WIDTH or not isinstance(value, dict | list) or not value:
        return whole
    inner = indent + "  "
    if isinstance(value, list):
        parts = [inner + _folded(item, inner) for item in value]
        return "[\n" + ",\n".join(parts) + f"\n{indent}]"
    parts = [f"{inner}{_value(name)}: {_folded(value[name], inner)}" for name in value]
    return "{\n" + ",\n".join(parts) + f"\n{indent}}}"


def _spaced(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _value(value: Any) -> str:
    return msgspec.json.encode(value).decode()
