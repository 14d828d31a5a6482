"""The spawn page: cards, options, style and script."""

from .cards import Badge, Card, badges_for
from .render import PageRenderer, PageRequest

__all__ = ["Badge", "Card", "PageRenderer", "PageRequest", "badges_for"]
