"""The queue on PostgreSQL against a model, whatever two workers do in whatever order."""

from __future__ import annotations

from hypothesis.stateful import run_state_machine_as_test

from tenfold.testing.queue_states import STATE_SETTINGS, QueueStates
from tests.conformance.postgres_queue_bench import QueueBench


def test_the_queue_follows_its_model(postgres_url: str) -> None:
    class PostgresStates(QueueStates):
        async def open_bench(self) -> QueueBench:
            self.queue_bench = QueueBench(postgres_url)
            await self.queue_bench.open()
            return self.queue_bench

        async def close_bench(self) -> None:
            await self.queue_bench.execute("DROP SCHEMA {s} CASCADE")
            await self.queue_bench.close()

    run_state_machine_as_test(PostgresStates, settings=STATE_SETTINGS)
