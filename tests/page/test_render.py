"""Promises of the spawn page's markup: it adds nothing of an author's, works without a script, stays small."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import html5lib
import pytest

from profile_spawner.page.card_list import CardLists
from profile_spawner.page.cards import Badge, Card
from profile_spawner.page.render import PageRenderer, PageRequest
from profile_spawner.profiles.access import UserInfo
from profile_spawner.profiles.entry import Entry
from profile_spawner.profiles.options import parse_options
from profile_spawner.profiles.selection import Offer, Problem, Selection, form_field, from_form, select
from profile_spawner.profiles.snapshot import Snapshot

ADA = UserInfo("ada", frozenset())
PAYLOADS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' autofocus onfocus='alert(1)",
    "</textarea></title></select><svg onload=alert(1)>",
    "[x](javascript:alert(1))",
    "<!-- --><a href=javascript:alert(1)>",
    "{{ 7*7 }}{% raw %}",
    "&lt;script&gt;&quot;",
)
OPTIONS: dict[str, Any] = {
    "image": {
        "choices": {"a": {"kubespawner_override": {"image": "a:1"}}, "b": {"default": True}},
        "unlisted_choice": {"enabled": True, "kubespawner_override": {"image": "{value}"}},
    },
    "tools": {"type": "multi", "choices": {"git": {"default": True}, "vim": {}, "tex": {}}},
    "cores": {"type": "number", "min": 1, "max": 8, "default": 2, "integer": True},
    "gpu": {"type": "switch", "default": True},
    "model": {"choices": {"t4": {}, "h100": {}}, "when": {"gpu": [True]}},
    "branch": {"type": "text", "default": "main", "advanced": True},
}


def offer(slug: str, options: dict[str, Any] | None = None) -> Offer:
    """Return a profile with all kinds of options."""
    return Offer(slug, slug.upper(), options=parse_options(OPTIONS if options is None else options, profile=slug))


def parse(markup: str) -> Any:
    """Parse as a browser does."""
    return html5lib.parse(markup, treebuilder="etree", namespaceHTMLElements=False)


def shape(markup: str) -> Counter[Any]:
    """Count elements with their attribute names."""
    return Counter((str(e.tag), *sorted(e.attrib)) for e in parse(markup).iter())


def post(markup: str, **changes: Any) -> dict[str, list[str]]:
    """What a browser without a script posts; `changes` are fields that the user sets (a list of values for boxes)."""
    form: dict[str, list[str]] = {}
    for e in parse(markup).iter():
        name = e.get("name")
        if name is None or "disabled" in e.attrib or e.get("form"):
            continue
        wanted = changes.get(name)
        if e.tag == "select":
            options = list(e.iter("option"))
            marked = [o.get("value") for o in options if "selected" in o.attrib] or [options[0].get("value")]
            form.setdefault(name, []).append(marked[0] if wanted is None else wanted)
        elif e.get("type") in ("checkbox", "radio"):
            checked = "checked" in e.attrib if wanted is None else e.get("value") in wanted
            if checked:
                form.setdefault(name, []).append(e.get("value"))
        elif e.tag == "input":
            keep = wanted is None or e.get("type") == "hidden"
            form.setdefault(name, []).append(e.get("value", "") if keep else wanted)
    return form


def chosen(offers: list[Offer], **changes: Any) -> Any:
    """Render, post as a browser does and select."""
    markup = PageRenderer().render(PageRequest(cards=[Card(o) for o in offers]))
    known = {o.slug: o for o in offers}
    return select(from_form(post(markup, **changes), known), ADA, known, None)


def full_page(text: str) -> str:
    """Return a page with `text` wherever an author or a user can put one."""
    options: dict[str, Any] = {
        name: {
            **o,
            "display_name": text,
            "description": text,
            "choices": {k: {"display_name": text, "description": text} for k in o.get("choices", {})},
        }
        for name, o in OPTIONS.items()
    }
    options["image"]["unlisted_choice"] = {"enabled": True, "display_name": text, "placeholder": text}
    hostile = replace(offer("p", options), display_name=text, description=text, deprecated=text)
    card = Card(
        hostile,
        icon=text,
        category=text,
        tags=(text,),
        badges=(Badge("cpu", text, text),),
        audience=text,
    )
    gone = Card(replace(offer("q"), unavailable=text), category=text)
    return PageRenderer().render(
        PageRequest(
            cards=[card, gone],
            values={"branch": text, "cores": text, "image--unlisted-choice": text},
            problems=(Problem("profile", text), Problem(form_field("p", "branch"), text)),
            notices=(text,),
            admin_notices=(text,),
            static="/hub/s",
        )
    )


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_text_of_an_author_or_a_user_adds_markup(payload: str) -> None:
    """Hostile text anywhere gives the elements and attributes of harmless text."""
    assert shape(full_page(payload)) == shape(full_page("harmless"))


def test_an_image_in_a_description_is_never_loaded() -> None:
    """Markdown for an image gives a link at most: no page view tells a foreign server anything."""
    shown = replace(offer("p", {}), description="![x](https://example.org/x.png)")
    page = parse(PageRenderer().render(PageRequest(cards=[Card(shown)])))
    assert not list(page.iter("img"))


def test_markup_has_no_inline_style_or_handler() -> None:
    """A strict content security policy finds nothing to refuse in the form."""
    for e in parse(full_page("harmless")).iter():
        assert not [a for a in e.attrib if a == "style" or a.startswith("on")]
        assert e.tag != "style"
        assert e.tag != "script" or (e.get("src") and not e.text)


def test_untouched_form_gives_the_defaults() -> None:
    """Without a script, Start alone takes every default, though the other profiles' fields are posted too."""
    result = chosen([offer("one"), offer("two")])
    assert isinstance(result, Selection), result
    assert result.slug == "one"
    values = dict(result.values)
    assert values.pop("tools") in (("git",), ["git"])
    assert values == {"image": "b", "cores": 2, "gpu": True, "model": "t4", "branch": "main"}


@pytest.mark.parametrize(
    ("option", "changes", "expected"),
    [
        ("image", {"image": "a"}, "a"),
        ("tools", {"tools": ["vim", "tex"]}, ["vim", "tex"]),
        ("tools", {"tools": []}, []),
        ("cores", {"cores": "5"}, 5),
        ("gpu", {"gpu": []}, False),
        ("model", {"model": "h100"}, "h100"),
        ("branch", {"branch": "dev"}, "dev"),
    ],
)
def test_every_kind_of_option_works_without_a_script(option: str, changes: dict[str, Any], expected: Any) -> None:
    """What is set in the second profile's fields is what is selected."""
    fields = {form_field("two", k): v for k, v in changes.items()}
    result = chosen([offer("one"), offer("two")], profile=["two"], **fields)
    assert isinstance(result, Selection), result
    assert result.slug == "two"
    value = result.values[option]
    assert (list(value) if isinstance(expected, list) else value) == expected


def test_typed_choice_works_without_a_script() -> None:
    """Choosing "Other" and typing gives the typed value; a dependent option of a switched-off one is left out."""
    name = form_field("one", "image")
    result = chosen(
        [offer("one")], **{name: "unlisted-choice", name + "--unlisted-choice": "c:3", form_field("one", "gpu"): []}
    )
    assert isinstance(result, Selection), result
    assert result.user_options["image--unlisted-choice"] == "c:3"
    assert "image" in result.typed
    assert "model" not in result.values


async def test_a_thousand_profiles_fit_into_forty_kilobytes() -> None:
    """The first view stays small, shows the chosen card wherever it stands and counts what it leaves out."""
    snapshot = Snapshot([entry(Offer(f"p{n}", f"Profile {n}", description="A few words.")) for n in range(1_000)])
    cards = await CardLists().of(snapshot, ADA)
    shown = await cards.first("p999")
    markup = PageRenderer().render(PageRequest(cards=shown, total=len(cards), selected="p999", search="/s"))
    assert len(markup.encode()) <= 40 * 1024
    checked = [e.get("value") for e in parse(markup).iter("input") if "checked" in e.attrib]
    assert checked == ["p999"]
    assert "1000" in markup


def entry(o: Offer) -> Entry:
    """Return a snapshot's entry."""
    return Entry(offer=o)


async def test_cards_are_made_once_per_snapshot() -> None:
    """A second user of the same audience gets the same cards; a new snapshot shows its own texts."""
    renderer = PageRenderer()
    pages = []
    for title in ("Before", "After"):
        shown = (Offer("one", "One"), Offer("two", title))
        snapshot = Snapshot([entry(o) for o in shown])
        lists = CardLists()
        cards = await lists.of(snapshot, ADA)
        assert await lists.of(snapshot, UserInfo("bob", frozenset())) is cards
        request = PageRequest(cards=await cards.first(None), cache=cards.pages)
        pages.append(renderer.render(request))
        assert renderer.render(request) is pages[-1]
    assert "Before" in pages[0]
    assert "After" in pages[1]
    assert "Before" not in pages[1]


async def test_restricted_choices_are_never_shared_through_the_cache() -> None:
    """A choice for one group is not on the page of a user outside of it who sees the same profiles."""
    options = {"image": {"choices": {"open": {}, "secret-image": {"allowed_groups": ["board"]}}}}
    snapshot = Snapshot([entry(Offer("first", "First")), entry(offer("second", options))])
    lists = CardLists()
    renderer = PageRenderer()
    pages = {}
    for user in (UserInfo("eve", frozenset({"board"})), ADA):
        cards = await lists.of(snapshot, user)
        pages[user.name] = renderer.render(PageRequest(cards=await cards.first(None), cache=cards.pages))
    assert "secret-image" in pages["eve"]
    assert "secret-image" not in pages["ada"]
