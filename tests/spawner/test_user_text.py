"""What a user types stays text: the manifest differs from the one of a harmless text in the declared place alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tornado import web

from profile_spawner.demo.cluster.environment import expand
from profile_spawner.params.definition import Param
from profile_spawner.profiles.base import BaseAppProfile
from profile_spawner.profiles.registry import profile_registry
from profile_spawner.profiles.resources import ConfigMap, InitContainer, Manifest
from profile_spawner.profiles.template import Template
from profile_spawner.spawner import ProfileSpawner

pytestmark = [pytest.mark.hub5]

HARMLESS = "abc"
PAYLOADS = (
    "{username}",
    "{username.__class__}",
    "{nope}",
    "{userid:>300000000}",
    "{",
    "}}{{",
    "{{ username }}",
    "{{ area/typed }}",
    "{{ cycler.__init__.__globals__ }}",
    "{% raw %}",
    "{value}",
    "%s %(x)s %n",
    "$(HOME)",
    "$$(HOME)",
    "$$$(LAST)",
    "$(LAST) $(TYPED)",
    "$",
    "a; rm -rf / #",
    "`id` $(id) | tee",
    "a\nb",
    "a\x00b",
    "a\x1b[31m",
    "a\u2028b",
    "../../etc/passwd",
    "<script>alert(1)</script>",
    "'\"\\",
    "key: [value",
    "x" * 64,
    "-a",
    "ünïcödé ✓",
)
SINKS = {
    "TYPED": {"environment": {"TYPED": "{value}"}},
    "mixed": {"environment": {"MIXED": "{username}-{value}-$(LAST)"}},
    "label": {"extra_labels": {"team": "{value}"}},
    "note": {"extra_annotations": {"note": "{value}"}},
    "args": {"args": ["--title={value}", "{value}"]},
    "url": {"default_url": "/lab/{value}"},
    "folder": {"notebook_dir": "/home/{value}"},
    "selector": {"node_selector": {"pool": "{value}"}},
    "sidecar": {
        "extra_containers": [
            {"name": "side", "image": "a:1", "args": ["{value}"], "env": [{"name": "S", "value": "{value}"}]}
        ]
    },
}
OPTIONS = {
    **{name: {"type": "text", "kubespawner_override": override} for name, override in SINKS.items()},
    "image": {
        "choices": {"a": {"kubespawner_override": {"image": "a:1"}}},
        "unlisted_choice": {"enabled": True, "kubespawner_override": {"image": "reg/{value}"}},
    },
}
ENVIRONMENT = {"A": "$(LAST)/a", "LAST": "z", "ZZ": "$(TYPED)"}
RAW = {
    "slug": "raw",
    "display_name": "Raw",
    "kubespawner_override": {"environment": ENVIRONMENT},
    "profile_options": OPTIONS,
}


class Typed(BaseAppProfile):
    """Everything that can be typed."""

    slug = "typed"
    display_name = description = "Typed"
    image = "a:1"
    profile_options = OPTIONS
    pod_env_vars = {**ENVIRONMENT, "PARAM": "{{ area/typed }}", "PARAMS": "<{{ area/typed }}>", "WHO": "{{ username }}"}
    user_settable = ("area/typed",)

    def get_init_containers(self) -> list[InitContainer]:
        """Return one that is told."""
        return [InitContainer(name="init", command=("true",), env={"PARAM": Template("{{ area/typed }}")})]

    def get_config_maps(self) -> list[ConfigMap]:
        """Return a file that is told."""
        return [ConfigMap(name="file", key="file", content=Template("[{{ area/typed }}]"), mount_path="/etc/file")]

    def get_manifests(self) -> list[Manifest]:
        """Return a Deployment that is told."""
        container = {"name": "c", "image": "c:1", "args": [Template("{{ area/typed }}")]}
        template = {"spec": {"containers": [container]}}
        name = Template("d-{{ server_slug }}")
        body = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {"template": template},
        }
        return [Manifest(name="d", content=(body,))]


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """Registrations end with the test."""
    profile_registry.clear()
    schema = {"type": "string", "maxLength": 200}
    profile_registry.register_param(Param("area/typed", schema=schema, default="abc", user_settable=True))
    profile_registry.register(Typed)
    yield
    profile_registry.clear()


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield every value with its path; the order of lists counts."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list) and value:
        for number, item in enumerate(value):
            yield from leaves(item, (*path, number))
    else:
        yield path, value


async def made(spawner: Any, profile: str, option: str, text: str) -> dict[tuple[Any, ...], Any]:
    """Return everything that a start would create."""
    spawner.user_options = {"profile": profile, option: text}
    spawner.clear_state()
    await spawner.apply_choice(spawner.user_options)
    await spawner.load_user_options()
    pod = spawner.api.api_client.sanitize_for_serialization(await spawner.get_pod_manifest())
    build = spawner.chosen.build
    objects = [[o.kind, dict(o.body)] for o in build.objects] if build is not None else []
    for volume in pod["spec"].get("volumes", ()):
        volume.get("configMap", {}).pop("name", None)  # made of the content
    return dict(leaves({"pod": pod, "objects": objects}))


# Where the text may be seen, and how Kubernetes reads it there.
PLACES: dict[str, dict[str, str]] = {
    "TYPED": {"TYPED": "{}"},
    "mixed": {"MIXED": "mock-name---6241db84-{}-z"},
    "url": {"JUPYTERHUB_DEFAULT_URL": "/lab/{}"},
    "folder": {"JUPYTERHUB_ROOT_DIR": "/home/{}"},
    "image--unlisted-choice": {"JUPYTER_IMAGE": "reg/{}", "JUPYTER_IMAGE_SPEC": "reg/{}"},
    "area/typed": {"PARAM": "{}", "PARAMS": "<{}>"},
}
PATHS: dict[str, tuple[str, ...]] = {
    "label": ("metadata", "labels", "team"),
    "note": ("metadata", "annotations", "note"),
    "args": ("spec", "containers", "args"),
    "selector": ("spec", "nodeSelector", "pool"),
    "sidecar": ("spec", "containers", "args"),
    "image--unlisted-choice": ("spec", "containers", "image"),
}


def environment_of(found: dict[tuple[Any, ...], Any]) -> list[tuple[str, Any]]:
    """Return the names and values of the main container's environment, in order."""
    base = ("pod", "spec", "containers", 0, "env")
    names = {path[5]: value for path, value in found.items() if path[:5] == base and path[6] == "name"}
    return [(name, found.get((*base, number, "value"))) for number, name in sorted(names.items())]


def check(option: str, text: str, harmless: dict[tuple[Any, ...], Any], found: dict[tuple[Any, ...], Any]) -> None:
    """Compare what two texts make."""
    assert found.keys() == harmless.keys()
    changed = {path for path, value in found.items() if value != harmless[path]}
    inside = {"area/typed": ("initContainers", "file", "Deployment")}
    variables = PLACES.get(option, {})
    before, after = environment_of(harmless), environment_of(found)
    assert [name for name, _ in before] == [name for name, _ in after]
    values: dict[str, str] = {}
    for (name, old), (_, new) in zip(before, after, strict=True):
        values[name] = expand(new or "", values)
        if name in variables:
            assert values[name] == variables[name].replace("{}", text)
        else:
            assert old == new
    for path in changed:
        told = ".".join(str(p) for p in path if not isinstance(p, int))
        if path[:5] == ("pod", "spec", "containers", 0, "env"):
            continue
        if option in PATHS and path[0] == "pod" and path[1] == "spec" and "args" in path:
            prefix = "--title=" if str(found[path]).startswith("--title=") else ""
            assert expand(found[path], {"LAST": "z"}) == prefix + text
        elif option == "sidecar" and "env" in path:
            assert expand(found[path], {}) == text
        elif option in PATHS:
            assert tuple(p for p in path[1:] if not isinstance(p, int)) == PATHS[option]
            assert found[path] == ("reg/" if "image" in path else "") + text
        elif option == "area/typed" and path[0] == "objects":
            data = "data" in path
            assert (found[path] if data else expand(found[path], {})) == (f"[{text}]" if data else text)
        else:
            assert option in inside, told
            assert expand(found[path], {}) == text


KINDS = [("typed", o) for o in (*SINKS, "image--unlisted-choice", "area/typed")] + [
    ("raw", o) for o in (*SINKS, "image--unlisted-choice")
]


def all_payloads(function: Any) -> Any:
    """Add every payload as an example."""
    for payload in PAYLOADS:
        function = example(payload)(function)
    return function


@pytest.mark.parametrize(("profile", "option"), KINDS, ids=lambda value: value)
async def test_only_the_declared_place_differs(make_spawner: Any, profile: str, option: str) -> None:
    """Format strings, `$(VAR)`, shell, new lines, NUL, templates: refused with 400, or nothing but text."""
    spawner = make_spawner(ProfileSpawner, {}, profile_list=[RAW])
    harmless = await made(spawner, profile, option, HARMLESS)
    loop = asyncio.get_running_loop()
    accepted = 0

    @all_payloads
    @settings(max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.text(max_size=60))
    def try_texts(text: str) -> None:
        nonlocal accepted
        text = text.strip()
        if not text:
            return
        try:
            found = asyncio.run_coroutine_threadsafe(made(spawner, profile, option, text), loop).result(60)
        except web.HTTPError as e:
            if e.status_code != 400:
                raise
            return
        accepted += 1
        check(option, text, harmless, found)

    await asyncio.to_thread(try_texts)
    assert accepted or option in ("label", "selector")
