"""A campaign of faults against a fleet: how it went on, and what the judge says."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from pathlib import Path
from random import Random
from statistics import median

import msgspec

from tests.faults.growth_faults import FAULTS, Faults
from tests.faults.growth_judge import await_fleet_settled, fleet_complaints
from tests.faults.growth_load import GrowthLoad
from tests.faults.growth_store import GrowthStore
from tests.faults.journal import Journal
from tests.servers import OwnPostgres, OwnValkey

__all__ = ["GrowthCampaign", "Struck"]

_CALM_S = 0.4
_CALM_ANSWERS = 10
_PATIENCE_S = 60.0


class Struck(msgspec.Struct):
    """One fault: how long it lasted, and how long after its end requests still failed."""

    name: str
    began_s: float
    lasted_s: float
    failed_s: float
    after_s: float
    failures: int


class GrowthCampaign:
    """Runs segments, each on data of its own, counts faults and collects verdicts."""

    def __init__(self, folder: Path, rng: Random, *, web: int) -> None:
        self._folder = folder
        self._rng = rng
        self._web = web
        self.struck: list[Struck] = []
        self.verdicts: list[str] = []
        self.counts: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.tracebacks: Counter[str] = Counter()
        self.longest = (0.0, 0.0, "nothing")
        self.started_s = time.monotonic()

    def segment(
        self, number: int, names: list[str], postgres: OwnPostgres, valkey: OwnValkey
    ) -> None:
        """Strike a fleet with these faults in turn, then let it settle, and judge."""
        journal = Journal()
        urls = {"TENFOLD_DATABASE_URL": postgres.url, "TENFOLD_CACHE_URL": valkey.url}
        with GrowthStore(self._folder / f"store-{number}", urls, web=self._web) as store:
            store.await_ready()
            load = GrowthLoad(journal, store.port, self._rng)
            faults = Faults(store, postgres, valkey, self._rng)
            load.start()
            try:
                self._await_calm(load, time.monotonic())
                for name in names:
                    self._strike(name, faults, load)
            finally:
                load.stop()
            load.settle()
            found = [f"unfinished: {text}" for text in await_fleet_settled(store)]
            found += fleet_complaints(journal, load.naive, store)
            code = store.stop()
            if code != 0:
                found.append(f"it ended with {code}: {store.tail()}")
            self._count(journal, load, faults, store)
        self.verdicts += [f"segment {number}: {text}" for text in found]

    def _strike(self, name: str, faults: Faults, load: GrowthLoad) -> None:
        began_s, before = time.monotonic(), load.pulse.kinds.total()
        faults.strike(name)
        over_s = time.monotonic()
        # Now and then the next fault comes while this one is not over.
        if self._rng.random() > 0.1 and not self._await_calm(load, over_s):
            self.verdicts.append(f"{name}: requests failed for {_PATIENCE_S:.0f} s after it")
        last_s = load.pulse.last_failure(began_s)
        self.struck.append(
            Struck(
                name=name,
                began_s=began_s,
                lasted_s=over_s - began_s,
                failed_s=0.0 if last_s is None else last_s - began_s,
                after_s=0.0 if last_s is None else max(last_s - over_s, 0.0),
                failures=load.pulse.kinds.total() - before,
            )
        )

    def _await_calm(self, load: GrowthLoad, since_s: float) -> bool:
        """Whether requests are answered again, and none fails for a while."""
        pulse, answers, quiet_s = load.pulse, load.pulse.answers, since_s
        while time.monotonic() < since_s + _PATIENCE_S:
            last_s = pulse.last_failure(quiet_s)
            if last_s is not None:
                answers, quiet_s = pulse.answers, last_s + 1e-6
            if time.monotonic() - quiet_s > _CALM_S and pulse.answers - answers >= _CALM_ANSWERS:
                return True
            time.sleep(0.02)
        return False

    def _count(
        self, journal: Journal, load: GrowthLoad, faults: Faults, store: GrowthStore
    ) -> None:
        said = store.said()
        self.failures += load.pulse.kinds
        self.longest = max(self.longest, load.pulse.longest)
        self.counts["requests answered"] += load.pulse.answers
        self.counts["requests failed"] += load.pulse.kinds.total()
        self.counts["orders"] += len(journal.told("order"))
        self.counts["keyed commands"] += len(journal.sent)
        self.counts["of them sent again"] += sum(sent.tries > 1 for sent in journal.sent)
        self.counts["steps without a key, told as not done"] += sum(
            each.not_done for each in load.naive.values()
        )
        self.counts["steps without a key, told as maybe done"] += sum(
            each.maybe for each in load.naive.values()
        )
        self.counts["changes of the leader"] += said.count("This process leads:")
        self.tracebacks += _tracebacks(said)
        self.counts["workers woken after their lease"] += faults.woken_late

    def table(self) -> str:
        """Faults by kind, how long requests failed after each, and what it took."""
        by_kind: dict[str, list[Struck]] = defaultdict(list)
        for struck in self.struck:
            by_kind[struck.name].append(struck)
        lines = [f"  {'faults':>6}  {'':20} lasted s  failed for s       after its end s  failures"]
        for kind in [*FAULTS, None]:
            some = self.struck if kind is None else by_kind[kind]
            if some:
                lines.append(_line("all" if kind is None else kind, some))
        lines.append(f"  {time.monotonic() - self.started_s:.0f} s in all")
        lines += [f"  {count:6}  {what}" for what, count in self.counts.items()]
        lines.append(self._longest())
        lines += [f"  {count:6}  traceback in the log: {w}" for w, count in self.tracebacks.items()]
        lines.append("failures, by what clients were told")
        lines += [f"  {count:6}  {kind}" for kind, count in self.failures.most_common()]
        return "\n".join(lines)

    def _longest(self) -> str:
        """The longest request, and what was done while it was under way."""
        lasted_s, began_s, what = self.longest
        meanwhile = [
            f"{each.name} after {each.began_s - began_s:.1f} s"
            for each in self.struck
            if began_s - each.lasted_s < each.began_s < began_s + lasted_s
        ]
        return f"  {lasted_s:6.1f}  seconds, the longest request: {what} ({', '.join(meanwhile)})"


def _line(name: str, some: list[Struck]) -> str:
    failed = [each.failed_s for each in some]
    after = [each.after_s for each in some]
    return (
        f"  {len(some):6}  {name:20} {median(each.lasted_s for each in some):8.2f}"
        f"  {median(failed):5.2f} (max {max(failed):5.2f})"
        f"  {median(after):5.2f} (max {max(after):5.2f})"
        f"  {sum(each.failures for each in some):8}"
    )


def _tracebacks(said: str) -> Counter[str]:
    """What the log has tracebacks of: the line in which each begins, and the end of it."""
    found: Counter[str] = Counter()
    lines = said.splitlines()
    for at, line in enumerate(lines):
        if "Traceback (most recent call last)" not in line:
            continue
        if "\\n" in line:
            found[f"{line[:200]} … {line[-300:]}"] += 1
            continue
        name = line.partition(" | ")[0]
        own = [text.partition(" | ")[2] for text in lines[at + 1 :] if text.startswith(name)]
        found[next((text[:300] for text in own if text and text[0] not in " |"), "?")] += 1
    return found
