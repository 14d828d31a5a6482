"""Mends names of the configurator that Kubernetes refuses, the same way for plug-ins and imported files."""

from __future__ import annotations

import re
from collections.abc import Callable

from profile_spawner.names import is_dns_label, is_dns_subdomain, is_role_name, is_slug

__all__ = ["NameMender", "volume_name"]


class NameMender:
    """Mends names, and remembers what they were: two different names must not become the same.

    Names of objects that exist already cannot be mended, and names with templates are not.

    Attributes:
        notes: What was changed, one sentence each.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._written: dict[tuple[str, str], str] = {}

    def slug(self, written: str) -> str:
        """Return a slug of `a-z 0-9 _ -` and at most 63 characters.

        Raises:
            ValueError: when no slug can be made of the text, or another one has become the same.
        """
        note = "the slug {!r} becomes {!r}; saved choices find it by the old one"
        return self._mended("slug", written, is_slug, r"[^a-z0-9_]+", note)

    def label(self, kind: str, written: str) -> str:
        """Return the name of a part of a pod: a DNS label.

        Args:
            kind: The names among which this one must be the only one of its kind, such as `volume`.
            written: The name.

        Raises:
            ValueError: when no name can be made of the text, or another one has become the same.
        """
        self._refuse_template(kind, written)
        return self._mended(kind, written, is_dns_label)

    def name(self, kind: str, written: str) -> str:
        """Return the name of an object that is created; see `label`. It may have dots, and templates."""
        return written if "{{" in written else self._mended(kind, written, is_dns_subdomain)

    def role(self, kind: str, written: str) -> str:
        """Return the name of a Role or a RoleBinding; see `label`. Kubernetes takes nearly all texts."""
        self._refuse_template(kind, written)
        return self._mended(kind, written, is_role_name)

    def config_map(self, written: str, mount_path: str | None) -> str:
        """Return the name of a ConfigMap that is created. Where it is mounted, a volume has the name; see `label`."""
        if mount_path is None or "{{" in written:
            return self.name("ConfigMap", written)
        return self.label("volume", written)

    def known_config_map(self, written: str) -> str:
        """Return what the name of a ConfigMap has become, and the name itself where no such ConfigMap is created."""
        names = ((mended, name) for (kind, mended), name in self._written.items() if kind in ("ConfigMap", "volume"))
        return next((mended for mended, name in names if name == written), written)

    def _refuse_template(self, kind: str, written: str) -> None:
        if "{{" in written:
            raise ValueError(f"templates do not work in the name of a {kind}: {written!r}")

    def _mended(
        self,
        kind: str,
        written: str,
        is_valid: Callable[[str], bool],
        others: str = r"[^a-z0-9]+",
        note: str = "the name {!r} becomes {!r}",
    ) -> str:
        mended = written if is_valid(written) else _replaced(written, others)
        if not mended:
            raise ValueError(f"no {kind if kind == 'slug' else 'name'} can be made of {written!r}: it needs a-z or 0-9")
        before = self._written.setdefault((kind, mended), written)
        if before != written:
            raise ValueError(f"{before!r} and {written!r} both become {mended!r}: rename one of the two ({kind})")
        if mended != written and (told := note.format(written, mended)) not in self.notes:
            self.notes.append(told)
        return mended


def _replaced(text: str, others: str) -> str:
    # What stands between valid characters is kept, such as two hyphens.
    found = re.sub(others, lambda match: match[0] if set(match[0]) == {"-"} else "-", text.lower())
    return found.strip("-_")[:63].rstrip("-_")


def volume_name(written: str) -> str:
    """Return the name of the volume for an object that exists already.

    Raises:
        ValueError: when no name can be made of it.
    """
    return NameMender().label("volume", written)
