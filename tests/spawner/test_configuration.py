"""Values that a configuration builds up step by step, and those of the command line, arrive as traitlets means them."""

from __future__ import annotations

import pytest
from traitlets.config import Config
from traitlets.config.loader import KVArgParseConfigLoader

from profile_spawner.spawner import ProfileSpawner
from profile_spawner.spawner.shared import hub_profiles

NAMES = ("profiles_dirs", "builtin_profiles", "param_values", "sweep_interval", "pod_security", "watch_profiles")


@pytest.mark.parametrize("spawner_first", [True, False])
async def test_appended_updated_and_given_on_the_command_line(spawner_first: bool) -> None:
    """What all spawners share reads them like a spawner, whichever comes first."""
    config = Config()
    config.ProfileSpawner.profiles_dirs.append("/a")
    config.ProfileSpawner.profiles_dirs.extend(["/b"])
    config.ProfileSpawner.param_values.update({"hub": {"area/name": 1}})
    line = [
        "--ProfileSpawner.sweep_interval=7",
        "--ProfileSpawner.pod_security=restricted",
        "--ProfileSpawner.watch_profiles=False",
        "--ProfileSpawner.builtin_profiles=all",
    ]
    config.merge(KVArgParseConfigLoader(line).load_config())
    if spawner_first:
        spawner = ProfileSpawner(_mock=True, config=config)
    hub = hub_profiles(config, ProfileSpawner)
    if not spawner_first:
        spawner = ProfileSpawner(_mock=True, config=config)
    found = {name: getattr(hub.settings, name) for name in NAMES}
    assert found == {name: getattr(spawner, name) for name in NAMES}
    assert found == {
        "profiles_dirs": ["/a", "/b"],
        "builtin_profiles": ["all"],
        "param_values": {"hub": {"area/name": 1}},
        "sweep_interval": 7,
        "pod_security": "restricted",
        "watch_profiles": False,
    }
