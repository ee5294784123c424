"""The queue on SQLite passes the suite of its ports."""

from __future__ import annotations

from tenfold.testing import delivery_suite, queue_suite


class TestClaims(queue_suite.ClaimCases): ...


class TestLanes(queue_suite.LaneCases): ...


class TestLostClaims(queue_suite.LostClaimCases): ...


class TestUnique(delivery_suite.UniqueCases): ...


class TestDelivery(delivery_suite.DeliveryCases): ...


class TestDesk(delivery_suite.DeskCases): ...
