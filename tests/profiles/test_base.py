"""What `BaseAppProfile` checks when a class is registered, and what it builds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from profile_spawner import ConfigMap, Param, Volume, VolumeMount
from profile_spawner.errors import BuildError, ConflictError, ParamError, ProfileDefinitionError, shorten
from profile_spawner.profiles.access import Access, UserInfo
from profile_spawner.profiles.base import BaseAppProfile, check_profile_class
from profile_spawner.profiles.class_profile import ClassProfile
from profile_spawner.profiles.context import ServerContext
from profile_spawner.profiles.selection import Selection


class Plain(BaseAppProfile):
    """The least that a profile needs."""

    slug = "plain"
    display_name = "Plain"
    description = "Nothing special"
    image = "a:1"


def derived(**attributes: Any) -> type[BaseAppProfile]:
    """Return a profile with these attributes and hooks."""
    return type("Derived", (Plain,), attributes)


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"slug": ""}, ["slug", "is required", 'Add slug = "..."']),
        ({"image": ""}, ["image", "is required"]),
        ({"image": "two words"}, ["profile 'plain'", "image", "(got two words)", "must be an image"]),
        ({"cpu_guarantee": 4, "cpu_limit": 2}, ["cpu_guarantee", "is more than cpu_limit (2)"]),
        ({"mem_guarantee": "2G", "mem_limit": "512M"}, ["mem_guarantee", "is more than mem_limit (512M)"]),
        ({"tags": Param.ref("a/b")}, ["tags", "must be known before any param is", "a/b"]),
        ({"mem_limt": "1G"}, ["mem_limt", "did you mean 'mem_limit'?"]),
        ({"get_config_map": lambda self: []}, ["did you mean 'get_config_maps'?"]),
        ({"build": lambda self: None}, ["build() is the output contract"]),
    ],
)
def test_a_wrong_class_is_refused_when_it_is_registered(attributes: dict[str, Any], words: list[str]) -> None:
    """With the profile, the attribute, its value, what was expected and what to do."""
    with pytest.raises(ProfileDefinitionError) as raised:
        check_profile_class(derived(**attributes))
    for word in words:
        assert word in str(raised.value)


def test_the_line_of_a_mistake_is_named() -> None:
    """Also where two attributes stand on one line."""

    class Wrong(Plain):
        tags = ("a",)
        mem_guarantee, mem_limit = "1G", "much"

    with pytest.raises(ProfileDefinitionError) as raised:
        check_profile_class(Wrong)
    line = raised.value.origin.line if raised.value.origin else 0
    assert "mem_guarantee, mem_limit" in Path(__file__).read_text(encoding="utf-8").splitlines()[line - 1]


async def test_attributes_become_traits() -> None:
    """Those that are left alone set nothing."""
    assert (await Plain().build()).kubespawner_override == {"image": "a:1"}
    profile = derived(
        cpu_limit="500m",
        mem_limit="4Gi",
        default_url="/lab",
        home_dir="/home/x",
        node_selector={"pool": 1},
        tolerations=[{"key": "gpu"}],
        extra_resource_limits={"nvidia.com/gpu": 1},
        extra_resource_guarantees={"nvidia.com/gpu": "1"},
        service_account="sa",
        kubespawner_override={"uid": 7},
    )
    check_profile_class(profile)
    assert (await profile().build()).kubespawner_override == {
        "image": "a:1",
        "cpu_limit": 0.5,
        "mem_limit": "4G",
        "default_url": "/lab",
        "working_dir": "/home/x",
        "environment": {"HOME": "/home/x"},
        "node_selector": {"pool": "1"},
        "tolerations": [{"key": "gpu"}],
        "extra_resource_limits": {"nvidia.com/gpu": "1"},
        "extra_resource_guarantees": {"nvidia.com/gpu": "1"},
        "service_account": "sa",
        "uid": 7,
    }


async def test_a_param_gives_an_attribute() -> None:
    """Checked as if the author had written it."""
    profile = derived(mem_limit=Param.ref("a/mem"))
    check_profile_class(profile)
    assert (await profile(params={"a/mem": "2Gi"}).build()).kubespawner_override["mem_limit"] == "2G"
    with pytest.raises(ProfileDefinitionError, match="mem_limit"):
        profile(params={"a/mem": "much"})
    with pytest.raises(ParamError, match="has no value"):
        profile(params={})


@pytest.mark.parametrize(
    ("hook", "returned", "words"),
    [
        ("get_config_maps", None, "list"),
        ("get_config_maps", [{"name": "a", "nmae": "b"}], "is not known here"),
        ("get_default_volumes", ["x"], "0: "),
        ("get_env_secrets", [1], "string"),
        ("get_pod_env_vars", {"A": object()}, "A"),
        ("get_extra_resource_limits", ["gpu"], "dictionary"),
        ("get_kubespawner_override", 5, "dictionary"),
    ],
)
async def test_a_hook_that_returns_something_else_is_named(hook: str, returned: Any, words: str) -> None:
    """With the profile and what is wrong."""
    with pytest.raises(BuildError) as raised:
        await derived(**{hook: lambda self: returned})().build()
    assert raised.value.field == f"{hook}()"
    assert words in str(raised.value)


@pytest.mark.parametrize("values", ["params", "choices"])
async def test_a_name_without_a_value_is_named_with_its_line(values: str) -> None:
    """A hook reads a param or an option that is not there."""

    class Reading(Plain):
        params = {"gpu/count": 1}

        def get_pod_env_vars(self) -> Any:
            return {"GPUS": getattr(self, values)["gpu/cuont"]}

    with pytest.raises(ParamError, match=r"(param|option) gpu/cuont: ") as raised:
        await Reading().build()
    assert f"{Path(__file__).name}:" in str(raised.value)
    assert "profile 'plain'" in str(raised.value)


async def test_whatever_a_hook_raises_is_a_failure_of_the_profile() -> None:
    """With the line that raised it, also in an async hook."""

    async def get_manifests(self: Any) -> Any:
        return 1 / 0

    with pytest.raises(BuildError, match=r"get_manifests.*ZeroDivisionError"):
        await derived(get_manifests=get_manifests)().build()


class OddError(Exception):
    """An exception that cannot be printed."""

    def __str__(self) -> str:
        raise SystemExit


def _raise(error: BaseException) -> Any:
    raise error


async def _raise_later(error: BaseException) -> Any:
    await asyncio.sleep(0)
    raise error


class Exits:
    """A value that cannot be looked at."""

    def __repr__(self) -> str:
        raise SystemExit

    __str__ = __eq__ = __repr__  # type: ignore[assignment]


RAISED = [SystemExit(2), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit(), MemoryError(), OddError()]
CODE: dict[str, Callable[[BaseException], dict[str, Any]]] = {
    "hook": lambda e: {"get_manifests": lambda self: _raise(e)},
    "async-hook": lambda e: {"get_manifests": lambda self: _raise_later(e)},
    "property": lambda e: {"mem_limit": property(lambda self: _raise(e))},
    "constructor": lambda e: {"__init__": lambda self, **kwargs: _raise(e)},
}


@pytest.mark.parametrize("error", RAISED, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("where", CODE)
async def test_nothing_that_an_author_raises_gets_through(where: str, error: BaseException) -> None:
    """Neither what ends a process, nor what looks like the end of the caller's task."""
    profile = ClassProfile(derived(**CODE[where](error)))
    with pytest.raises(BuildError, match=type(error).__name__) as raised:
        await profile.build(ServerContext.example(), {}, Selection("plain", {}))
    assert raised.value.profile == "plain"


async def test_values_that_cannot_be_looked_at() -> None:
    """The message about one does without its text."""
    for returned in (Exits(), {"x": Exits()}, [Exits()]):
        profile = ClassProfile(derived(get_kubespawner_override=lambda self, value=returned: value))
        with contextlib.suppress(BuildError):
            assert await profile.build(ServerContext.example(), {}, Selection("plain", {}))
    assert shorten(Exits()) == "a Exits"


async def test_a_cancelled_build_is_cancelled() -> None:
    """The real cancellation of the caller reaches the hook, and is no failure of the profile."""
    began, ended = asyncio.Event(), asyncio.Event()

    async def get_manifests(self: Any) -> Any:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    profile = ClassProfile(derived(get_manifests=get_manifests))
    task = asyncio.ensure_future(profile.build(ServerContext.example(), {}, Selection("plain", {})))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await ended.wait()


@pytest.mark.parametrize("error", RAISED, ids=lambda e: type(e).__name__)
def test_an_access_rule_that_raises_denies(error: BaseException) -> None:
    """Whatever it is."""
    assert not Access(hook=lambda user: _raise(error)).allows(UserInfo("ada"))


async def test_two_things_under_one_name_are_a_conflict() -> None:
    """Of two volumes with one claim but different sizes none is taken."""

    def volume(name: str, size: str) -> Volume:
        return Volume(name=name, claim_name="c", size=size, volume_mount=VolumeMount(mount_path=f"/{name}"))

    profile = derived(get_default_volumes=lambda self: [volume("a", "1Gi"), volume("b", "2Gi")])
    with pytest.raises(ConflictError, match="PersistentVolumeClaim"):
        await profile().build()


async def test_login_files_need_a_home() -> None:
    """And stand there, as files that all users share."""
    profile = derived(bashrc_path=__file__)
    check_profile_class(profile)
    with pytest.raises(BuildError, match="home_dir"):
        await profile().build()
    settings = ConfigMap(name="s", key="s", content="x", mount_path="/etc/s")
    profile = derived(bashrc_path=__file__, home_dir="/home/x/", get_config_maps=lambda self: [settings])
    check_profile_class(profile)
    build = await profile().build()
    paths = {mount["mountPath"] for mount in build.kubespawner_override["volume_mounts"]}
    assert paths == {"/home/x/.bashrc", "/etc/s"}
    assert [(o.kind, o.lifetime.value) for o in build.objects] == [("ConfigMap", "shared")]
