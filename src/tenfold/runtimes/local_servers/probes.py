"""Ask a server on this machine whether it answers, in its own protocol and without a driver."""

from __future__ import annotations

import random
import socket
import struct
from typing import Literal

__all__ = [
    "Answer",
    "free_port",
    "port_is_free",
    "probe_nats",
    "probe_postgres",
    "probe_valkey",
]

Answer = Literal["ready", "starting", "silent"]

_HOST = "127.0.0.1"
_PROTOCOL_3 = 196_608
_STARTING_UP = b"C57P03\0"
_PORTS = range(15_000, 32_000)
"""Below the range from which the system takes ports for outgoing connections."""


def probe_postgres(port: int, *, timeout_s: float = 1.0) -> Answer:
    """Whether a PostgreSQL takes sessions: what it answers to a startup message.

    A server that still recovers refuses with `cannot_connect_now`; any other
    answer means that it serves (PostgreSQL's manual, "Message Flow").
    """
    parameters = b"user\0postgres\0database\0postgres\0application_name\0tenfold-probe\0\0"
    message = struct.pack("!ii", 8 + len(parameters), _PROTOCOL_3) + parameters
    answer = _ask(port, message, timeout_s)
    if not answer:
        return "silent"
    return "starting" if answer[:1] == b"E" and _STARTING_UP in answer else "ready"


def probe_valkey(port: int, password: str, *, timeout_s: float = 1.0) -> Answer:
    """Whether a Valkey (or Redis) answers to this password and has loaded its data."""
    greeting = f"AUTH {password}\r\n".encode() if password else b""
    answer = _ask(port, greeting + b"EXISTS tenfold-probe\r\n", timeout_s, until=b":0\r\n")
    if b":0" in answer:
        return "ready"
    return "starting" if b"-LOADING" in answer else "silent"


def probe_nats(port: int, *, timeout_s: float = 1.0) -> Answer:
    """Whether a NATS takes connections, and has JetStream; it greets whoever comes."""
    answer = _ask(port, b"", timeout_s, until=b"\r\n")
    if b"INFO " not in answer:
        return "silent"
    return "ready" if b'"jetstream":true' in answer else "starting"


def _ask(port: int, message: bytes, timeout_s: float, *, until: bytes | None = None) -> bytes:
    answer = b""
    try:
        with socket.create_connection((_HOST, port), timeout_s) as connection:
            connection.settimeout(timeout_s)
            connection.sendall(message)
            while part := connection.recv(4096):
                answer += part
                if until is None or until in answer or b"\r\n-" in answer or answer[:1] == b"-":
                    break
    except OSError:
        return answer
    return answer


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((_HOST, port))
        except OSError:
            return False
    return True


def free_port(remembered: int = 0) -> int:
    """A free port: the remembered one, so that URLs stay the same, or one by chance."""
    if remembered and port_is_free(remembered):
        return remembered
    chance = random.SystemRandom()
    while not port_is_free(port := chance.choice(_PORTS)):
        pass
    return port
