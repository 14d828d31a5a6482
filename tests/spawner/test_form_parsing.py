"""Forms are parsed at once and unchecked, as by KubeSpawner; JupyterHub's `run_options_from_form` checks them."""

from __future__ import annotations

from typing import Any

import pytest
from jupyterhub.utils import maybe_future
from kubespawner import KubeSpawner
from tornado.web import HTTPError

from profile_spawner.spawner import ProfileSpawner

pytestmark = [pytest.mark.hub5]

OPTIONS = {
    "image": {
        "choices": {"a": {"display_name": "A"}, "b": {"display_name": "B"}},
        "unlisted_choice": {
            "enabled": True,
            "validation_regex": "^mine/.*$",
            "kubespawner_override": {"image": "{value}"},
        },
    },
    "addons": {"type": "multi", "choices": {"x": {"display_name": "X"}, "y": {"display_name": "Y"}}},
}
LISTED = [
    {"display_name": "Lab", "slug": "lab", "profile_options": OPTIONS},
    {"display_name": "Lab plus", "slug": "lab-plus", "profile_options": {"size": {"choices": {"s": {}}}}},
]
FORMS: dict[str, dict[str, list[str]]] = {
    "nothing": {},
    "profile": {"profile": ["lab"]},
    "choice": {"profile": ["lab"], "profile-option-lab--image": ["b"], "profile-option-lab-plus--size": ["s"]},
    "typed": {"profile": ["lab"], "profile-option-lab--image--unlisted-choice": ["mine/image:1"]},
    "wrong": {"profile": ["lab"], "profile-option-lab--image": ["absent"]},
    "unknown": {"profile": ["absent"], "profile-option-absent--image": ["b"]},
    "other fields": {"profile": ["lab"], "_xsrf": ["token"]},
}


@pytest.mark.parametrize("name", sorted(FORMS))
async def test_parsing_is_kubespawners(make_spawner: Any, name: str) -> None:
    """Subclasses and wrappers that call either method get a dictionary at once, whatever the form says."""
    theirs = make_spawner(KubeSpawner, profile_list=LISTED)
    ours = make_spawner(ProfileSpawner, profile_list=LISTED)
    expected = theirs.options_from_form(FORMS[name])
    assert ours.options_from_form(FORMS[name]) == expected
    assert ours._options_from_form(FORMS[name]) == expected


@pytest.mark.parametrize("name", ["wrong", "unknown"])
async def test_running_checks(make_spawner: Any, name: str) -> None:
    """What JupyterHub calls answers a mistake."""
    spawner = make_spawner(ProfileSpawner, profile_list=LISTED)
    with pytest.raises(HTTPError) as refused:
        await spawner.run_options_from_form(FORMS[name])
    assert refused.value.status_code == 400


async def test_running_understands_all_kinds_of_options(make_spawner: Any) -> None:
    """A list of several values is read only where the profile has such an option."""
    spawner = make_spawner(ProfileSpawner, profile_list=LISTED)
    form = {"profile": ["lab"], "profile-option-lab--addons": ["x", "y"]}
    assert (await spawner.run_options_from_form(form))["addons"] == ["x", "y"]


@pytest.mark.parametrize("takes_spawner", [False, True])
async def test_the_administrators_own_parser(make_spawner: Any, takes_spawner: bool) -> None:
    """`options_from_form` of the configuration is called as by JupyterHub, and its result is checked."""

    def alone(form: dict[str, list[str]]) -> dict[str, Any]:
        return {"profile": form["which"][0]}

    async def with_spawner(form: dict[str, list[str]], spawner: Any) -> dict[str, Any]:
        return {**spawner._options_from_form({"profile": form["which"]}), "addons": ["x"]}

    parser = with_spawner if takes_spawner else alone
    spawner = make_spawner(ProfileSpawner, profile_list=LISTED, options_from_form=parser)
    result = await spawner.run_options_from_form({"which": ["lab"]})
    assert result["profile"] == "lab"
    assert result.get("addons") == (["x"] if takes_spawner else None)
    with pytest.raises(HTTPError):
        await spawner.run_options_from_form({"which": ["absent"]})


async def test_options_of_the_administrators_own_form_reach_the_hooks(make_spawner: Any) -> None:
    """As in KubeSpawner, whose default profile is applied; and the values are those of the last view."""

    def parser(form: dict[str, list[str]]) -> dict[str, Any]:
        return {"mem": form["mem"][0]}

    def hook(spawner: Any) -> None:
        spawner.mem_limit = spawner.user_options["mem"]

    for spawner_class in (KubeSpawner, ProfileSpawner):
        spawner = make_spawner(
            spawner_class, profile_list=LISTED, options_form="<input name=mem>", options_from_form=parser,
            pre_spawn_hook=hook,
        )  # fmt: skip
        spawner.user_options = await maybe_future(spawner.run_options_from_form({"mem": ["3G"]}))
        assert spawner.user_options["mem"] == "3G"
        await maybe_future(spawner.run_pre_spawn_hook())
        await spawner.load_user_options()
        pod = spawner.api.api_client.sanitize_for_serialization(await spawner.get_pod_manifest())
        assert pod["spec"]["containers"][0]["resources"]["limits"]["memory"] == 3 * 1024**3
    with pytest.raises(HTTPError, match="Unknown options"):
        await make_spawner(ProfileSpawner, profile_list=LISTED).apply_choice({"mem": "3G"})


@pytest.mark.parametrize(
    "options",
    [
        {"profile": "absent"},
        {"profile": "lab", "image--unlisted-choice": "other/image:1"},
        {"profile": "lab-plus", "size--unlisted-choice": "m"},
    ],
)
async def test_refused_options_are_value_errors(make_spawner: Any, options: dict[str, str]) -> None:
    """Callers of KubeSpawner's `load_user_options` catch `ValueError`; the hub gets its answer."""
    with pytest.raises(ValueError, match=r"."):
        await make_spawner(KubeSpawner, options, profile_list=LISTED).load_user_options()
    with pytest.raises(ValueError, match=r".") as refused:
        await make_spawner(ProfileSpawner, options, profile_list=LISTED).load_user_options()
    assert isinstance(refused.value, HTTPError)
    assert refused.value.status_code == 400
