"""Which partition a key belongs to: as every client of Kafka in Java would say."""

from __future__ import annotations

__all__ = ["partition_of"]

_MASK = 0xFFFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    """Kafka's default: murmur2 of the key, without its sign, modulo the partitions."""
    length = len(key)
    h = 0x9747B28C ^ length
    m = 0x5BD1E995
    for at in range(0, length - length % 4, 4):
        k = int.from_bytes(key[at : at + 4], "little") * m & _MASK
        k = (k ^ (k >> 24)) * m & _MASK
        h = (h * m & _MASK) ^ k
    rest = key[length - length % 4 :]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m & _MASK
    h = (h ^ (h >> 13)) * m & _MASK
    h ^= h >> 15
    return (h & 0x7FFFFFFF) % partitions
