"""What a load balancer has to keep to, whichever it is, so that it fits the product behind it."""

from __future__ import annotations

import math

from tenfold.contracts.structs import Struct
from tenfold.runtimes.balancers.settings import BalancerSettings
from tenfold.runtimes.settings import HttpLimits

__all__ = ["BalancerPlan", "decide_balancer", "decide_linger"]

READY = "/_tenfold/ready"
_CONNECT_S = 2.0
_ANSWER_SPARE_S = 15.0
_KEPT_SPARE = 0.6
_BODY_SPARE_BYTES = 65_536
_LINGER_SPARE_S = 1.0


class BalancerPlan(Struct):
    """The figures of a balancer's configuration.

    `kept_s` is how long it keeps a connection to the product that rests: shorter
    than the product does, since a request that meets a connection's end is lost.
    `answer_s` is longer than the product may take, so that the product's own
    answer is the one that is given. Bodies are bounded a little above the
    product's own bound, so that its problem document is what people read.
    """

    name: str
    listen: str
    servers: tuple[str, ...]
    check_path: str
    check_s: float
    fall: int
    rise: int
    connect_s: float
    answer_s: float
    kept_s: float
    head_s: float
    body_s: float
    caller_kept_s: float
    head_bytes: int
    body_bytes: int
    max_connections: int


def decide_balancer(name: str, settings: BalancerSettings, http: HttpLimits) -> BalancerPlan:
    """The plan for the product of this name, which listens as `http` says."""
    host = f"[{http.host.strip('[]')}]" if ":" in http.host else http.host
    return BalancerPlan(
        name=name,
        listen=settings.listen,
        servers=settings.servers or (f"{host}:{http.port}",),
        check_path=READY,
        check_s=settings.check_s,
        fall=settings.fall,
        rise=settings.rise,
        connect_s=_CONNECT_S,
        answer_s=http.max_wait_s + _ANSWER_SPARE_S,
        # The product rounds its own to whole seconds.
        kept_s=max(1.0, math.floor(http.keep_alive_s)) * _KEPT_SPARE,
        head_s=http.header_timeout_s,
        body_s=http.body_timeout_s,
        caller_kept_s=max(http.keep_alive_s, 30.0),
        head_bytes=http.max_header_bytes + http.max_target_bytes,
        body_bytes=http.max_body_bytes + _BODY_SPARE_BYTES,
        max_connections=settings.max_connections,
    )


def decide_linger(settings: BalancerSettings) -> float:
    """Seconds for which a machine that stops still takes what comes.

    So long a balancer may need to notice that it is not ready; where there is
    none, nobody looks elsewhere, and waiting helps nobody.
    """
    if not settings.servers:
        return 0.0
    return settings.check_s * settings.fall + _LINGER_SPARE_S
