"""Texts of hooks are literal unless they are templates, so no reference in a user's text is replaced."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from profile_spawner.errors import BuildError
from profile_spawner.params.definition import Param
from profile_spawner.profiles.access import UserInfo
from profile_spawner.profiles.base import BaseAppProfile
from profile_spawner.profiles.context import ServerContext
from profile_spawner.profiles.registry import profile_registry
from profile_spawner.profiles.resources import ConfigMap, InitContainer, Manifest, SecretMount
from profile_spawner.profiles.selection import Rejection
from profile_spawner.profiles.template import Template, as_templates
from tests.snapshots import snapshot_of


class Quoting(BaseAppProfile):
    """Every hook repeats what the user said, beside references of the author."""

    slug = "quoting"
    display_name = description = "Quoting"
    image = "a:1"
    profile_options = {"title": {"type": "text", "kubespawner_override": {"extra_annotations": {"title": "{value}"}}}}
    pod_env_vars = {"STATIC": "{{ area/typed }}"}
    kubespawner_override = {"extra_annotations": {"static": "{username}"}}
    user_settable = ("area/typed",)

    def said(self) -> str:
        """Return all that is the user's."""
        return "|".join((self.choices.get("title", ""), self.user.name, self.server_name, self.params["area/typed"]))

    def get_pod_env_vars(self) -> dict[str, Any]:
        """Return both."""
        return {**self.pod_env_vars, "SAID": self.said(), "SPACE": Template("{{ namespace }}")}

    def get_config_maps(self) -> list[ConfigMap]:
        """Return a literal text and a template."""
        return [
            ConfigMap(name="a", key="a", content=self.said(), mount_path="/etc/a"),
            ConfigMap(name="b", key="b", content=Template("{{ namespace }}|{{ area/typed }}"), mount_path="/etc/b"),
        ]

    def get_init_containers(self) -> list[InitContainer]:
        """Return one."""
        return [
            InitContainer(name="i", command=("true",), env={"SAID": self.said(), "SPACE": Template("{{ namespace }}")})
        ]

    def get_manifests(self) -> list[Manifest]:
        """Return one."""
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": Template("{{ server_slug }}")},
            "data": {"said": self.said(), "space": Template("{{ namespace }}")},
        }
        return [Manifest(name="m", content=(body,))]

    def get_kubespawner_override(self) -> dict[str, Any]:
        """Return a text that KubeSpawner expands, and one that it must not."""
        return {
            **self.kubespawner_override,
            "notebook_dir": f"/{self.said()}",
            "extra_labels": {"a": Template("{username}")},
        }


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
    assert environment["SAID"] == said
    assert environment["SPACE"] == "space"
    assert override["notebook_dir"].format() == f"/{said}"
    assert override["extra_labels"] == {"a": "{username}"}
    assert override["extra_annotations"]["static"] == "{username}"
    assert override["extra_annotations"]["title"].format() == title
    bodies = {name: text for o in build.objects for name, text in o.body.get("data", {}).items()}
    assert bodies["said"] == said
    assert bodies["space"] == "space"
    assert sorted(text for name, text in bodies.items() if name not in ("said", "space")) == sorted(
        (said, f"space|{typed}")
    )
    names = [o.name for o in build.objects if "said" in o.body.get("data", {})]
    assert names == [context.server_slug]
    assert not any(isinstance(text, Template) for text in texts_in([override, [o.body for o in build.objects]]))


async def test_a_users_text_within_a_param_stays_text() -> None:
    """Kubernetes replaces `$(NAME)` in variables; also in a text that came through another param it is escaped."""
    profile_registry.register_param(Param("area/outer", default="<{{ area/typed }}>"))

    class Through(Quoting):
        slug = "through"
        pod_env_vars = {"STATIC": "{{ area/outer }}"}

        def get_config_maps(self) -> list[ConfigMap]:
            return [ConfigMap(name="b", key="b", content=Template("{{ area/outer }}"), mount_path="/etc/b")]

    profile_registry.register(Through)
    snapshot = await snapshot_of(profile_registry.collector)
    selection = snapshot.select({"profile": "through", "area/typed": "$(HOME)"}, UserInfo("ada"))
    assert not isinstance(selection, Rejection), selection
    build = await snapshot.build(selection, ServerContext(UserInfo("ada")))
    assert build.kubespawner_override["environment"]["STATIC"] == "<$$(HOME)>"


def texts_in(value: Any) -> Iterator[str]:
    """Yield all texts inside a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts_in(item)


def test_a_text_made_of_a_template_is_literal() -> None:
    """A user's text that is joined with a template cannot become part of it."""
    template = Template("{{ namespace }}")
    assert not isinstance(template + "{{ username }}", Template)
    assert not isinstance(f"{template}{{{{ username }}}}", Template)
    assert not isinstance(template.replace("namespace", "{{ username }}"), Template)


async def test_attributes_that_a_constructor_sets_are_literal() -> None:
    """A constructor may copy a user's text into an attribute."""

    class Named(BaseAppProfile):
        slug, display_name, image = "named", "Named", "a:1"

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.pod_env_vars = {"USER": self.user.name}

    build = await Named(ServerContext(UserInfo("{{ namespace }}"))).build()
    assert build.kubespawner_override["environment"] == {"USER": "{{{{ namespace }}}}"}


def test_models_keep_templates() -> None:
    """Texts of objects can be templates; names and paths stay as they are."""
    made = as_templates(ConfigMap(name="a", data={"x": "{{ hub }}"}, mount_path="/a"))
    assert isinstance(made.data["x"], Template)
    assert not isinstance(made.mount_path, Template)
    assert isinstance(ConfigMap.model_validate(made.model_dump()).data["x"], Template)  # type: ignore[index]


class Names(BaseAppProfile):
    """Existing objects with names of the user."""

    slug, display_name, image = "names", "Names", "a:1"
    written = "of-{{ username }}"

    def get_env_secrets(self) -> list[str]:
        """Return one."""
        return [self.written]

    def get_secret_mounts(self) -> list[SecretMount]:
        """Return one."""
        return [SecretMount(name=self.written, mount_path="/s")]


async def test_names_of_objects_can_be_templates() -> None:
    """What they become must be a name; a literal text with braces is none."""

    class Templates(Names):
        written = Template("of-{{ username }}")

    override = (await Templates(ServerContext(UserInfo("ada"))).build()).kubespawner_override
    assert override["extra_container_config"]["envFrom"] == [{"secretRef": {"name": "of-ada"}}]
    assert [v["secret"]["secretName"] for v in override["volumes"]] == ["of-ada"]
    with pytest.raises(BuildError, match=r"'of-Ada' cannot be the name of an object.*user_slug"):
        await Templates(ServerContext(UserInfo("Ada"))).build()
    with pytest.raises(BuildError, match=r"'of-{{ username }}' cannot be the name"):
        await Names(ServerContext(UserInfo("ada"))).build()
