"""What one caller remembers of each operation of a service that it has called."""

from __future__ import annotations

from collections import Counter
from typing import Final

import msgspec

from tenfold.adapters.frames.breaker import Breaker
from tenfold.adapters.frames.latencies import Latencies
from tenfold.contracts.contract import OperationSpec
from tenfold.contracts.errors import TenfoldError
from tenfold.contracts.operations import Kind
from tenfold.ports.peers import OperationStatistics

__all__ = ["OperationRecord"]

_LEAST_HEDGE_S: Final = 0.001


class OperationRecord:
    """Its latencies, its breaker, and how its calls ended."""

    __slots__ = (
        "arguments",
        "breaker",
        "decode",
        "hedges",
        "latencies",
        "outcomes",
        "spec",
        "target",
    )

    def __init__(self, spec: OperationSpec, module: str) -> None:
        self.spec = spec
        self.target = f"{module or spec.contract}.{spec.name}"
        self.arguments = frozenset(spec.arguments.__struct_fields__)
        self.decode = msgspec.msgpack.Decoder(spec.result).decode
        self.breaker = Breaker()
        self.latencies = Latencies()
        self.outcomes: Counter[str] = Counter()
        self.hedges = spec.declaration.hedge and spec.kind is Kind.QUERY

    def count_error(self, error: TenfoldError) -> None:
        """A call ended with an error of the caller's end: its code is the outcome."""
        self.outcomes[error.code] += 1

    @property
    def hedge_after_s(self) -> float | None:
        """When a call that has no answer yet is sent a second time; None for never."""
        late_s = self.latencies.late_s
        if not self.hedges or late_s == float("inf"):
            return None
        return max(late_s, _LEAST_HEDGE_S)

    def statistics(self) -> OperationStatistics:
        """As of now."""
        return OperationStatistics(
            target=self.target, outcomes=dict(self.outcomes), circuit=self.breaker.state.value
        )
