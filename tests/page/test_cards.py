"""Promises of the cards: badges say what one gets, choices change them, sections stand in the administrator's order."""

from __future__ import annotations

from typing import Any

import pytest

from profile_spawner.page.card_list import CardLists
from profile_spawner.page.cards import GpuDemand, badges_for, card_of, option_badges
from profile_spawner.page.render import PageRenderer, PageRequest
from profile_spawner.profiles.access import UserInfo
from profile_spawner.profiles.entry import Entry
from profile_spawner.profiles.options import parse_options
from profile_spawner.profiles.selection import Offer
from profile_spawner.profiles.snapshot import Snapshot

ADA = UserInfo("ada")
GPU = "nvidia.com/gpu"


@pytest.mark.parametrize(
    ("effective", "expected"),
    [
        ({}, []),
        ({"cpu_limit": 2.0, "cpu_guarantee": 0.5}, [("cpu", "0.5–2 CPU")]),  # noqa: RUF001
        ({"cpu_limit": 2, "cpu_guarantee": 2}, [("cpu", "2 CPU")]),
        ({"mem_limit": "4G", "mem_guarantee": "512M"}, [("memory", "512 MiB–4 GiB")]),  # noqa: RUF001
        ({"mem_limit": 2**30}, [("memory", "1 GiB")]),
        ({"extra_resource_limits": {GPU: "1"}}, [("gpu", "1 GPU")]),
        ({"extra_resource_limits": {GPU: 2}}, [("gpu", "2 GPUs")]),
        ({"extra_resource_limits": {GPU: "0"}}, []),
        ({"extra_resource_limits": {"example.com/licence": "1"}}, []),
        (
            {"extra_resource_limits": {GPU: "1"}, "node_selector": {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB"}},
            [("gpu", "1 GPU, A100 SXM4 40GB")],
        ),
        (
            {
                "extra_resource_limits": {GPU: "4"},
                "node_selector": {"cloud.google.com/gke-accelerator": "nvidia-tesla-t4"},
            },
            [("gpu", "4 GPUs, t4")],
        ),
        ({"extra_resource_limits": {"nvidia.com/mig-1g.5gb": "1"}}, [("gpu", "1 MIG 1g.5gb")]),
        ({"extra_resource_limits": {"amd.com/gpu": "1"}}, [("gpu", "1 AMD GPU")]),
        ({"extra_resource_limits": {"google.com/tpu": "8"}}, [("gpu", "8 TPU")]),
        ({"image": "registry.example.org:5000/team/lab:2026-01@sha256:0123"}, [("image", "lab:2026-01")]),
        (
            {"volumes": [{"name": "workspace-volume", "size": "20Gi", "mount_path": "/workspace"}]},
            [("volume", "20 GiB workspace")],
        ),
        (
            {"volumes": [{"name": "v", "size": "5Gi", "mount_path": "/home/jovyan"}]},
            [("volume", "5 GiB home")],
        ),
        (
            {"volumes": [{"name": "v", "size": "5Gi", "mount_path": "/me"}], "working_dir": "/me"},
            [("volume", "5 GiB home")],
        ),
        ({"volumes": [{"name": "data", "size": "1Ti", "mount_path": "/data"}]}, [("volume", "1 TiB /data")]),
    ],
)
def test_badges_say_what_one_gets(effective: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    """Limits, guarantees, accelerators with their model, image and volumes, each in a few characters."""
    assert [(b.kind, b.label) for b in badges_for(effective)] == expected
    assert all(b.title for b in badges_for(effective))


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (
            {"choices": {"s": {}, "l": {"kubespawner_override": {"cpu_limit": 8, "mem_limit": "32G"}}}},
            {"l": [["cpu", "8 CPU"], ["memory", "32 GiB"]]},
        ),
        (
            {"choices": {"h": {"kubespawner_override": {"node_selector": {"nvidia.com/gpu.product": "NVIDIA-H100"}}}}},
            {"h": [["gpu", "1 GPU, H100"]]},
        ),
        (
            {"type": "switch", "kubespawner_override": {"extra_resource_limits": {GPU: "2"}}},
            {"true": [["gpu", "2 GPUs"]]},
        ),
        (
            {"type": "number", "min": 1, "max": 8, "kubespawner_override": {"cpu_limit": "{value}"}},
            {"*": [["cpu", "{value} CPU"]]},
        ),
        (
            {"type": "number", "min": 1, "max": 8, "kubespawner_override": {"mem_limit": "{value}G"}},
            {"*": [["memory", "{value} GiB"]]},
        ),
        ({"type": "text", "kubespawner_override": {"environment": {"A": "{value}"}}}, {}),
        ({"choices": {"x": {"kubespawner_override": {"environment": {"TOKEN": "secret"}}}}}, {}),
    ],
)
def test_choices_change_badges(option: dict[str, Any], expected: dict[str, Any]) -> None:
    """For each value that can be chosen the page knows the badges that it changes, and nothing else of it."""
    [parsed] = parse_options({"o": option}, profile="p")
    effective = {"cpu_limit": 2, "cpu_guarantee": 1, "extra_resource_limits": {GPU: "1"}}
    assert option_badges(parsed, effective) == expected


@pytest.mark.parametrize("value", [[1], {"a": 1}, object(), lambda spawner: 1, float("nan"), "", b"x", -1])
def test_strange_values_cost_no_page(value: Any) -> None:
    """Whatever an administrator has written into an override, there is a card."""
    names = ("cpu_limit", "mem_limit", "image", "extra_resource_limits", "node_selector", "volumes", "working_dir")
    effective = dict.fromkeys(names, value)
    entry = Entry(offer=Offer("p", "P"), effective=effective)
    markup = PageRenderer().render(PageRequest(cards=[card_of(entry)]))
    assert 'value="p"' in markup


def test_what_is_scarce_is_known() -> None:
    """The page can ask how many there are of what a profile needs, on the nodes that it selects."""
    effective = {"extra_resource_limits": {GPU: "2"}, "node_selector": {"b": "1", "a": "2"}}
    assert GpuDemand.of(effective) == GpuDemand(GPU, 2, (("a", "2"), ("b", "1")))
    assert GpuDemand.of({"extra_resource_limits": {"memory": "2"}}) is None
    assert GpuDemand.of({}) is None


@pytest.mark.parametrize(
    ("configured", "expected"),
    [
        ((), [("", "ad"), ("Lab", "be"), ("Desk", "c")]),
        (("Desk",), [("", "ad"), ("Desk", "c"), ("Lab", "be")]),
        (("Nowhere", "Lab"), [("", "ad"), ("Lab", "be"), ("Desk", "c")]),
    ],
)
async def test_each_category_is_one_section(configured: tuple[str, ...], expected: list[tuple[str, str]]) -> None:
    """Profiles of one category stand together however they are mixed, in the configured order, else as they appear."""
    categories = {"a": "", "b": "Lab", "c": "Desk", "d": "", "e": "Lab"}
    entries = [Entry(offer=Offer(slug, slug), category=category) for slug, category in categories.items()]
    snapshot = Snapshot(entries)
    cards = await (await CardLists(configured).of(snapshot, ADA)).first(None)
    markup = PageRenderer().render(PageRequest(cards=cards))
    headings = [(name, "".join(c.offer.slug for c in cards if c.category == name)) for name, _ in expected]
    assert headings == expected
    assert "".join(c.offer.slug for c in cards) == "".join(slugs for _, slugs in expected)
    assert markup.count('class="ps-category"') == 2


async def test_searching_finds_what_is_not_on_the_page() -> None:
    """All words must be in name, description, category, tags or badges; case does not matter."""
    entries = [Entry(offer=Offer(f"p{n}", f"Profile {n}"), tags=("even",) if n % 2 == 0 else ()) for n in range(600)]
    entries[77] = Entry(offer=Offer("gpu", "Big"), effective={"extra_resource_limits": {GPU: "2"}})
    snapshot = Snapshot(entries)
    lists = CardLists()
    cards = await lists.of(snapshot, ADA)
    assert len(await lists.search(cards, [])) == 600
    assert await lists.search(cards, ["2", "gpus"]) == [77]
    assert await lists.search(cards, ["598", "even"]) == [598]
    assert await lists.search(cards, ["nothing"]) == []


async def test_the_exact_title_is_found_first() -> None:
    """Then the titles that begin with the words, then those that have them, then the rest, each in the page's order."""
    titles = ["Old CM 5", *(f"CM 5{n}" for n in range(60)), "Lab", "CM 5", "5 CM"]
    entries = [
        Entry(offer=Offer(f"p{n}", title, "for CM 5" if title == "Lab" else "")) for n, title in enumerate(titles)
    ]
    lists = CardLists()
    cards = await lists.of(Snapshot(entries), ADA)
    found = [titles[n] for n in await lists.search(cards, ["cm", "5"])]
    assert found == ["CM 5", *(f"CM 5{n}" for n in range(60)), "Old CM 5", "5 CM", "Lab"]


async def test_users_share_cards_only_when_every_rule_agrees() -> None:
    """Neither a group, nor a name, nor a hook, of profile, option or choice, lets two users share what differs."""
    rules: list[dict[str, Any]] = [
        {"allowed_groups": ["g"]},
        {"allowed_users": ["eve"]},
        {"is_available_to": lambda user: user.name == "eve"},
    ]
    eve, bob = UserInfo("eve", frozenset({"g"})), UserInfo("bob")
    for rule in rules:
        for options in (
            {"o": {"choices": {"open": {}, "closed": rule}}},
            {"o": {"type": "text", **rule}},
            {"o": {"choices": {"open": {}}, "unlisted_choice": {"enabled": True, **rule}}},
        ):
            snapshot = Snapshot([Entry(offer=Offer("p", "P", options=parse_options(options, profile="p")))])
            lists = CardLists()
            of_eve, of_ada, of_bob = [await lists.of(snapshot, user) for user in (eve, ADA, bob)]
            assert of_eve is not of_ada, options
            assert of_ada is of_bob
            [hers], [others] = await of_eve.first(None), await of_ada.first(None)
            assert len(others.offer.options) <= len(hers.offer.options)
            assert hers.offer != others.offer
