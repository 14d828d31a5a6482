"""For the same plain `profile_list` and the same choices, the pod is KubeSpawner's, byte for byte."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kubespawner import KubeSpawner
from tornado import web
from traitlets.config.loader import LazyConfigValue

from profile_spawner.spawner import ProfileSpawner

HUB_VOLUMES = [{"name": "home", "persistentVolumeClaim": {"claimName": "claim-{username}"}}]
HUB_SETTINGS = {
    "volumes": HUB_VOLUMES,
    "volume_mounts": [{"name": "home", "mountPath": "/home/jovyan"}],
    "environment": {"FROM_HUB": "1", "TEAM": "all"},
    "cmd": ["jupyterhub-singleuser"],
}

# Every feature that KubeSpawner's documentation of profile_list shows.
CORPUS: dict[str, Any] = {
    "plain": [
        {"display_name": "Training Env - Python", "slug": "training-python", "default": True},
        {
            "display_name": "Training Env - Datascience",
            "slug": "training-datascience",
            "kubespawner_override": {"image": "training/datascience:label", "cpu_limit": 0.5, "mem_limit": "512M"},
        },
    ],
    "no-slug": [{"display_name": "Größe (2 GB)", "kubespawner_override": {"mem_limit": "2G", "mem_guarantee": "1G"}}],
    "mapping": {
        "b": {"display_name": "Second", "kubespawner_override": {"image": "b:1"}},
        "a": {"display_name": "First", "kubespawner_override": {"image": "a:1"}},
    },
    "options": [
        {
            "display_name": "Demo",
            "slug": "demo",
            "default": True,
            "profile_options": {
                "image": {
                    "display_name": "Image",
                    "choices": {
                        "base": {
                            "display_name": "base",
                            "kubespawner_override": {"image": "jupyter/base-notebook:latest"},
                        },
                        "scipy": {
                            "display_name": "scipy",
                            "default": True,
                            "kubespawner_override": {"image": "jupyter/scipy:latest", "environment": {"SCIPY": "1"}},
                        },
                    },
                    "unlisted_choice": {
                        "enabled": True,
                        "display_name": "Other image",
                        "validation_regex": "^[a-z/-]+:[a-z0-9]+$",
                        "validation_message": "must be an image",
                        "kubespawner_override": {
                            "image": "{value}",
                            "environment": {"IMAGE_WAS": "x-{value}-{username}"},
                        },
                    },
                },
                "size": {
                    "display_name": "Size",
                    "choices": {
                        "s": {"display_name": "S", "kubespawner_override": {"cpu_limit": 1, "cpu_guarantee": 0.5}},
                        "l": {"display_name": "L", "kubespawner_override": {"cpu_limit": 8, "cpu_guarantee": 4}},
                    },
                },
            },
            "kubespawner_override": {"default_url": "/lab", "environment": {"TEAM": "demo", "FROM_HUB": None}},
        }
    ],
    "everything": [
        {
            "display_name": "Everything",
            "slug": "everything",
            "description": "All that a list can hold",
            "kubespawner_override": {
                "image": "x/y:z",
                "extra_resource_limits": {"nvidia.com/gpu": "1"},
                "extra_resource_guarantees": {"nvidia.com/gpu": "1"},
                "node_selector": {"pool": "gpu"},
                "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
                "volumes": [{"name": "data-{username}", "emptyDir": {}}],
                "volume_mounts": [{"name": "data-{username}", "mountPath": "/data"}],
                "init_containers": [{"name": "init", "image": "busybox", "command": ["echo", "{username}"]}],
                "extra_containers": [{"name": "side", "image": "busybox"}],
                "extra_labels": {"team": "{username}"},
                "extra_annotations": {"note": "hello"},
                "extra_pod_config": {"dnsPolicy": "None", "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["x"]}]},
                "extra_container_config": {"envFrom": [{"configMapRef": {"name": "x"}}]},
                "lifecycle_hooks": {"postStart": {"exec": {"command": ["/bin/true"]}}},
                "environment": {"A": {"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}, "B": "{username}"},
                "uid": 1234,
                "gid": 100,
                "fs_gid": 100,
                "supplemental_gids": [1, 2],
                "privileged": False,
                "working_dir": "/data",
                "service_account": "sa",
                "scheduler_name": "other",
                "priority_class_name": "high",
                "image_pull_policy": "Always",
                "image_pull_secrets": ["pull"],
                "node_affinity_required": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}],
                "cmd": ["start.sh", "jupyterhub-singleuser"],
                "args": ["--debug"],
            },
        }
    ],
    "callables": [
        {
            "display_name": "Callable",
            "slug": "callable",
            "kubespawner_override": {
                "environment": lambda spawner: {"WHO": f"{spawner.user.name}-x"},
                "image": lambda spawner: "from/callable:1",
            },
        }
    ],
}


async def manifest(make_spawner: Callable[..., Any], cls: type, profile_list: Any, options: dict[str, Any]) -> str:
    """Return the pod as it would be sent, as text."""
    spawner = make_spawner(cls, dict(options), profile_list=profile_list, **copy.deepcopy(HUB_SETTINGS))
    await spawner.load_user_options()
    pod = await spawner.get_pod_manifest()
    return json.dumps(spawner.api.api_client.sanitize_for_serialization(pod), indent=1)


def requests_of(profile_list: Any) -> list[dict[str, Any]]:
    """Return every combination of choices of every profile, and the empty request."""
    entries = list(profile_list.values()) if isinstance(profile_list, dict) else profile_list
    result: list[dict[str, Any]] = [{}]
    for entry in entries:
        if "slug" not in entry:
            continue
        choices: list[list[dict[str, str]]] = []
        for name, option in entry.get("profile_options", {}).items():
            values: list[dict[str, str]] = [{}] + [{name: c} for c in option.get("choices", {})]
            if option.get("unlisted_choice", {}).get("enabled"):
                values.append({f"{name}--unlisted-choice": "my/image:7"})
            choices.append(values)
        for combination in itertools.product(*choices):
            request = {"profile": entry["slug"]}
            for values_ in combination:
                request.update(values_)
            result.append(request)
    return result


CASES = [(name, request) for name, listed in CORPUS.items() for request in requests_of(listed)]


@pytest.mark.parametrize(("name", "request_"), CASES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(CASES)])
async def test_the_corpus_makes_the_same_pods(make_spawner: Any, name: str, request_: dict[str, Any]) -> None:
    """Every documented feature of profile_list, with every combination of choices."""
    expected = await manifest(make_spawner, KubeSpawner, CORPUS[name], request_)
    assert await manifest(make_spawner, ProfileSpawner, CORPUS[name], request_) == expected


async def test_a_callable_list_makes_the_same_pods(make_spawner: Any) -> None:
    """Also when the list is made for each user, synchronously or not."""

    async def listed(spawner: Any) -> Any:
        return CORPUS["options"]

    for profile_list in (listed, lambda spawner: CORPUS["plain"]):
        expected = await manifest(make_spawner, KubeSpawner, profile_list, {})
        assert await manifest(make_spawner, ProfileSpawner, profile_list, {}) == expected


async def test_an_appended_list_makes_the_same_pods(make_spawner: Any) -> None:
    """`c.KubeSpawner.profile_list.append(...)` starts from an empty list, as with KubeSpawner."""

    def appended() -> LazyConfigValue:
        lazy = LazyConfigValue()
        for entry in CORPUS["plain"]:
            lazy.append(entry)
        return lazy

    for request in requests_of(CORPUS["plain"]):
        expected = await manifest(make_spawner, KubeSpawner, appended(), request)
        assert await manifest(make_spawner, ProfileSpawner, appended(), request) == expected


async def test_without_profiles_it_is_a_plain_kubespawner(make_spawner: Any) -> None:
    """No list and no source: no form, and the same pod."""
    expected = await manifest(make_spawner, KubeSpawner, [], {})
    assert await manifest(make_spawner, ProfileSpawner, [], {}) == expected
    assert await make_spawner(ProfileSpawner).get_options_form() == ""


async def test_names_of_a_profile_are_those_of_its_servers(make_spawner: Any) -> None:
    """KubeSpawner reads the templates before it knows the profile. Afterwards the hub's own names are there again."""
    override = {
        "pod_name_template": "gpu-{username}",
        "pvc_name_template": "data-{username}",
        "secret_name_template": "ssl-{username}",
        "dns_name_template": "{name}.{namespace}.example.org",
        "working_dir": "/home/{username}",
        "volumes": [{"name": "home", "persistentVolumeClaim": {"claimName": "{pvc_name}"}}],
    }
    listed = [{"display_name": "A", "kubespawner_override": override}]
    spawner = make_spawner(ProfileSpawner, profile_list=listed, pod_name_template="hub-{username}")
    user, names = spawner.expanded("{username}"), ("pod_name", "pvc_name", "secret_name", "dns_name", "working_dir")
    before = {name: getattr(spawner, name) for name in names}
    spawner._pvc_exists = True
    await spawner.load_user_options()
    spec = (await spawner.get_pod_manifest()).spec
    assert spec.volumes[0].persistent_volume_claim["claimName"] == f"data-{user}"
    assert (spec.containers[0].working_dir, spawner.identity().pod_name) == (f"/home/{user}", f"gpu-{user}")
    assert (spawner.secret_name, spawner.dns_name) == (f"ssl-{user}", f"gpu-{user}.default.example.org")
    assert not spawner._pvc_exists
    spawner.clear_state()
    assert {name: getattr(spawner, name) for name in names} == before


async def test_typed_numbers_reach_traits_that_are_numbers(make_spawner: Any) -> None:
    """KubeSpawner refuses to start the server, since they are texts. What is no such number is the user's message."""
    typed: dict[str, Any] = {
        "cpu_limit": ("1.5", 1.5, "two"),
        "mem_limit": ("2G", 2 * 2**30, "2Gi"),
        "mem_guarantee": ("1024", 1024, "-1"),
        "uid": ("1234", 1234, "root"),
        "start_timeout": (" 90 ", 90, "1.5"),
        "extra_resource_limits": ("2", {"nvidia.com/gpu": "2"}, "some"),
    }
    overrides = dict.fromkeys(typed, "{value}") | {"extra_resource_limits": {"nvidia.com/gpu": "{value}"}}
    option = {"display_name": "Typed", "unlisted_choice": {"enabled": True}}
    options = {
        name: {**option, "unlisted_choice": {"enabled": True, "kubespawner_override": {name: override}}}
        for name, override in overrides.items()
    }
    listed = [{"display_name": "A", "profile_options": options}]
    request = {f"{name}--unlisted-choice": text for name, (text, _, _) in typed.items()}
    spawner = make_spawner(ProfileSpawner, request, profile_list=listed)
    await spawner.load_user_options()
    assert {name: getattr(spawner, name) for name in typed} == {name: value for name, (_, value, _) in typed.items()}
    for name, (_, _, wrong) in typed.items():
        spawner = make_spawner(ProfileSpawner, {**request, f"{name}--unlisted-choice": wrong}, profile_list=listed)
        with pytest.raises(web.HTTPError) as refused:
            await spawner.load_user_options()
        assert refused.value.status_code == 400, name
        assert "must be a" in refused.value.log_message


async def test_text_of_other_languages_beside_a_typed_value_stays(make_spawner: Any) -> None:
    """KubeSpawner fails on JSON, and leaves other braces."""
    texts = ["awk '{print $1}'", "${HOME}", '{"a": 1}', "{x!r}", "{{a}}", "{value}"]
    unlisted = {"enabled": True, "kubespawner_override": {"args": texts}}
    listed = [{"display_name": "A", "profile_options": {"o": {"unlisted_choice": unlisted}}}]
    spawner = make_spawner(ProfileSpawner, {"o--unlisted-choice": "typed"}, profile_list=listed)
    await spawner.load_user_options()
    assert spawner.args == ["awk '{print $1}'", "${HOME}", '{"a": 1}', "{x}", "{a}", "typed"]


names = st.text("abcdefg", min_size=1, max_size=3)
texts = st.text("abc {}$()", max_size=8).map(lambda t: t.replace("{", "").replace("}", ""))
overrides = st.fixed_dictionaries(
    {},
    optional={
        "image": texts.map(lambda t: "img/" + t.strip().replace(" ", "-")),
        "cpu_limit": st.floats(0.1, 8),
        "mem_limit": st.sampled_from(["1G", "512M", 1024, None]),
        "environment": st.dictionaries(names, texts | st.just("{username}"), max_size=3),
        "node_selector": st.dictionaries(names, names, max_size=2),
        "extra_resource_limits": st.dictionaries(names, st.just("1"), max_size=2),
        "extra_labels": st.dictionaries(names, names, max_size=2),
        "volumes": st.lists(st.fixed_dictionaries({"name": names, "emptyDir": st.just({})}), max_size=2),
        "tolerations": st.lists(st.fixed_dictionaries({"key": names, "operator": st.just("Exists")}), max_size=2),
        "extra_container_config": st.dictionaries(st.just("workingDir"), names, max_size=1),
        "default_url": st.just("/lab"),
    },
)
options = st.dictionaries(
    names,
    st.builds(
        lambda choices, unlisted: {"display_name": "o", "choices": choices, **unlisted},
        st.dictionaries(
            names,
            st.builds(
                lambda o, d: {"display_name": "c", "kubespawner_override": o, "default": d}, overrides, st.booleans()
            ),
            min_size=1,
            max_size=3,
        ),
        st.sampled_from([{}, {"unlisted_choice": {"enabled": True, "kubespawner_override": {"image": "u/{value}"}}}]),
    ),
    max_size=3,
)
profiles = st.lists(
    st.builds(
        lambda slug, override, opts, default: {
            "display_name": slug,
            "slug": slug,
            "default": default,
            "kubespawner_override": override,
            "profile_options": opts,
        },
        names,
        overrides,
        options,
        st.booleans(),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda p: p["slug"],
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(listed=profiles, data=st.data())
def test_generated_lists_make_the_same_pods(make_spawner: Any, listed: Any, data: Any) -> None:
    """Any list of any overrides and options, with any valid choice."""
    import asyncio

    entry = data.draw(st.sampled_from(listed))
    request: dict[str, Any] = {"profile": entry["slug"]}
    for name, option in entry["profile_options"].items():
        chosen = data.draw(st.sampled_from([None, "typed", *option["choices"]]))
        if chosen == "typed" and "unlisted_choice" in option:
            request[f"{name}--unlisted-choice"] = "typed"
        elif chosen in option["choices"]:
            request[name] = chosen

    async def both() -> tuple[str, str]:
        return (
            await manifest(make_spawner, KubeSpawner, listed, request),
            await manifest(make_spawner, ProfileSpawner, listed, request),
        )

    expected, ours = asyncio.run(both())
    assert ours == expected
