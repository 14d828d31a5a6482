"""The params of the hub of the corpus: one whose value is a key of a Secret."""

from __future__ import annotations

from profile_spawner import Param, profile_registry

profile_registry.register_param(Param("hub/token", secure=True))
profile_registry.register_collection("global", {"hub/token": {"secret": "lab-tokens", "key": "reader"}})
