"""No test talks to the internet: a socket guard allows loopback only."""

from __future__ import annotations

import signal
import socket
from typing import Any

import pytest

# A job in the background ignores Ctrl-C, and so would every process that the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

LOOPBACK = ("127.", "::1", "localhost")


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else "unix socket"
        if isinstance(address, tuple) and not str(host).startswith(LOOPBACK):
            raise AssertionError(f"a test tried to connect to {host}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def own_store(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test writes to a store and a cache of its own."""
    monkeypatch.setenv("SEPTET_STORE", str(tmp_path / "septet.db"))
