"""Fixtures for all tests."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.control_plane", "tests.fault_proxy", "tests.hub"]


def _unused_kubeconfig() -> str:
    """Write a kubeconfig that leads nowhere; KubeSpawner loads one whenever it is made, if only to build a manifest."""
    folder = tempfile.mkdtemp(prefix="profile-spawner-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder) / "kubeconfig"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:9"}}],
        "users": [{"name": "nobody", "user": {}}],
        "contexts": [{"name": "none", "context": {"cluster": "none", "user": "nobody"}}],
        "current-context": "none",
    }
    path.write_text(json.dumps(config))
    return str(path)


# The client reads the variable when it is imported, so a fixture would come too late.
os.environ["KUBECONFIG"] = _unused_kubeconfig()

# A slow machine is not an error.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")
