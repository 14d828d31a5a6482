"""Fixtures for the tests of the local cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.control_plane import ControlPlane
from tests.demo.cluster.kubelet_support import Cluster


@pytest_asyncio.fixture(loop_scope="session")
async def cluster(control_plane: ControlPlane, namespace: str) -> AsyncIterator[Cluster]:
    """A namespace of the test's own, as its administrator sees it."""
    opened = await Cluster.open(control_plane, namespace)
    yield opened
    await opened.client.close()
