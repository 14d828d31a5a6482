"""A profile that needs more than the hub may do is shown as unavailable, with the reason."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from profile_spawner.hub.rights import Rights
from profile_spawner.kube.connection import close, default_api_client
from profile_spawner.kube.rbac import required_rules
from profile_spawner.profiles.access import UserInfo
from profile_spawner.profiles.base import BaseAppProfile
from profile_spawner.profiles.registry import Collector
from profile_spawner.profiles.resources import ConfigMap
from profile_spawner.profiles.selection import Rejection
from tests.snapshots import snapshot_of


class Plain(BaseAppProfile):
    """Needs nothing but a pod."""

    slug = "plain"
    display_name = description = "Plain"
    image = "a:1"


class WithFiles(Plain):
    """Needs a ConfigMap."""

    slug = "files"

    def get_config_maps(self) -> list[ConfigMap]:
        """Return a file."""
        return [ConfigMap(name="motd", key="motd", content="hello", mount_path="/etc/motd.d/x")]


async def test_a_profile_that_the_hub_may_not_make_is_unavailable_until_it_may(
    control_plane: Any, namespace: str, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The others can be started; with the right granted, all is well again, without a restart."""
    caplog.set_level(logging.INFO)
    collector = Collector("test")
    collector.add(Plain)
    collector.add(WithFiles)
    snapshot = await snapshot_of(collector)
    user = f"hub-{namespace}"
    await control_plane.grant(namespace, user, required_rules([], claims=False, delete_claims=False))
    kubeconfig = control_plane.write_kubeconfig(tmp_path / "kubeconfig", user, namespace=namespace)
    api_client = await default_api_client(kubeconfig)
    rights = Rights(logging.getLogger("test"))
    try:
        await rights.check(api_client, namespace, snapshot, delete_claims=True)
        assert set(rights.lacking) == {"ConfigMap"}
        seen = rights.available(snapshot)
        assert seen is rights.available(snapshot)
        ada = UserInfo("ada")
        refused = seen.select({"profile": "files"}, ada)
        assert isinstance(refused, Rejection)
        assert "not allowed to make what it needs (ConfigMap)" in refused.message
        assert not isinstance(seen.select({"profile": "plain"}, ada), Rejection)
        assert seen.default_for(ada) == "plain"
        assert "profiles with ConfigMap are not available" in caplog.text
        assert "create, delete, get, list configmaps" in caplog.text

        caplog.clear()
        create = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]}
        await control_plane.grant(namespace, user, [create])
        await rights.check(api_client, namespace, snapshot, delete_claims=True)
        assert rights.available(snapshot) is snapshot
        assert "Servers start without them" in caplog.text
        assert "delete, get, list persistentvolumeclaims" in caplog.text

        await control_plane.grant(namespace, user, required_rules(["ConfigMap"]))
        await rights.check(api_client, namespace, snapshot, delete_claims=True)
        assert "has all rights" in caplog.text
    finally:
        await close(api_client)
