"""Each attribute and each hook is described once, and all that is derived from the description agrees with it."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from profile_spawner.params.definition import Param
from profile_spawner.profiles.attributes import ATTRIBUTES, ProfileAttributes, field_docs, problems_of
from profile_spawner.profiles.base import BaseAppProfile
from profile_spawner.profiles.hooks import HOOKS, LIST_HOOKS
from profile_spawner.profiles.pod_builder import PodBuilder
from profile_spawner.sources.schema import ParamSpec, ProfileSpec, document_schema
from tests.documentation import ROOT


def test_the_table_has_every_attribute_of_the_class() -> None:
    """With its default, a help text, and a type that the default fits where the attribute is not required."""
    public = [n for n in vars(ProfileAttributes) if not n.startswith("_")]
    assert list(ATTRIBUTES) == public
    for name, attribute in ATTRIBUTES.items():
        assert attribute.default is getattr(BaseAppProfile, name)
        assert attribute.help
        if not attribute.required:
            assert attribute.check(attribute.default) == attribute.default


def test_the_table_has_every_hook() -> None:
    """With a method of the builder that takes what it returns."""
    assert set(HOOKS) == {n for n in vars(BaseAppProfile) if n.startswith("get_")}
    for hook in HOOKS.values():
        assert (getattr(BaseAppProfile, hook.name).__doc__ or "").startswith("Return ")
        assert len(inspect.signature(getattr(PodBuilder, hook.part)).parameters) == 2
        assert hook.key in ProfileSpec.model_fields
    assert [hook.key for hook in HOOKS.values() if hook not in LIST_HOOKS and hook.key not in ATTRIBUTES] == []


def test_documents_have_every_attribute() -> None:
    """With its help text; those that a param can give accept a reference to one."""
    properties = document_schema()["$defs"]["ProfileSpec"]["properties"]
    for name, attribute in ATTRIBUTES.items():
        assert properties[name]["description"] == attribute.help
        forms = properties[name].get("anyOf", ())
        assert any("$param" in form.get("properties", ()) for form in forms) == attribute.param, name


def test_an_entry_of_a_profile_list_has_no_attribute_that_params_give() -> None:
    """Its values stand in `kubespawner_override`."""
    entry_keys = {name for name, attribute in ATTRIBUTES.items() if attribute.plain}
    assert {"display_name", "profile_options", "kubespawner_override"} < entry_keys
    assert [n for n in entry_keys if ATTRIBUTES[n].param] == ["kubespawner_override"]


def test_importing_the_base_class_makes_no_adapters() -> None:
    """They are made when a value is checked for the first time."""
    code = "from profile_spawner.profiles import attributes, base; print(attributes.adapter.cache_info().currsize)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout == "0\n"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("slug", "A b", "1 to 63 of a-z"),
        ("display_name", " ", "not empty"),
        ("image", "two words", "must be an image"),
        ("cpu_limit", "many", "number of CPU cores"),
        ("cpu_limit", True, "number of CPU cores"),
        ("mem_limit", "1X", "'4G'"),
        ("extra_resource_limits", {"gpu": "many"}, "'many' is not a Kubernetes quantity"),
        ("node_selector", {"pool": True}, "text or a number"),
        ("node_selector", ["pool"], "dictionary"),
        ("default_url", "lab", "begins with '/'"),
        ("home_dir", "relative", "absolute path"),
        ("bashrc_path", "/not/there", "there is no file '/not/there'"),
        ("bashrc_path", 5, "path of a file"),
        ("pod_env_vars", {"1": "x"}, "not a name of an environment variable"),
        ("pod_env_vars", {"A": {"from_secret": {"name": "s"}}}, "required"),
        ("tolerations", "all", "list"),
        ("workspace_volume_size", "big", "not a Kubernetes quantity"),
        ("service_account", "", "not empty"),
        ("tags", "one", "must be a list of texts"),
        ("allowed_groups", [1], "string"),
        ("default", 1, "boolean"),
        ("order", True, "integer"),
        ("kubespawner_override", [], "dictionary"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_expected(name: str, value: Any, words: str) -> None:
    """One message for classes, documents and params."""
    with pytest.raises(ValidationError) as raised:
        ATTRIBUTES[name].check(value)
    assert any(words in text for _, text in problems_of(raised.value))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("cpu_limit", "500m", 0.5),
        ("cpu_limit", 2, 2.0),
        ("mem_limit", "4GiB", "4G"),
        ("node_selector", {"size": 2}, {"size": "2"}),
        ("home_dir", "/home/x/", "/home/x"),
        ("tolerations", ({"key": "gpu"},), [{"key": "gpu"}]),
        ("bashrc_path", Path(__file__), Path(__file__).read_text(encoding="utf-8")),
    ],
)
def test_a_value_becomes_what_kubespawner_takes(name: str, value: Any, expected: Any) -> None:
    """Quantities as its traits have them, texts where Kubernetes wants texts, files as their content."""
    assert ATTRIBUTES[name].check(value) == expected


def test_a_definition_of_a_param_can_be_written_down() -> None:
    """Every field of it but its name and where it came from, and it is the same again."""
    param = Param(
        "a/b",
        schema={"type": "array", "items": {"type": "string"}},
        default=["x"],
        description="d",
        documentation="more",
        user_settable=True,
        sensitive=True,
        merge="append",
        merge_key="k",
        layers=("user", "hub"),
        meta={"title": "T"},
    )
    assert Param("a/b", **param.definition()) == param
    known = {field.alias for field in ParamSpec.model_fields.values()}
    assert (
        known
        == {*param.definition(), "secure"}
        == {n for n in field_docs(Param) if n not in ("name", "origin", "untrusted")}
    )
    assert Param("c").definition() == {}
