"""Hit ratios of eviction policies on real and made accesses, side by side.

    python -m benchmarks.cache_policies /path/to/online_retail.csv.gz

The real ones are the products of a shop's order lines in their order, each looked at once when
it is bought, with nothing of the data kept here. The made ones are Zipf's law, and the same with a
scan through everything now and then, which is what a crawler or an export does.
"""

from __future__ import annotations

import csv
import gzip
import os
import random
import sys
import time
from bisect import bisect_left
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

from tenfold.adapters.memory.cache import MemoryCache
from tenfold.ports.cache import Slot
from tenfold.ports.clock import SystemClock

SHARES = (0.01, 0.05, 0.10, 0.25, 0.50)


class Lru:
    """The one not used for longest leaves."""

    def __init__(self, size: int) -> None:
        self.size, self.held = size, OrderedDict[int, None]()

    def access(self, key: int) -> bool:
        if key in self.held:
            self.held.move_to_end(key)
            return True
        self.held[key] = None
        if len(self.held) > self.size:
            self.held.popitem(last=False)
        return False


class Lfu:
    """The one used least leaves, of equals the oldest; counts end with the stay."""

    def __init__(self, size: int) -> None:
        self.size, self.counts, self.groups = (
            size,
            dict[int, int](),
            dict[int, OrderedDict[int, None]](),
        )

    def access(self, key: int) -> bool:
        count = self.counts.get(key, 0)
        if count:
            group = self.groups[count]
            del group[key]
            if not group:
                del self.groups[count]
        elif len(self.counts) >= self.size:
            least = min(self.groups)
            victim, _ = self.groups[least].popitem(last=False)
            if not self.groups[least]:
                del self.groups[least]
            del self.counts[victim]
        self.counts[key] = count + 1
        self.groups.setdefault(count + 1, OrderedDict())[key] = None
        return count > 0


class Sieve:
    """Zhang et al., "SIEVE is Simpler than LRU" (NSDI 2024): a hand sweeps from old to new."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.visited: dict[int, bool] = {}
        self.older: dict[int, int | None] = {}
        self.newer: dict[int, int | None] = {}
        self.head: int | None = None
        self.tail: int | None = None
        self.hand: int | None = None

    def access(self, key: int) -> bool:
        if key in self.visited:
            self.visited[key] = True
            return True
        if len(self.visited) >= self.size:
            self._evict()
        self.visited[key] = False
        self.older[key], self.newer[key] = self.head, None
        if self.head is not None:
            self.newer[self.head] = key
        self.head = key
        if self.tail is None:
            self.tail = key
        return False

    def _evict(self) -> None:
        at = self.hand if self.hand is not None else self.tail
        while at is not None and self.visited[at]:
            self.visited[at] = False
            at = self.newer[at] if self.newer[at] is not None else self.tail
        assert at is not None
        older, newer = self.older.pop(at), self.newer.pop(at)
        del self.visited[at]
        self.hand = newer
        if older is None:
            self.tail = newer
        else:
            self.newer[older] = newer
        if newer is None:
            self.head = older
        else:
            self.older[newer] = older


class S3Fifo:
    """Yang et al., "FIFO queues are all you need" (SOSP 2023): small, main and ghost queues."""

    def __init__(self, size: int) -> None:
        self.small_size = max(size // 10, 1)
        self.size = size
        self.small, self.main = deque[int](), deque[int]()
        self.ghost: OrderedDict[int, None] = OrderedDict()
        self.uses: dict[int, int] = {}

    def access(self, key: int) -> bool:
        if key in self.uses:
            self.uses[key] = min(self.uses[key] + 1, 3)
            return True
        while len(self.uses) >= self.size:
            if len(self.small) >= self.small_size or not self.main:
                self._from_small()
            else:
                self._from_main()
        self.uses[key] = 0
        if key in self.ghost:
            del self.ghost[key]
            self.main.append(key)
        else:
            self.small.append(key)
        return False

    def _from_small(self) -> None:
        while self.small:
            key = self.small.popleft()
            if self.uses[key] > 0:
                self.uses[key] = 0
                self.main.append(key)
                continue
            del self.uses[key]
            self.ghost[key] = None
            if len(self.ghost) > self.size - self.small_size:
                self.ghost.popitem(last=False)
            return

    def _from_main(self) -> None:
        while self.main:
            key = self.main.popleft()
            if self.uses[key] > 0:
                self.uses[key] -= 1
                self.main.append(key)
                continue
            del self.uses[key]
            return


class TinyLfu:
    """Einziger et al., "TinyLFU" (2017): an LRU window of 1 %, a segmented LRU behind a filter.

    The filter counts exactly, and halves all counts after ten times the size in accesses: the
    best that a sketch could do.
    """

    def __init__(self, size: int) -> None:
        self.window_size = max(size // 100, 1)
        self.main_size = max(size - self.window_size, 1)
        self.protected_size = self.main_size * 8 // 10
        self.window, self.probation, self.protected = (
            OrderedDict[int, None](),
            OrderedDict[int, None](),
            OrderedDict[int, None](),
        )
        self.counts: Counter[int] = Counter()
        self.seen, self.sample = 0, size * 10

    def access(self, key: int) -> bool:
        self.counts[key] = min(self.counts[key] + 1, 15)
        self.seen += 1
        if self.seen >= self.sample:
            self.seen //= 2
            self.counts = Counter({k: n // 2 for k, n in self.counts.items() if n > 1})
        if key in self.window:
            self.window.move_to_end(key)
        elif key in self.protected:
            self.protected.move_to_end(key)
        elif key in self.probation:
            del self.probation[key]
            self.protected[key] = None
            if len(self.protected) > self.protected_size:
                self.probation[self.protected.popitem(last=False)[0]] = None
        else:
            self._admit(key)
            return False
        return True

    def _admit(self, key: int) -> None:
        self.window[key] = None
        if len(self.window) <= self.window_size:
            return
        candidate = self.window.popitem(last=False)[0]
        if len(self.probation) + len(self.protected) < self.main_size:
            self.probation[candidate] = None
            return
        group = self.probation or self.protected
        victim = next(iter(group))
        if self.counts[candidate] > self.counts[victim]:
            del group[victim]
            self.probation[candidate] = None


class AsBuilt:
    """The product's own: W-TinyLFU with counts in two rows of bytes."""

    def __init__(self, size: int) -> None:
        self.cache = MemoryCache(SystemClock(), entries=size, max_bytes=1 << 30)

    def access(self, key: int) -> bool:
        slot = Slot(key=b"%016d" % key)
        if self.cache.find_nowait(slot.key) is not None:
            return True
        begun = self.cache.begun_nowait()
        self.cache.keep_nowait(slot, begun, b"", rank=0, keep_s=1e9)
        return False


POLICIES: dict[str, Callable[[int], Lru | Lfu | Sieve | S3Fifo | TinyLfu | AsBuilt]] = {
    "LRU": Lru,
    "LFU": Lfu,
    "SIEVE": Sieve,
    "S3-FIFO": S3Fifo,
    "W-TinyLFU": TinyLfu,
    "as built": AsBuilt,
}


def products(path: str) -> list[int]:
    """The products of a shop's order lines, as numbers, in the order of the lines."""
    numbers: dict[str, int] = {}
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return [numbers.setdefault(row["StockCode"], len(numbers)) for row in csv.DictReader(file)]


def zipf(keys: int, length: int, exponent: float, chance: random.Random) -> list[int]:
    """Accesses by Zipf's law."""
    sums = list(accumulate(1 / (rank + 1) ** exponent for rank in range(keys)))
    return [bisect_left(sums, chance.random() * sums[-1]) for _ in range(length)]


def scanned(accesses: Sequence[int], keys: int, every: int) -> Iterator[int]:
    """The same accesses, with a scan through everything after every so many."""
    for at, key in enumerate(accesses, 1):
        yield key
        if at % every == 0:
            yield from range(keys)


def report(title: str, accesses: Sequence[int]) -> None:
    keys = len(set(accesses))
    print(f"\n{title}: {len(accesses):,} accesses to {keys:,} keys")
    print("size".ljust(12) + "".join(name.rjust(11) for name in POLICIES))
    for share in SHARES:
        size = max(int(keys * share), 2)
        line = f"{size:>6} {share:>4.0%} "
        for make in POLICIES.values():
            policy = make(size)
            hits = sum(policy.access(key) for key in accesses)
            line += f"{hits / len(accesses):>11.1%}"
        print(line)


def report_costs(accesses: Sequence[int]) -> None:
    """What a hit costs, everything held."""
    print("\na hit, all held, µs")
    for name, make in POLICIES.items():
        policy = make(len(set(accesses)) * 2)
        for key in accesses:
            policy.access(key)
        took = []
        for _ in range(5):
            began = time.perf_counter()
            for key in accesses:
                policy.access(key)
            took.append((time.perf_counter() - began) / len(accesses))
        print(f"{name:<12}{min(took) * 1e6:>6.2f}")


def main() -> None:
    path = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("TENFOLD_HISTORY", "")
    chance = random.Random(20)
    if path:
        report("order lines of a shop", products(path))
    law = zipf(10_000, 300_000, 0.9, chance)
    report("Zipf 0.9", law)
    report("Zipf 0.9, a scan after every 50,000", list(scanned(law, 10_000, 50_000)))
    report_costs(law[:50_000])


if __name__ == "__main__":
    main()
