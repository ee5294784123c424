"""The containers of a topology, for Compose: the product and all that it runs on."""

from __future__ import annotations

from importlib import resources

import msgspec

from tenfold.contracts.structs import Struct
from tenfold.runtimes.balancers.haproxy import render_haproxy
from tenfold.runtimes.balancers.plan import decide_balancer
from tenfold.runtimes.settings import DatabaseSettings
from tenfold.runtimes.topology import ProductFile

__all__ = ["ComposePlan", "decide_compose", "render_files"]

_PROMETHEUS_PORT = 9090
_FILES = ("compose.yaml", "Dockerfile", "Dockerfile.dockerignore", "prometheus.yml", "primary.sh")


class ComposePlan(Struct):
    """What the files say.

    `context` is the way from their folder to the product's, and `folder` the way back.
    `connections` are those that the database must take.
    """

    name: str
    topology: str
    context: str
    folder: str
    port: int
    published: int
    web: int
    workers: int
    stop_s: int
    connections: int
    files: dict[str, str]


def decide_compose(source: ProductFile, context: str, folder: str) -> ComposePlan:
    """The plan for one topology of a product."""
    topology = source.topology
    published = int(topology.balancer.listen.rpartition(":")[2])
    balancer = decide_balancer(source.name, topology.balancer, topology.http)
    inside = msgspec.structs.replace(
        balancer, listen=f"0.0.0.0:{published}", servers=(f"127.0.0.1:{topology.http.port}",)
    )
    web = max(topology.processes.web, 1)
    return ComposePlan(
        name=source.name,
        topology=topology.name,
        context=context,
        folder=folder,
        port=topology.http.port,
        published=published,
        web=web,
        workers=topology.processes.workers,
        stop_s=round(3 * topology.http.drain_s + 10),
        connections=_connections(topology.database, web + topology.processes.workers),
        files={"haproxy.cfg": render_haproxy(inside)},
    )


def render_files(plan: ComposePlan) -> dict[str, str]:
    """Every file by its name."""
    return {**{name: _filled(name, plan) for name in _FILES}, **plan.files}


def _connections(database: DatabaseSettings, processes: int) -> int:
    """What the server must take: each process's pool, one more while it is replaced, and people."""
    return (processes + 2) * (database.pool + 2) + 20


def _filled(name: str, plan: ComposePlan) -> str:
    text = _template(name).replace("@WORKERS@", _template("workers.yaml") if plan.workers else "")
    values = {
        "NAME": plan.name,
        "TOPOLOGY": plan.topology,
        "CONTEXT": plan.context,
        "FOLDER": plan.folder,
        "PORT": str(plan.port),
        "PUBLISHED": str(plan.published),
        "PROMETHEUS": str(_PROMETHEUS_PORT),
        "WEB": str(plan.web),
        "WORKER_COUNT": str(plan.workers),
        "STOP": f"{plan.stop_s}s",
        "CONNECTIONS": str(plan.connections),
    }
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


def _template(name: str) -> str:
    return (resources.files(__package__) / "templates" / name).read_text(encoding="utf-8")
