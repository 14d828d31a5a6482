"""Params that users must fill in, and what `meta` says about them."""

from __future__ import annotations

from typing import Any

import html5lib
import pytest

from profile_spawner.page.cards import card_of
from profile_spawner.page.render import PageRenderer, PageRequest
from profile_spawner.params.definition import thaw
from profile_spawner.policy.settings import DataPolicy
from profile_spawner.profiles.access import UserInfo
from profile_spawner.profiles.context import ServerContext
from profile_spawner.profiles.selection import Rejection, Selection, form_field
from profile_spawner.profiles.snapshot import Snapshot
from profile_spawner.sources.data_profiles import DocumentReader
from tests.documentation import ROOT, code_blocks
from tests.snapshots import snapshot_of

ADA = UserInfo("ada")
PARAMS = """
params:
  team/code:
    {schema: {type: string, pattern: "^[A-Z]{2}-[0-9]+$", examples: [AB-1]}, user_settable: true, meta: {title: Code}}
  lab/memory: {schema: {type: string, pattern: "^[0-9]+G$"}, user_settable: true}
  lab/tier: {schema: {enum: [small, 2]}, user_settable: true}
  lab/debug: {schema: {type: boolean}, user_settable: true}
  lab/tools: {schema: {type: array, items: {enum: [git, vim]}}, user_settable: true}
  lab/days: {schema: {type: integer, minimum: 1}, user_settable: true}
  lab/note: {schema: {type: string}, user_settable: true, default: none}
  lab/other: {schema: {type: string}, user_settable: true}
  lab/fixed: {schema: {type: string}, default: x}
  image/tag: {schema: {type: string}, user_settable: true, default: "1", sensitive: true}
"""


async def snapshot_with(profiles: str, params: str = PARAMS) -> Snapshot:
    """Return the snapshot of a document."""
    reader = DocumentReader(DataPolicy(unrestricted=True), lambda slug: None)
    result = reader.read(params + profiles, "lab.yaml", "documents")
    assert not result.problems
    return await snapshot_of(result.collector)


LAB = """
profiles:
- slug: lab
  display_name: Lab
  image: example/lab:1
  mem_limit: {$param: lab/memory}
  env: {CODE: "{{ team/code }}", TIER: "{{ lab/tier }}", DEBUG: "{{ lab/debug }}", TOOLS: "{{ lab/tools }}"}
  files: [{mount_path: /etc/days.txt, content: "{{ lab/days }}"}]
"""
FILLED = {
    "team/code": "XY-7",
    "lab/memory": "4G",
    "lab/tier": "2",
    "lab/debug": False,
    "lab/tools": ["vim"],
    "lab/days": 3,
}


async def test_a_param_without_a_default_is_an_empty_field_that_must_be_filled() -> None:
    """Every type of field is empty at first, and the values of the card are not those of the check."""
    snapshot = await snapshot_with(LAB)
    assert not snapshot.problems
    entry = snapshot.entries["lab"]
    assert {o.name for o in entry.offer.options} == set(FILLED)
    assert all(o.required and o.default_for(ADA) in (None, ()) for o in entry.offer.options)
    assert "mem_limit" not in entry.effective
    page = html5lib.parse(PageRenderer().render(PageRequest(cards=[card_of(entry)])), namespaceHTMLElements=False)
    fields = {e.get("name"): e for e in page.iter() if e.tag in ("input", "select") and e.get("type") != "checkbox"}
    assert [fields[form_field("lab", name)].get("value", "") for name in ("team/code", "lab/memory", "lab/days")] == [
        ""
    ] * 3
    for name in ("lab/tier", "lab/debug"):
        (first,) = (o for o in fields[form_field("lab", name)] if o.get("selected") is not None)
        assert first.get("value") == ""


@pytest.mark.parametrize("name", FILLED)
@pytest.mark.parametrize("empty", ["missing", "", None, []])
async def test_leaving_it_out_is_the_users_mistake(name: str, empty: Any) -> None:
    """The field is named. Nothing else is wrong."""
    snapshot = await snapshot_with(LAB)
    request = {"profile": "lab", **FILLED, name: empty}
    if empty == "missing":
        del request[name]
    selection = snapshot.select(request, ADA)
    assert isinstance(selection, Selection), selection
    rejected = snapshot.check_choice(selection)
    assert isinstance(rejected, Rejection)
    assert [p.field for p in rejected.problems] == [form_field("lab", name)]
    assert "is needed" in rejected.message


async def test_what_is_filled_in_reaches_the_pod() -> None:
    """With the types of the schema."""
    snapshot = await snapshot_with(LAB)
    selection = snapshot.select({"profile": "lab", **FILLED}, ADA)
    assert isinstance(selection, Selection), selection
    assert snapshot.check_choice(selection) == selection
    build = await snapshot.build(selection, ServerContext.example())
    override = build.kubespawner_override
    assert override["mem_limit"] == "4G"
    values = {name: override["environment"][name] for name in ("CODE", "TIER", "DEBUG", "TOOLS")}
    assert values == {"CODE": "XY-7", "TIER": "2", "DEBUG": "false", "TOOLS": '["vim"]'}


async def test_a_value_of_another_layer_fills_it() -> None:
    """For the users who have one, the field shows it and need not be filled."""
    snapshot = await snapshot_with(LAB)
    layers = {"user": {"team/code": "UV-1"}}
    selection = snapshot.select({"profile": "lab", **{k: v for k, v in FILLED.items() if k != "team/code"}}, ADA)
    assert isinstance(selection, Selection)
    assert snapshot.check_choice(selection, **layers) == selection
    personal = await snapshot.personal(snapshot.entries["lab"], **layers)
    (option,) = (o for o in personal.offer.options if o.name == "team/code")
    assert (option.required, option.default_for(ADA)) == (False, "UV-1")


async def test_meta_says_which_fields_are_required_and_optional() -> None:
    """Comma lists of a profile and of the collections that it inherits. The profile's own list is the stronger one."""
    snapshot = await snapshot_with(
        """
collections:
  team: {params: {}, description: A team, meta: {required: "team/code, lab/note", optional: lab/days, platform: gpu}}
profiles:
- {slug: lab, display_name: Lab, image: "example/lab:1", profiles: [team], documentation: Long, category: x,
   meta: {optional: "lab/note,lab/other", color: blue, icon: gpu, title: from Git, major: 2}}
"""
    )
    assert not snapshot.problems
    entry = snapshot.entries["lab"]
    assert {o.name: o.required for o in entry.offer.options} == {
        "team/code": True, "lab/note": False, "lab/days": False, "lab/other": False,
    }  # fmt: skip
    selection = snapshot.select({"profile": "lab", "team/code": "AB-2"}, ADA)
    assert isinstance(selection, Selection)
    assert snapshot.check_choice(selection) == selection
    card = card_of(entry)
    assert (card.color, card.icon, card.tags, entry.meta["major"]) == ("blue", "gpu", ("from Git",), "2")
    assert snapshot.resolver is not None
    assert thaw(snapshot.resolver.collections["team"].meta)["platform"] == "gpu"


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ("user_settable: [t/nope]", "user_settable: t/nope: is not defined"),
        ("user_settable: [lab/note, lab/notes]", "did you mean 'lab/note"),
        ("user_settable: [lab/fixed]", "lab/fixed: cannot be chosen by users"),
        ("meta: {required: 'team/code,lab/fixd'}", "meta.required: lab/fixd: is not defined; did you mean 'lab/fixed'"),
        ("meta: {optional: lab/fixed}", "cannot be chosen by users. Set user_settable: true"),
        ("meta: {optional: image/tag}", "meta.optional: image/tag: is sensitive. To let users choose"),
        ("profiles: [team]", "lab.yaml:15: profile 'lab': meta.required: gone: is not defined"),
        ("env: {OTHER: '{{ odd }}'}", "no example is known with which the profile can be checked"),
    ],
)
async def test_a_list_of_params_for_the_page_is_checked(profile: str, words: str) -> None:
    """A name that does not exist or cannot be chosen is an error that says what to do."""
    params = PARAMS + "  odd: {schema: {type: string, pattern: ^(?=x)y}, user_settable: true}\n"
    collections = "collections: {team: {params: {}, meta: {required: gone}}}\n"
    one = f"profiles: [{{slug: lab, display_name: Lab, image: 'example/lab:1', {profile}}}]\n"
    snapshot = await snapshot_with(collections + one, params)
    assert words in "; ".join(map(str, snapshot.problems)), snapshot.problems


async def test_params_of_files_are_fields_and_those_of_manifests_only_where_they_are_named() -> None:
    """Objects can affect others, so each of their params is allowed by name."""
    text = """
profiles:
- {{slug: lab, display_name: Lab, image: "example/lab:1", {more}
   files: [{{mount_path: /etc/a.txt, content: "{{{{ lab/note }}}}"}},
     {{mount_path: /etc/b.txt, content: "{{{{ lab/memory }}}}", render: false}}],
   config_maps: [{{name: c, content: "{{{{ lab/days }}}}", key: d, mount_path: /etc}}],
   manifests: [{{name: m, content: [{{apiVersion: v1, kind: ConfigMap, metadata: {{name: "x-{{{{ server_slug }}}}"}},
     data: {{tag: "{{{{ lab/other }}}}"}}}}]}}]}}
"""
    params = PARAMS.replace("lab/other: {", "lab/other: {default: o, ")
    for more, fields in (("", set()), ("user_settable: [lab/other],", {"lab/other"})):
        snapshot = await snapshot_with(text.format(more=more), params)
        assert not snapshot.problems
        assert {o.name for o in snapshot.entries["lab"].offer.options} == {"lab/note", "lab/days"} | fields


async def test_the_example_of_the_guide_works() -> None:
    """The YAML of docs/params.md."""
    (text,) = code_blocks(ROOT / "docs" / "params.md", "yaml")
    (entry,) = (await snapshot_with(text, "")).entries.values()
    assert {o.name: o.required for o in entry.offer.options} == {"team/code": True, "team/note": False}
