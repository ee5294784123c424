"""The ports, their suites and adapters, and what of the latter no suite can say."""

from __future__ import annotations

from typing import Final

import msgspec

from tenfold.contracts.structs import Struct

__all__ = ["PORTS", "Adapter", "Port"]


class Adapter(Struct):
    """One adapter: its class, the file that runs the suites on it, and what a crash takes.

    `only` names its test class where a file has those of several.
    """

    name: str
    module: str
    kind: str
    tests: str
    lost: str
    only: str = ""


class Port(Struct):
    """One port with its suites, as `file.Class` of `tenfold.testing`.

    `headings` stand in place of a suite's docstring where that says too little alone.
    """

    name: str
    said: str
    suites: tuple[str, ...]
    adapters: tuple[Adapter, ...]
    headings: dict[str, str] = msgspec.field(default_factory=dict)


_FILE: Final = (
    "What was answered outlasts `kill -9` and loss of power: the log is synced before the answer. "
    "A disk that lies about syncs is believed."
)
_SERVER: Final = (
    "What was answered is as durable as the server is set to: with `synchronous_commit = on`, the "
    "server's default and the one of local servers, it outlasts a crash of both. A failover to an "
    "asynchronous replica loses what that had not received; callers' tokens of the old timeline "
    "are then answered by the primary."
)
_MEMORY: Final = "All of it is lost with the process, which begins anew with nothing."
_VALKEY_CACHE: Final = (
    "All of it may be lost at any moment, and costs time only: answers are computed again. A "
    "server that is restarted counts as empty."
)

_NATS: Final = (
    "Whoever kills the server loses nothing. By default JetStream syncs every two minutes, so a "
    "loss of power takes what one server alone had acknowledged since; `sync_interval: always` "
    "ends that, as in local servers, and with three replicas two must lose their power at once."
)
_KAFKA: Final = (
    "Whoever kills a server loses nothing. Kafka never waits for the disk: a loss of power takes "
    "what one server alone had acknowledged in the last seconds; with three replicas two must lose "
    "their power at once."
)
_RABBITMQ: Final = (
    "Whoever kills a server loses nothing. Streams never wait for the disk: a loss of power takes "
    "what one server alone had confirmed in the last seconds; with three replicas two must lose "
    "their power at once."
)

PORTS: Final = (
    Port(
        name="Units of work",
        said=(
            "`tenfold.ports.unit.Units`, with the path around it: the rules of the model, asked "
            "of a probe product through its contracts."
        ),
        suites=(
            "unit_suite.AtomicCases",
            "unit_suite.OwnershipCases",
            "unit_suite.GatherCases",
            "unit_suite.IsolationCases",
            "unit_suite.KeyedCases",
            "unit_suite.PositionCases",
            "unit_suite.TenantCases",
            "call_suite.CallCases",
            "call_suite.BackgroundCases",
            "batch_suite.BatchCases",
        ),
        adapters=(
            Adapter(
                name="SQLite",
                module="tenfold.adapters.sqlite.store",
                kind="SqliteStore",
                tests="test_sqlite_units",
                lost=_FILE,
            ),
            Adapter(
                name="PostgreSQL",
                module="tenfold.adapters.postgres.store",
                kind="PostgresStore",
                tests="test_postgres_units",
                lost=_SERVER,
            ),
        ),
    ),
    Port(
        name="Statements",
        said=(
            "What a module's statements, said in SQLAlchemy Core, mean on each database; see [the "
            "same statements on both](../explanation/two-databases.md)."
        ),
        suites=("statements.StatementCases", "statement_values.ValueCases"),
        adapters=(
            Adapter(
                name="SQLite",
                module="tenfold.adapters.sqlite.planner",
                kind="Planner",
                tests="test_sqlite_statements",
                lost="It keeps nothing.",
            ),
            Adapter(
                name="PostgreSQL",
                module="tenfold.adapters.postgres.planner",
                kind="Planner",
                tests="test_postgres_statements",
                lost="It keeps nothing.",
            ),
        ),
        headings={
            "StatementCases": "Statements, and whose rows they see",
            "ValueCases": "Values, order and text",
        },
    ),
    Port(
        name="Outbox and replies",
        said=(
            "`tenfold.ports.outbox`: the log of a module's events, and what keyed commands "
            "answered."
        ),
        suites=("outbox_suite.OutboxCases", "outbox_suite.ReplyCases"),
        adapters=(
            Adapter(
                name="SQLite",
                module="tenfold.adapters.sqlite.outbox",
                kind="SqliteOutbox",
                tests="test_sqlite_outbox",
                lost="As the unit of work that published.",
            ),
            Adapter(
                name="PostgreSQL",
                module="tenfold.adapters.postgres.outbox",
                kind="PostgresOutbox",
                tests="test_postgres_outbox",
                lost=(
                    "As the unit of work that published. Positions have gaps. A transaction "
                    "anywhere in the cluster that has written and stays open holds back what is "
                    "committed after it."
                ),
            ),
        ),
    ),
    Port(
        name="From log to queue",
        said="`tenfold.ports.transfer.Transfer`: how a relay carries events.",
        suites=("transfer_suite.TransferCases",),
        adapters=(
            Adapter(
                name="any two, on SQLite",
                module="tenfold.path.carrying",
                kind="CarryThrough",
                tests="test_transfers",
                lost="Nothing: position and entries move in one transaction.",
                only="TestThroughThisProcess",
            ),
            Adapter(
                name="any two, on PostgreSQL",
                module="tenfold.path.carrying",
                kind="CarryThrough",
                tests="test_transfers",
                lost="Nothing, likewise.",
                only="TestThroughThisProcessOnPostgres",
            ),
            Adapter(
                name="inside PostgreSQL",
                module="tenfold.adapters.postgres.transfer",
                kind="PostgresTransfer",
                tests="test_transfers",
                lost="Nothing: one statement reads, delivers and moves the positions.",
                only="TestInsidePostgres",
            ),
        ),
    ),
    Port(
        name="Queue and delivery",
        said=(
            "`tenfold.ports.queue`: `Queue` and `QueueDesk`. Beside these cases both adapters "
            "follow a model of the queue through whatever two workers do in whatever order "
            "(`tenfold.testing.queue_states`)."
        ),
        suites=(
            "queue_suite.ClaimCases",
            "queue_suite.LaneCases",
            "queue_suite.LostClaimCases",
            "delivery_suite.UniqueCases",
            "delivery_suite.DeliveryCases",
            "delivery_suite.DeskCases",
        ),
        adapters=(
            Adapter(
                name="SQLite",
                module="tenfold.adapters.sqlite.queue",
                kind="SqliteQueue",
                tests="test_sqlite_queue",
                lost="Nothing that was enqueued. The next start releases all claims at once.",
            ),
            Adapter(
                name="PostgreSQL",
                module="tenfold.adapters.postgres.queue",
                kind="PostgresQueue",
                tests="test_postgres_queue",
                lost=(
                    "Nothing that was enqueued. What a process had claimed when it died is "
                    "claimed again when its lease has passed."
                ),
            ),
        ),
    ),
    Port(
        name="Cache",
        said=(
            "`tenfold.ports.cache.Cache`: kept answers. `shared` is that several processes see it."
        ),
        suites=(
            "cache_suite.FillCases",
            "cache_suite.InvalidationCases",
            "cache_suite.ClaimCases",
            "cache_suite.FollowCases",
        ),
        adapters=(
            Adapter(
                name="memory",
                module="tenfold.adapters.memory.cache",
                kind="MemoryCache",
                tests="test_memory_cache",
                lost=_MEMORY,
            ),
            Adapter(
                name="Valkey",
                module="tenfold.adapters.valkey.cache",
                kind="ValkeyCache",
                tests="test_valkey_cache",
                lost=_VALKEY_CACHE,
            ),
        ),
    ),
    Port(
        name="Counters of rate limits",
        said=(
            "`tenfold.ports.limits.SharedCounter`. `shared` is that several processes count "
            "together."
        ),
        suites=("limits_suite.CounterCases",),
        adapters=(
            Adapter(
                name="memory",
                module="tenfold.adapters.memory.limits",
                kind="MemoryCounter",
                tests="test_memory_limits",
                lost="All counts are lost with the process: its callers begin a new window.",
            ),
            Adapter(
                name="Valkey",
                module="tenfold.adapters.valkey.limits",
                kind="ValkeyCounter",
                tests="test_valkey_limits",
                lost=(
                    "Counts are lost with the server unless it keeps them on its disk. While it "
                    "is away each process counts its own share."
                ),
            ),
        ),
        headings={"CounterCases": "What is granted"},
    ),
    Port(
        name="Broker",
        said=(
            "`tenfold.ports.broker`: `Broker` and `Reader`. `trims` is that a test can make it "
            "forget records; `restarts`, that there is a server to kill."
        ),
        suites=(
            "broker_suite.TopicCases",
            "broker_suite.RecordCases",
            "broker_suite.BoundsCases",
            "broker_reader_suite.ReaderCases",
            "broker_away_suite.AwayCases",
        ),
        adapters=(
            Adapter(
                name="memory",
                module="tenfold.adapters.memory.broker",
                kind="MemoryBroker",
                tests="test_memory_broker",
                lost=_MEMORY,
            ),
            Adapter(
                name="NATS",
                module="tenfold.adapters.nats.broker",
                kind="NatsBroker",
                tests="test_nats_broker",
                lost=_NATS,
            ),
            Adapter(
                name="Kafka",
                module="tenfold.adapters.kafka.broker",
                kind="KafkaBroker",
                tests="test_kafka_broker",
                lost=_KAFKA,
            ),
            Adapter(
                name="RabbitMQ",
                module="tenfold.adapters.rabbitmq.broker",
                kind="RabbitBroker",
                tests="test_rabbitmq_broker",
                lost=_RABBITMQ,
            ),
        ),
    ),
    Port(
        name="Replicas",
        said=(
            "`tenfold.ports.replicas.Replicas` has one adapter, and therefore no suite: its cases "
            "are `tests/conformance/test_postgres_replicas.py`, on a real primary with a real "
            "replica."
        ),
        suites=(),
        adapters=(
            Adapter(
                name="PostgreSQL",
                module="tenfold.adapters.postgres.replicas",
                kind="PostgresReplicas",
                tests="test_postgres_replicas",
                lost=(
                    "It keeps nothing but what each replica was seen to have replayed. See [growth]"
                    "(../explanation/growth.md#replicas-and-tokens)."
                ),
            ),
        ),
    ),
)
