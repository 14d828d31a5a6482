"""Promises of the catalogues: every text is in them, translated, with the same values, and compiled.

After a change of texts, `UPDATE_TRANSLATIONS=1 pytest tests/page/test_translations.py` brings the `.po` files up to
date; then translate what is empty in them, and run it once more to compile them.
"""

from __future__ import annotations

import gettext
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

import profile_spawner
from profile_spawner.page.cards import Card
from profile_spawner.page.render import PageRenderer, PageRequest
from profile_spawner.page.translations import DOMAIN, LANGUAGES, LOCALE, gettext_for, language_of
from profile_spawner.profiles.access import UserInfo
from profile_spawner.profiles.options import parse_options
from profile_spawner.profiles.selection import Offer, Rejection, form_field, select
from profile_spawner.spawner.progress import STEPS
from profile_spawner.texts import Text, joined, said

ADA = UserInfo("ada", frozenset())

PACKAGE = Path(profile_spawner.__file__).parent
KEYWORDS: Any = {"Text": None, "marked": None, "gettext": None, "ngettext": (1, 2)}
PARTS = ("*.py", *(f"{package}/*.py" for package in ("profiles", "policy", "kube", "hub", "page", "spawner")))
VALUES = re.compile(r"%\((\w+)\)s|%\(num\)[ds]")
OTHERS = [language for language in LANGUAGES if language != "en"]


def messages() -> Iterator[tuple[Any, str]]:
    """Yield everything that can be translated, with the file it is in."""
    for part in PARTS:
        for path in sorted(PACKAGE.glob(part)):
            with path.open("rb") as file:
                for _, message, _, _ in extract("python", file, keywords=KEYWORDS):
                    yield message, path.relative_to(PACKAGE).as_posix()
    for path in sorted((PACKAGE / "page" / "templates").rglob("*.html")):
        with path.open("rb") as file:
            for _, message, _, _ in extract("jinja2.ext:babel_extract", file, keywords=KEYWORDS):
                yield message, path.relative_to(PACKAGE).as_posix()


def template() -> Catalog:
    """Return a catalogue of everything, untranslated."""
    catalog = Catalog(domain=DOMAIN, project="jupyterhub-profile-spawner", fuzzy=False)
    for message, place in messages():
        key = tuple(m for m in message if m) if isinstance(message, tuple) else message
        if isinstance(key, tuple) and len(key) == 1:
            key = key[0]
        catalog.add(key, locations=[(place, 0)])
    return catalog


def catalogue(language: str) -> Catalog:
    """Return the catalogue of a language, brought up to date where that is asked for."""
    path = LOCALE / language / "LC_MESSAGES" / f"{DOMAIN}.po"
    if os.environ.get("UPDATE_TRANSLATIONS") == "1":
        known = read_po(path.open("rb"), locale=language) if path.exists() else Catalog(locale=language, domain=DOMAIN)
        wanted = template()
        for message in wanted:
            if message.id and (old := known.get(message.id)) is not None and old.string:
                wanted[message.id].string = old.string
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = Catalog(
            locale=language, domain=DOMAIN, header_comment=f"# The page's texts in {language}.", fuzzy=False
        )
        for message in wanted:
            if message.id:
                fresh.add(message.id, message.string, locations=message.locations)
        with path.open("wb") as file:
            write_po(file, fresh, sort_output=True, include_lineno=False, omit_header=False, width=120)
        path.write_text(_without_dates(path.read_text(encoding="utf-8")), encoding="utf-8")
        with path.open("rb") as file, path.with_suffix(".mo").open("wb") as binary:
            write_mo(binary, read_po(file))
    with path.open("rb") as file:
        return read_po(file, locale=language)


def _without_dates(text: str) -> str:
    unwanted = ("-Date:", "Generated-By:", "PROJECT VERSION", "EMAIL@ADDRESS", "FULL NAME", "LL@li.org")
    return "".join(line for line in text.splitlines(keepends=True) if not any(u in line for u in unwanted))


@pytest.mark.parametrize("language", OTHERS)
def test_every_text_is_translated(language: str) -> None:
    """No text is missing in a catalogue, none is left over, and each has the values of its English."""
    wanted = {m.id for m in template() if m.id}
    known = {m.id: m for m in catalogue(language) if m.id}
    assert sorted(map(str, wanted - known.keys())) == []
    assert sorted(map(str, known.keys() - wanted)) == []
    for id_, message in known.items():
        originals = id_ if isinstance(id_, tuple) else (id_,)
        strings = message.string if isinstance(message.string, tuple) else (message.string,)
        assert all(strings), f"{id_} is not translated"
        assert not message.fuzzy, f"{id_} is marked as fuzzy"
        for string in strings:
            assert set(VALUES.findall(string)) <= set(VALUES.findall(originals[-1])), id_


@pytest.mark.parametrize("language", OTHERS)
def test_the_catalogues_are_compiled(language: str) -> None:
    """The file that is installed and read is made of the one that is written."""
    translations = gettext.translation(DOMAIN, LOCALE, [language])
    for message in catalogue(language):
        if isinstance(message.id, tuple):
            assert (translations.ngettext(*message.id, 1), translations.ngettext(*message.id, 2)) == message.string
        elif message.id:
            assert translations.gettext(message.id) == message.string


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("en-GB,de;q=0.9", "en"),
        ("fr,de;q=0.5,en;q=0.4", "de"),
        ("fr", "en"),
        ("de;q=0,en", "en"),
        ("*;q=x, de;q=nan", "en"),
        ("x" * 10_000, "en"),
    ],
)
def test_the_browsers_wish_decides(accept: str, expected: str) -> None:
    """The language is the first of the header's that there is, by weight."""
    assert language_of(accept) == expected


def test_texts_are_english_until_said_otherwise() -> None:
    """A text is an ordinary string with its values filled in; values that are texts are translated along."""
    german = {"Hello %(name)s, take %(what)s.": "%(what)s für %(name)s", "all": "alles"}.get
    text = Text("Hello %(name)s, take %(what)s.", name="{ada} %s", what=Text("all"))
    assert text == "Hello {ada} %s, take all."
    assert said(text, lambda t: german(t, t)) == "alles für {ada} %s"
    assert said(joined([text, "x"]), lambda t: german(t, t)) == "alles für {ada} %s x"
    assert said(text, lambda t: "%(other)s %(name)") == text


def test_the_page_speaks_german() -> None:
    """The form's own texts, the badges and what is wrong are German; the author's texts stay as they are."""
    options = parse_options({"cores": {"type": "number", "min": 1, "max": 8, "display_name": "Cores"}}, profile="p")
    offer = Offer("p", "Title", options=options)
    wrong = select({"profile": "p", "cores": 9}, ADA, {"p": offer}, None)
    assert isinstance(wrong, Rejection)
    request = PageRequest(cards=[Card(offer)], selected="p", problems=wrong.problems, language="de")
    markup = PageRenderer().render(request)
    assert wrong.problems[0].field == form_field("p", "cores")
    assert "„Cores“ muss eine Zahl von 1 bis 8 sein." in markup
    assert "Title" in markup
    assert "There is a problem" not in markup


@pytest.mark.parametrize("language", OTHERS)
def test_the_steps_of_profiles_are_known(language: str) -> None:
    """What the progress bar says first has a translation."""
    for step in STEPS:
        assert gettext_for(language)(step) != step
