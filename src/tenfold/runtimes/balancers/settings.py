"""The load balancer in front of a product: `[topologies.X.balancer]`."""

from __future__ import annotations

from typing import Annotated

import msgspec

from tenfold.contracts.structs import Struct

__all__ = ["BalancerSettings"]

_Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]
_Address = Annotated[
    str, msgspec.Meta(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$")
]
_Count = Annotated[int, msgspec.Meta(ge=1, le=20)]


class BalancerSettings(Struct):
    """Where a balancer listens, and the machines that it sends to.

    `servers` are addresses with ports, one for each machine; without any, the
    product is alone on the address of `http`. A machine whose readiness is asked
    for every `check_s` leaves after `fall` wrong answers and returns after `rise`
    right ones. `listen` stays on this machine unless it is said otherwise:
    whoever reaches the product acts as its operator, so that a balancer which
    others reach must say who they are.
    """

    listen: _Address = "127.0.0.1:8080"
    servers: tuple[_Address, ...] = ()
    check_s: _Seconds = 1.0
    fall: _Count = 2
    rise: _Count = 1
    max_connections: Annotated[int, msgspec.Meta(ge=10, le=1_000_000)] = 4_000
