"""Certificates of an authority made for a test."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme

from tenfold.runtimes.reach import caller_tls, server_tls
from tenfold.runtimes.settings import TlsSettings

__all__ = ["Authority"]


class Authority:
    """Signs certificates, and writes them where a topology would have them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self._signs = trustme.CA()
        self._signs.cert_pem.write_to_path(folder / "authority.pem")

    def settings(self, *names: str) -> TlsSettings:
        """Of a machine whose certificate has such names."""
        made = self._signs.issue_cert(*names)
        stem = "-".join(names)
        made.private_key_pem.write_to_path(self.folder / f"{stem}.key")
        chain = b"".join(each.bytes() for each in made.cert_chain_pems)
        (self.folder / f"{stem}.pem").write_bytes(chain)
        return TlsSettings(certificate=f"{stem}.pem", key=f"{stem}.key", authority="authority.pem")

    def server(self, *names: str) -> ssl.SSLContext:
        """What a process shows that is called."""
        return server_tls(self.settings(*names), self.folder)

    def caller(self, *names: str) -> ssl.SSLContext:
        """What a caller shows."""
        return caller_tls(self.settings(*names), self.folder)
