"""The outbox and the stored replies on SQLite pass the suite of their ports."""

from __future__ import annotations

from tenfold.testing import outbox_suite


class TestOutbox(outbox_suite.OutboxCases): ...


class TestReplies(outbox_suite.ReplyCases): ...
