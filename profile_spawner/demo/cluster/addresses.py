"""Gives each pod its own loopback address, unique on the machine.

Linux answers on all of 127.0.0.0/8 without any set-up, so that every pod can listen on its own port 8888.
"""

from __future__ import annotations

import random
import socket
from collections import deque

from .failures import LocalClusterError

__all__ = ["AddressPool"]


class AddressPool:
    """Gives out addresses of 127.1.0.0/16.

    The addresses are taken in blocks of 254. A block belongs to the process that has bound a socket in the abstract
    namespace under the block's name: the kernel gives the block back when the process ends, however it ends, and the
    name is as wide as the loopback device is (the network namespace).
    """

    def __init__(self) -> None:
        self._claims: list[socket.socket] = []
        self._free: deque[str] = deque()
        self._untried = random.sample(range(256), 256)

    def take(self) -> str:
        """Return an address that no other pod on this machine has.

        Raises:
            LocalClusterError: All 65 024 addresses are taken.
        """
        if not self._free:
            self._claim()
        return self._free.popleft()

    def give_back(self, address: str) -> None:
        """Return `address` to the pool; it is reused last, so that late clients do not reach another pod."""
        self._free.append(address)

    def close(self) -> None:
        """Give all blocks back."""
        for claim in self._claims:
            claim.close()
        self._claims.clear()
        self._free.clear()

    def _claim(self) -> None:
        while self._untried:
            block = self._untried.pop()
            claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                claim.bind(f"\0profile-spawner/127.1.{block}")
            except OSError:
                claim.close()
                continue
            self._claims.append(claim)
            self._free.extend(f"127.1.{block}.{host}" for host in range(1, 255))
            return
        raise LocalClusterError("no loopback address is left for another pod; 65 024 is the most that fit")
