"""Keys are placed as Kafka's own clients place them."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, Message, Producer
from hypothesis import given
from hypothesis import strategies as st

from tenfold.ports.partitions import partition_of

JAVA = {
    # From the tests of Kafka's `Utils.murmur2`.
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize("key", JAVA)
@pytest.mark.parametrize("partitions", [1, 2, 4, 7, 64, 2**31 - 1])
def test_java_places_a_key_there_too(key: bytes, partitions: int) -> None:
    assert partition_of(key, partitions) == (JAVA[key] & 0x7FFFFFFF) % partitions


@given(st.binary(max_size=80), st.integers(1, 64))
def test_every_key_has_a_partition_that_there_is(key: bytes, partitions: int) -> None:
    assert 0 <= partition_of(key, partitions) < partitions


def test_librdkafka_places_keys_there_too() -> None:
    # A cluster inside of the client's library; topics are made with four partitions.
    producer = Producer(
        {
            "bootstrap.servers": "in.process:1",
            "test.mock.num.brokers": 1,
            "partitioner": "murmur2_random",
            "linger.ms": 0,
        }
    )
    placed: dict[bytes, int | None] = {}

    def note(error: KafkaError | None, message: Message) -> None:
        assert error is None
        placed[message.key() or b""] = message.partition()

    keys = [f"order-{number}".encode() + bytes(number % 9) for number in range(300)]
    for key in keys:
        producer.produce("orders", b"x", key=key, on_delivery=note)
    assert producer.flush(30) == 0
    assert placed == {key: partition_of(key, 4) for key in keys}
    assert len(set(placed.values())) == 4
