"""The way itself: one running store from prototype over growth to scale, under one load."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import ProxyHandler, build_opener

import msgspec

from benchmarks.journey.figures import (
    Cost,
    Figures,
    Move,
    Stretch,
    decide_failures,
    decide_figures,
    seen_pause,
)
from benchmarks.journey.judging import complaints
from benchmarks.journey.machines import (
    CHECK_S,
    Balancer,
    Machine,
    Site,
    cpu_s,
    mover,
    rss_mb,
    shared_mb,
)
from benchmarks.journey.record import Asked, Shelf, ShelfProduct, Wishes, read_journal
from benchmarks.measure import Noise
from benchmarks.processes import ROOT, load, request

__all__ = ["Journey", "Plan", "travel"]


_SHELF = 300
_STOCK = 100_000
_BATCHES = 4
_HELD = re.compile(r"([\d,]+) rows copied and ([\d,]+) writes.*held for ([\d.]+) s", re.DOTALL)
_opener = build_opener(ProxyHandler({}))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long each phase is measured, after how long a rest, and what customers do meanwhile.

    `most_pause_s` is the longest pause that may be declared for a move.
    """

    history: Path
    phase_s: float
    rest_s: float
    reads_per_s: float
    orders_per_s: float
    seed: int
    most_pause_s: float = 15.0


class Journey(msgspec.Struct, frozen=True):
    """What the way came to. Nothing is wrong with it where `complaints` is empty."""

    stretches: list[Stretch]
    journal: list[Asked]
    costs: dict[str, Cost]
    moves: list[Move]
    imported: dict[str, Any]
    rows: str
    noise: str
    complaints: list[str]

    @property
    def phases(self) -> list[Stretch]:
        """Those in which one topology ran and nothing else happened."""
        return [each for each in self.stretches if each.name in self.costs]

    def figures(self, kinds: Sequence[str] = ()) -> list[Figures]:
        """Of every stretch in turn, of all requests or of some kinds."""
        return [decide_figures(each, self.journal, kinds) for each in self.stretches]


def travel(plan: Plan, folder: Path, say: Callable[[str], None]) -> Journey:
    """Go the whole way, in a folder that is for nothing else. Raises: NotThereError."""
    return _Road(plan, Site(folder), say).travel()


class _Road:
    def __init__(self, plan: Plan, site: Site, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._site = site
        self._say = say
        self._noise = Noise()
        self._costs: dict[str, Cost] = {}
        self._stretches: list[Stretch] = []
        self._rows = ""

    def travel(self) -> Journey:
        with ExitStack() as stack:
            return self._travel(stack)

    def _travel(self, stack: ExitStack) -> Journey:
        site, plan, moves = self._site, self._plan, []
        balancer = stack.enter_context(Balancer(site))
        prototype = stack.enter_context(Machine(site, "prototype"))
        prototype.await_ready()
        imported = self._import()
        balancer.await_served()
        journal = site.folder / "journal"
        with _customers(self._wishes(str(journal)), journal) as customers:
            self._phase(prototype, customers)
            growth, steps = self._to_growth(stack, balancer, prototype)
            moves.append(steps)
            self._phase(growth, customers)
            scale, steps = self._to_scale(stack, growth)
            moves.append(steps)
            self._phase(scale, customers)
        asked = list(read_journal(journal))
        self._say("The customers have gone. What they were told is held against what is there.")
        wrong = asyncio.run(complaints(site, "scale", asked, imported["orders"]))
        scale.stop()
        failures = decide_failures(self._stretches, asked)
        moves = [self._seen(move, asked) for move in moves]
        long = [
            f"{move.name}: the pause was {move.declared_s:.1f} s, more than {plan.most_pause_s:g} s"
            for move in moves
            if move.declared_s > plan.most_pause_s
        ]
        return Journey(
            stretches=self._stretches,
            journal=asked,
            costs=self._costs,
            moves=moves,
            imported=imported,
            rows=self._rows,
            noise=self._noise.line(),
            complaints=[*failures, *long, *wrong],
        )

    def _import(self) -> dict[str, Any]:
        """Fill the running prototype with the orders of the past."""
        site = self._site
        done = subprocess.run(
            [
                sys.executable, "-c", "from store.cli import main; main()", "import",
                str(self._plan.history), "--json", "--refused", str(site.folder / "refused.csv"),
            ],
            env=site.environ("prototype"),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )  # fmt: skip
        found: dict[str, Any] = json.loads(done.stdout)
        self._say(f"{found['orders']:,} orders of the past are in, in {found['seconds']:.1f} s.")
        return found

    def _wishes(self, journal: str) -> Wishes:
        """What the customers look at, and stock of it so that all of them can buy."""
        port = self._site.port
        page = _get(port, "/v1/products?limit=100")
        cursors, items = [], page["items"]
        while page["next"] is not None:
            cursors.append(page["next"])
            page = _get(port, f"/v1/products?limit=100&cursor={quote(page['next'])}")
            items += page["items"]
        step = max(1, len(items) // _SHELF)
        shelf = [
            ShelfProduct(each["id"], each["sku"], each["name"].split()[-1])
            for each in items[::step][:_SHELF]
        ]
        stock = json.dumps({"quantity": _STOCK}).encode()
        paths = [f"/v1/products/{product.id}/stock" for product in shelf]
        load(port, [request("POST", path, port, stock) for path in paths], _BATCHES)
        return Wishes(
            port,
            journal,
            Shelf(shelf, cursors),
            self._plan.reads_per_s,
            self._plan.orders_per_s,
            self._plan.seed,
        )

    def _phase(self, machine: Machine, customers: subprocess.Popen[bytes]) -> None:
        """Let one topology run for a while, and count what it takes."""
        site = self._site
        time.sleep(self._plan.rest_s)
        self._noise.probe()
        began_s, product, servers = self._spent(machine)
        time.sleep(self._plan.phase_s)
        ended_s, product_then, servers_then = self._spent(machine)
        self._noise.probe()
        if customers.poll() is not None:
            raise RuntimeError("the customers' process has ended")
        self._costs[machine.topology] = Cost(
            cpu_s=product_then - product,
            servers_cpu_s=servers_then - servers,
            rss_mb=rss_mb([machine.process.pid]),
            servers_mb=shared_mb(site.server_pids()),
        )
        self._stretches.append(Stretch(machine.topology, began_s, ended_s))
        self._say(f"{machine.topology}: measured for {ended_s - began_s:.0f} s.")

    def _spent(self, machine: Machine) -> tuple[float, float, float]:
        return time.monotonic(), cpu_s([machine.process.pid]), cpu_s(self._site.server_pids())

    def _to_growth(
        self, stack: ExitStack, balancer: Balancer, prototype: Machine
    ) -> tuple[Machine, Move]:
        """`tenfold move` beside the running store, with the fleet waiting on the target."""
        began_s, site = time.monotonic(), self._site
        stack.enter_context(site.servers())
        servers_s = time.monotonic()
        growth = None
        with mover(site) as moving:
            said, told_s, switched_s = "", 0.0, 0.0
            assert moving.stdin is not None
            assert moving.stdout is not None
            for line in moving.stdout:
                said += line
                if growth is None and "copied" in line:
                    growth = stack.enter_context(Machine(site, "growth"))
                if "Press Enter" in line and growth is not None:
                    copied_s = time.monotonic()
                    growth.await_waiting()
                    both_mb = rss_mb([prototype.process.pid, moving.pid, growth.process.pid])
                    told_s = time.monotonic()
                    moving.stdin.write("\n")
                    moving.stdin.flush()
                if line.startswith("Switched over."):
                    switched_s = time.monotonic()
            if moving.wait() != 0 or growth is None:
                raise RuntimeError(f"the move was not done:\n{said}")
        held = _HELD.search(said)
        if held is None or not told_s or not switched_s:
            raise RuntimeError(f"the move does not say what it did:\n{said}")
        self._rows = f"{held[1]} rows copied and {held[2]} writes followed"
        held_s = float(held[3])
        ready_s = growth.await_ready()
        prototype.await_end()
        served_s = balancer.await_served()
        pause = (told_s, served_s)
        name = "prototype to growth"
        self._stretches.append(Stretch(name, began_s, time.monotonic(), pause))
        self._say(f"{name}: {self._rows}; writes were held for {held_s:.2f} s.")
        steps = {
            "servers started": servers_s - began_s,
            "copied, compared and followed": copied_s - servers_s,
            "followed on, until the new fleet waited": told_s - copied_s,
            "told to switch over, and writes held at the end of it": switched_s - told_s,
            "until the fleet was ready": ready_s - switched_s,
            "until the old process had ended and the public address answered": served_s - ready_s,
        }
        return growth, Move(name, steps, pause[1] - pause[0], 0.0, 0.0, both_mb)

    def _to_scale(self, stack: ExitStack, growth: Machine) -> tuple[Machine, Move]:
        """The services beside the fleet, on the same database; then the fleet is asked to stop."""
        began_s = time.monotonic()
        scale = stack.enter_context(Machine(self._site, "scale"))
        ready_s = scale.await_ready()
        time.sleep(3 * CHECK_S)  # so that the balancer has seen it
        pids = [growth.process.pid, scale.process.pid]
        both_mb = rss_mb(pids)
        asked_s = time.monotonic()
        growth.stop()
        ended_s = time.monotonic()
        name = "growth to scale"
        self._stretches.append(Stretch(name, began_s, ended_s))
        self._say(f"{name}: both ran for {ended_s - ready_s:.1f} s.")
        steps = {
            "services started": ready_s - began_s,
            "taken in by the balancer": asked_s - ready_s,
            "growth drained": ended_s - asked_s,
        }
        return scale, Move(name, steps, 0.0, 0.0, 0.0, both_mb)

    def _seen(self, move: Move, journal: Sequence[Asked]) -> Move:
        stretch = next(each for each in self._stretches if each.name == move.name)
        longest = max((each.took_s for each in journal if stretch.has(each)), default=0.0)
        return msgspec.structs.replace(move, seen_s=seen_pause(stretch, journal), longest_s=longest)


@contextmanager
def _customers(wishes: Wishes, journal: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The customers' process; when the block ends they get their last answers and go."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.journey.customers"], cwd=ROOT, stdin=subprocess.PIPE
    )
    assert process.stdin is not None
    try:
        process.stdin.write(msgspec.json.encode(wishes) + b"\n")
        process.stdin.flush()
        yield process
        process.stdin.close()
        if process.wait(120) != 0:
            raise RuntimeError("the customers' process failed; its reason is above")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _get(port: int, path: str) -> Any:
    with _opener.open(f"http://127.0.0.1:{port}{path}", timeout=30) as reply:
        return json.loads(reply.read())
