"""What a user said stays text in hooks, and what the author wrote stays what it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from profile_spawner.params.definition import Param
from profile_spawner.profiles.access import UserInfo
from profile_spawner.profiles.base import BaseAppProfile
from profile_spawner.profiles.context import ServerContext
from profile_spawner.profiles.guarding import guard, is_guarded, unguard
from profile_spawner.profiles.registry import profile_registry
from profile_spawner.profiles.resources import ConfigMap, InitContainer, Manifest
from profile_spawner.profiles.selection import Rejection, Selection
from tests.snapshots import snapshot_of

texts = st.text(st.sampled_from("{}$ aM/\u2063"), max_size=12)


class Quoting(BaseAppProfile):
    """Every hook repeats what the user said, beside references of the author."""

    slug = "quoting"
    display_name = description = "Quoting"
    image = "a:1"
    profile_options = {"title": {"type": "text", "kubespawner_override": {"extra_annotations": {"title": "{value}"}}}}
    pod_env_vars = {"STATIC": "{{ area/typed }}"}
    user_settable = ("area/typed",)

    def said(self) -> str:
        """Return all that is the user's."""
        return "|".join((self.choices.get("title", ""), self.user.name, self.server_name, self.params["area/typed"]))

    def get_pod_env_vars(self) -> dict[str, Any]:
        """Return both."""
        return {**self.pod_env_vars, "SAID": f"{self.said()}|{{{{ namespace }}}}"}

    def get_config_maps(self) -> list[ConfigMap]:
        """Return one that is rendered and one that is not."""
        said = self.said()
        return [
            ConfigMap(name="a", key="a", content=f"{said}|{{{{ namespace }}}}", mount_path="/etc/a"),
            ConfigMap(name="b", key="b", content=said, mount_path="/etc/b", render=False),
        ]

    def get_init_containers(self) -> list[InitContainer]:
        """Return one."""
        return [InitContainer(name="i", command=("true",), env={"SAID": f"{self.said()}|{{{{ namespace }}}}"})]

    def get_manifests(self) -> list[Manifest]:
        """Return one."""
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "{{ server_slug }}"},
            "data": {"said": f"{self.said()}|{{{{ namespace }}}}"},
        }
        return [Manifest(name="m", content=(body,))]

    def get_kubespawner_override(self) -> dict[str, Any]:
        """Return something that nobody renders."""
        return {"notebook_dir": f"/{self.said()}"}


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """Registrations end with the test."""
    profile_registry.clear()
    profile_registry.register_param(Param("area/typed", schema={"type": "string"}, default="abc", user_settable=True))
    profile_registry.register(Quoting)
    yield
    profile_registry.clear()


REFERENCES = ("{{ username }}", "{{ area/typed }}", "{{ namespace }}", "{{{{ username }}", "{{{ username }}}", "{{{{{{")


@pytest.mark.parametrize("title", [*REFERENCES, "plain"])
@pytest.mark.parametrize("typed", ["plain", "{{ username }}", "{{ nope }}"])
@pytest.mark.parametrize("user", ["ada", "{{ username }}"])
@pytest.mark.parametrize("server", ["", "{{ servername }}"])
async def test_hooks_may_quote_the_user(title: str, typed: str, user: str, server: str) -> None:
    """No reference in a user's text is replaced, and none of the author's is left."""
    snapshot = await snapshot_of(profile_registry.collector)
    assert not snapshot.problems
    request = {"profile": "quoting", "title": title, "area/typed": typed}
    who = UserInfo(user)
    selection = snapshot.select(request, who)
    assert not isinstance(selection, Rejection), selection
    context = ServerContext(who, server_name=server, namespace="space")
    build = await snapshot.build(selection, context)
    said = "|".join((title, user, server, typed))
    override = build.kubespawner_override
    environment = {k: v.format() for k, v in override["environment"].items()}  # as KubeSpawner does
    assert environment["STATIC"] == typed
    assert environment["SAID"] == f"{said}|space"
    assert override["notebook_dir"] == f"/{said}"
    bodies = {name: text for o in build.objects for name, text in o.body.get("data", {}).items()}
    assert bodies["said"] == f"{said}|space"
    assert sorted(text for name, text in bodies.items() if name != "said") == sorted((said, f"{said}|space"))
    assert "\u2063" not in repr(build)
    names = [o.name for o in build.objects if "said" in o.body.get("data", {})]
    assert names == [context.server_slug]


@example("{{{{{{{")
@given(texts)
def test_marks_go_without_a_trace(text: str) -> None:
    """Texts come back as they were, and no two braces stand together meanwhile."""
    context = ServerContext(UserInfo(text or "a"), server_name=text)
    selection = Selection("a", {"x": text, "y": (text, 1), "z": {"w": [text]}})
    marked, params, chosen = guard(context, {"p": text}, selection)
    assert unguard(marked) == context
    assert unguard(dict(chosen.values)) == {"x": text, "y": (text, 1), "z": {"w": [text]}}
    assert unguard(params["p"]) == text
    assert unguard(params) == {"p": text}
    assert is_guarded(params) or "{{" not in text
    if is_guarded(params):
        assert "{{" not in marked.user.name + marked.server_name + chosen.values["x"] + params["p"]
        assert list(params) == ["p"]
        assert len(params) == 1
        assert "p" in params
    else:
        assert (marked, chosen) == (context, selection)
