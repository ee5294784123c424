"""What is asked of a split, and how one ends that does not come to its end."""

from __future__ import annotations

from typing import Annotated

import msgspec

from tenfold.contracts.errors import TenfoldError
from tenfold.contracts.structs import Struct

__all__ = ["SplitAsked", "SplitRolledBackError"]


class SplitAsked(Struct):
    """Let a module be a service of its own; or with `back` be hosted by the web processes again.

    `service` is its name, the module's if empty, with `replicas` and `workers` as in
    `[topologies.X.services.NAME]`. The share of calls that goes the new way is raised step by
    step, and watched for `step_s` each; where more than `most_faults` of them fail, all goes
    back as it was.
    """

    module: str
    back: bool = False
    service: str = ""
    replicas: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    workers: Annotated[int, msgspec.Meta(ge=0, le=256)] = 0
    step_s: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = 10.0
    most_faults: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.01


class SplitRolledBackError(TenfoldError):
    """A module was not split, or not taken back; everything is as it was before."""

    code = "split.rolled_back"
