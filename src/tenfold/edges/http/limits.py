"""Limits as HTTP tells them, and the client's address that they count by."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Mapping, Sequence

from tenfold.contracts.errors import RateLimitedError, UserMistakeError
from tenfold.edges.http.asgi import Headers, Scope
from tenfold.path.limits import Allowance

__all__ = ["Addresses", "limit_headers", "refusal_headers"]

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Addresses:
    """Whose address a request comes from.

    Only a proxy that is trusted is believed about it: from the right, the first
    address that is none of theirs. What stands further left anybody may write.

    Args:
        trusted: networks of proxies, such as `10.0.0.0/8`; `unix` for a socket file.
        header: what they write it into, `x-forwarded-for` or `forwarded` (RFC 7239). They
            pass on the other one as it came, so that only one may be believed.
    Raises: UserMistakeError for what is no network.
    """

    def __init__(self, trusted: Sequence[str], header: str = "x-forwarded-for") -> None:
        self._unix = "unix" in trusted
        self._header = header.encode("ascii")
        self._networks: list[_Network] = []
        for text in trusted:
            if text == "unix":
                continue
            try:
                self._networks.append(ipaddress.ip_network(text, strict=False))
            except ValueError as error:
                raise UserMistakeError(
                    f"trusted_proxies names {text!r}, which is no network: {error}. Write an "
                    'address such as "10.0.0.7", a network such as "10.0.0.0/8", or "unix".'
                ) from error

    def of(self, scope: Scope, headers: Mapping[bytes, bytes]) -> str | None:
        """The client's address; None where it is not known."""
        client = scope.get("client")
        nearest = client[0] if client else None
        if not self._trusts(nearest):
            return nearest
        sent = headers.get(self._header)
        if sent is None:
            return nearest
        found = nearest
        for part in reversed(sent.decode("latin-1").split(",")):
            address = _address(part, named=self._header == b"forwarded")
            if address is None:
                return found  # it hides behind a name, or lies: the proxy before it is known
            found = address
            if not self._trusts(address):
                return address
        return found

    def _trusts(self, address: str | None) -> bool:
        if address is None:
            return self._unix
        if not self._networks:
            return False
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return self._unix
        return any(parsed in network for network in self._networks)


def limit_headers(allowances: Sequence[Allowance]) -> Headers:
    """`RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-11)."""
    return [
        (
            b"ratelimit-policy",
            ", ".join(
                f'"{a.policy.name}";q={a.policy.rate.limit};w={a.policy.rate.window_s}'
                for a in allowances
            ).encode("ascii"),
        ),
        (
            b"ratelimit",
            ", ".join(
                f'"{a.policy.name}";r={a.left};t={math.ceil(a.reset_s)}' for a in allowances
            ).encode("ascii"),
        ),
    ]


def refusal_headers(error: RateLimitedError) -> Headers:
    """What an answer 429 says of the limit that is used up, and when to come again."""
    after = max(1, math.ceil(error.retry_after_s))
    return [
        (b"retry-after", b"%d" % after),
        (
            b"ratelimit-policy",
            f'"{error.policy}";q={error.limit};w={error.window_s}'.encode("ascii"),
        ),
        (b"ratelimit", f'"{error.policy}";r=0;t={after}'.encode("ascii")),
    ]


def _address(part: str, *, named: bool) -> str | None:
    """The address in one element of a list; None where there is none that can be read."""
    text = part.strip()
    if named:
        pairs = (pair.partition("=") for pair in text.split(";"))
        text = next((v for name, _, v in pairs if name.strip().lower() == "for"), "").strip('" ')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
