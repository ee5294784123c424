"""`tenfold` as it is shipped, but that its processes are `growth_child`ren."""

from __future__ import annotations

import sys
from functools import partial

from tenfold.cli.entry import main
from tenfold.runtimes import starting
from tenfold.runtimes.supervisor import Supervision

if __name__ == "__main__":
    vars(starting)["Supervision"] = partial(
        Supervision, command=(sys.executable, "-m", "tests.faults.growth_child")
    )
    sys.argv[0] = "tenfold"
    sys.exit(main())
