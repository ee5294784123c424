"""Logs: one JSON object a line for programs, coloured text for people at a terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec
import structlog

from tenfold.ports.unit import CURRENT

__all__ = ["configure_logs", "message_fields"]

_encode = msgspec.json.Encoder(enc_hook=str, decimal_format="string").encode
_EXTRAS = ("trace_id", "tenant", "target", "code", "operation", "outcome")
_Fields = MutableMapping[str, Any]


def configure_logs(
    stream: TextIO | None = None,
    *,
    level: int = logging.INFO,
    people: bool | None = None,
    process: str | None = None,
) -> None:
    """Send every log line of this process to one stream.

    structlog's and the standard library's lines look alike, and each carries the
    trace, tenant and module of the message being handled. Arguments and results
    of operations are never logged: they hold what customers typed.

    Args:
        stream: standard error by default.
        level: lines below it are dropped before anything is formatted.
        people: text instead of JSON; by default where the stream is a terminal.
        process: the name of this process among those that share the log; people
            see it in front of the line.
    """
    out = stream if stream is not None else sys.stderr
    for_people = out.isatty() if people is None else people
    render = _text_renderer(colours=out.isatty()) if for_people else _json_renderer(process)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            message_fields,
            structlog.stdlib.add_log_level,
            _stamp,
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=True,
    )
    handler = _Handler(out, render)
    handler.setLevel(level)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


def message_fields(_logger: Any, _method: str, fields: _Fields) -> _Fields:
    """Add which message is being handled: its trace, span, tenant, module and target."""
    message = CURRENT.get(None)
    if message is not None:
        envelope = message.envelope
        fields.setdefault("trace_id", envelope.trace.trace_id)
        fields.setdefault("span_id", envelope.trace.span_id)
        fields.setdefault("tenant", envelope.tenant)
        fields.setdefault("module", message.module)
        fields.setdefault("target", envelope.target)
    return fields


class _Handler(logging.Handler):
    """Writes the standard library's records as structlog's lines are written."""

    def __init__(self, out: TextIO, render: Callable[[Any, str, Any], str]) -> None:
        super().__init__()
        self._out = out
        self._render = render
        self._format_exception = logging.Formatter().formatException

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            fields: dict[str, Any] = {
                "event": record.getMessage(),
                "level": record.levelname.lower(),
                "logger": record.name,
                "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            }
            for name in _EXTRAS:
                value = record.__dict__.get(name)
                if value is not None:
                    fields[name] = value
            if "target" in fields:  # `extra` cannot say it: records have a `module` of their own
                fields["module"] = fields["target"].partition(".")[0]
            message_fields(None, "", fields)
            if record.exc_info:
                fields["exception"] = self._format_exception(record.exc_info)
            self._out.write(self._render(None, record.levelname.lower(), fields) + "\n")
            self._out.flush()
        except Exception:
            self.handleError(record)


def _stamp(_logger: Any, _method: str, fields: _Fields) -> _Fields:
    fields["at"] = datetime.now(UTC).isoformat()
    return fields


def _json_renderer(process: str | None) -> Callable[[Any, str, _Fields], str]:
    named = {} if process is None else {"process": process}

    def render(_logger: Any, _method: str, fields: _Fields) -> str:
        first = {name: fields.pop(name) for name in ("at", "level", "event") if name in fields}
        return _encode({**first, **named, **fields}).decode("utf-8")

    return render


def _text_renderer(*, colours: bool) -> Callable[[Any, str, Any], str]:
    console = structlog.dev.ConsoleRenderer(
        colors=colours,
        timestamp_key="at",
        exception_formatter=structlog.dev.plain_traceback,
    )

    def render(logger: Any, method: str, fields: Any) -> str:
        if "at" in fields:
            fields["at"] = str(fields["at"])[11:23]
        return str(console(logger, method, fields))

    return render
