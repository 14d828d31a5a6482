"""Gives each pod its own loopback address, unique on the machine.

Linux answers on all of 127.0.0.0/8 without any set-up, so that every pod can listen on its own port 8888.
"""

from __future__ import annotations

import random
import socket

__all__ = ["AddressPool"]


class AddressPool:
    """Gives out addresses of 127.1.0.0/16.

    An address belongs to the process that has bound a socket in the abstract namespace under its name: the kernel gives
    it back when the process ends, however it ends, and the name is as wide as the loopback device is (the network
    namespace).
    """

    def __init__(self) -> None:
        self._claims: dict[str, socket.socket] = {}

    def take(self) -> str:
        """Return an address that no other pod on this machine has."""
        while True:
            address = f"127.1.{random.randrange(256)}.{random.randrange(1, 255)}"  # noqa: S311 - no secret
            claim = socket.socket(socket.AF_UNIX)
            try:
                claim.bind(f"\0profile-spawner/{address}")
            except OSError:
                claim.close()
                continue
            self._claims[address] = claim
            return address

    def give_back(self, address: str) -> None:
        """Let others have `address`."""
        self._claims.pop(address).close()

    def close(self) -> None:
        """Give all addresses back."""
        for address in list(self._claims):
            self.give_back(address)
