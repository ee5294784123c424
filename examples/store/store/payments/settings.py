"""What a topology can say of the payments: which provider, where, and how it is to behave."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

from tenfold import Money, Struct

__all__ = ["PaymentsSettings", "TestProviderSettings"]

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=60)]


class TestProviderSettings(Struct):
    """How the test provider behaves: `[topologies.X.settings.payments.test]`.

    Everything depends on a charge's key, customer and amount alone, so a run
    can be repeated. The shares are of all charges, 0 to 1.
    """

    __test__ = False  # it is no test case, whatever its name begins with

    ledger: str = ""
    """The provider's own file; `{data}` in it is the data directory. A new one that goes with
    the process when empty, so set it wherever the data stays."""
    decline_share: Share = 0.0
    decline_customers: tuple[str, ...] = ()
    decline_above: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    """By currency, the largest amount that is not declined: `{GBP = "5000.00"}`."""
    silent_share: Share = 0.0
    """Of these it gives no answer to the first question; half of them it charges all the same."""
    silent_s: Seconds = 0.2
    """How long it leaves the caller waiting before the line goes dead."""
    late_share: Share = 0.0
    late_s: Seconds = 0.5
    twice_share: Share = 0.0

    def __post_init__(self) -> None:
        """Refuse a limit that no amount could be compared with."""
        for currency, highest in self.decline_above.items():
            try:
                Money(amount=Decimal(highest), currency=currency)
            except (ArithmeticError, ValueError) as error:
                raise ValueError(
                    f"`decline_above` says {highest!r} for {currency!r}, which is no amount of a "
                    'currency; expected such as { GBP = "5000.00" }'
                ) from error


class PaymentsSettings(Struct):
    """`[topologies.X.settings.payments]`: `provider` is `"test"` or `"http"`.

    `url`, `token` and `timeout_s` are for `"http"`; the token can come from
    the environment, where a file would be the wrong place for it.
    """

    provider: Literal["test", "http"] = "test"
    url: str = ""
    token: str = ""
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 10.0
    test: TestProviderSettings = TestProviderSettings()

    def __post_init__(self) -> None:
        """Refuse `"http"` without the address of a provider."""
        if self.provider != "http":
            return
        try:
            parts = urlsplit(self.url)
            fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(
                f'`provider = "http"` needs `url`, the address of the provider; {self.url!r} is '
                'none. Expected such as "https://api.example.com/v1"'
            )
