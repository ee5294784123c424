"""How the processes of services reach one another over TCP: what a topology says of it, checked.

Both ends show certificates of one authority, whose DNS names are names of the topology's
services. So a caller knows whom it asks whatever its address, and who is called knows that
what comes is believed for a reason.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

from tenfold.adapters.frames.addresses import Address, parse_address
from tenfold.contracts.errors import UserMistakeError
from tenfold.runtimes.places import Origins
from tenfold.runtimes.settings import ServiceSettings, TlsSettings

__all__ = ["GATEWAY", "addresses_of", "caller_tls", "check_reach", "server_tls"]

GATEWAY = "gateway"
"""What the certificate of a gateway's machine names, beside the services there."""
_ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def check_reach(
    services: Mapping[str, ServiceSettings], tls: TlsSettings, origins: Origins
) -> None:
    """Refuse services that cannot be reached, or by whoever likes."""
    for name, service in services.items():
        keys = ("services", name)
        if name == GATEWAY and (service.listen or service.addresses):
            raise origins.mistake(
                keys,
                "`gateway` stands for gateways in certificates.",
                "Name the service otherwise.",
            )
        for key, texts in (("listen", (service.listen,)), ("addresses", service.addresses)):
            for text in filter(None, texts):
                try:
                    found = parse_address(text)
                except ValueError as error:
                    raise origins.mistake(
                        (*keys, key), f"of the service {name!r}: {error}", "Write HOST:PORT."
                    ) from error
                if key == "listen" and found.every:
                    raise origins.mistake(
                        (*keys, key),
                        f"the service {name!r} is to listen at a name.",
                        "Write the address of this machine, or 0.0.0.0 for all that it has.",
                    )
        if not service.replicas and not service.addresses:
            raise origins.mistake(
                (*keys, "replicas"),
                f"no process of the service {name!r} answers on this machine, and none is known "
                "elsewhere.",
                "Say where it is under `addresses`, or have a replica.",
            )
        if service.replicas and service.addresses and not service.listen:
            raise origins.mistake(
                (*keys, "addresses"),
                f"callers are to find the service {name!r} at addresses, and its replicas on this "
                "machine listen at none.",
                "Say where under `listen`, or have no `replicas` here.",
            )
        if service.listen or service.addresses:
            missing = [
                each for each in ("certificate", "key", "authority") if not getattr(tls, each)
            ]
            if missing:
                raise origins.mistake(
                    (*keys, "listen" if service.listen else "addresses"),
                    f"the service {name!r} is reached over TCP, where anybody might connect, and "
                    f"the topology names no {' and no '.join(missing)}.",
                    f"Name PEM files as {', '.join(missing)} in the table `tls`.",
                )


def addresses_of(service: ServiceSettings) -> tuple[Address, ...]:
    """Where callers on this machine find a service; none for one at its Unix socket."""
    if service.addresses:
        return tuple(parse_address(each) for each in service.addresses)
    if not service.listen:
        return ()
    found = parse_address(service.listen)
    return (Address(host=_ANY_HOST.get(found.host, found.host), port=found.port),)


def server_tls(settings: TlsSettings, root: Path) -> ssl.SSLContext:
    """What who is called shows and asks for. Raises: UserMistakeError. Paths are below `root`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    return _loaded(context, settings, root)


def caller_tls(settings: TlsSettings, root: Path) -> ssl.SSLContext:
    """What a caller shows and asks for; otherwise as `server_tls`."""
    return _loaded(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), settings, root)


def _loaded(context: ssl.SSLContext, settings: TlsSettings, root: Path) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    certificate, key, authority = (
        root / Path(each).expanduser()
        for each in (settings.certificate, settings.key, settings.authority)
    )
    for path in (certificate, key, authority):
        if not path.is_file():
            raise UserMistakeError(
                f"There is no file {path}, which the topology names under `tls`. Nothing was "
                "started. Put it there, or name another."
            )
    try:
        context.load_cert_chain(certificate, key)
        context.load_verify_locations(authority)
    except (OSError, ssl.SSLError) as error:
        raise UserMistakeError(
            f"The certificate {certificate} with its key {key}, or the authority {authority}, "
            f"cannot be used: {error}. Nothing was started. They are PEM files, and go together."
        ) from error
    return context
