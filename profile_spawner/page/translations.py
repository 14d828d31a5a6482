"""The languages of the page, and the selection of one of them."""

from __future__ import annotations

import functools
import gettext
from pathlib import Path

from profile_spawner.texts import Gettext

__all__ = ["DOMAIN", "LANGUAGES", "LOCALE", "gettext_for", "language_of", "translations_for"]

DOMAIN = "profile_spawner"
"""The name of the catalogues."""

LANGUAGES = ("en", "de")
"""The texts are written in English; the other languages have a catalogue."""

LOCALE = Path(__file__).resolve().parent / "locale"
"""The folder of the catalogues."""


def language_of(accept: str) -> str:
    """Return the language of `LANGUAGES` that an `Accept-Language` header prefers."""
    wanted = []
    for position, part in enumerate(accept[:200].split(",")):
        name, _, quality = part.strip().partition(";q=")
        try:
            weight = float(quality or 1)
        except ValueError:
            weight = 0.0
        weight = weight if 0 <= weight <= 1 else 0.0
        wanted.append((-weight, position, name.split("-")[0].lower()))
    return next((name for weight, _, name in sorted(wanted) if name in LANGUAGES and weight), LANGUAGES[0])


@functools.cache
def translations_for(language: str) -> gettext.NullTranslations:
    """Return the catalogue of a language; without one, a catalogue that does not translate."""
    return gettext.translation(DOMAIN, LOCALE, [language], fallback=True)


def gettext_for(language: str) -> Gettext:
    """Return the function that finds the translation of a text."""
    return translations_for(language).gettext
