"""`Profile`: the interface of all profiles, whether an author wrote a class or an entry of a `profile_list`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from profile_spawner.errors import Origin

from .access import Access
from .base import ProfileBuild
from .context import ServerContext
from .options import Option
from .selection import Selection

__all__ = ["Contributor", "Profile"]

Contributor = Literal["hub", "module", "document"]
"""Who wrote a profile: the hub's own configuration, a Python module, or a document that the data policy restricts."""


class Profile(Protocol):
    """One registered profile. `ClassProfile` and `PlainEntry` implement it."""

    @property
    def slug(self) -> str:
        """The identity."""

    @property
    def origin(self) -> Origin:
        """File and line."""

    @property
    def contributor(self) -> Contributor:
        """Who wrote it."""

    @property
    def takes_params(self) -> bool:
        """Whether params can decide on it."""

    def check(self) -> None:
        """Check everything that can be checked without a server.

        Raises:
            ProfileDefinitionError: naming the file and line, the attribute, its value and what was expected.
        """

    def get(self, name: str) -> Any:
        """Return the value of an attribute, or its default; `None` for an unknown attribute."""

    def written(self) -> Mapping[str, Any]:
        """Return what the author wrote, by attribute or key, to compare two versions of the profile."""

    def list_entry(self) -> Mapping[str, Any]:
        """Return the entry of a `profile_list` that the author wrote; empty if it was not one."""

    def where(self, path: tuple[Any, ...]) -> Origin:
        """Return the file and line of a value, by the keys that lead to it, as far as they are known."""

    def path_of(self, trait: str) -> tuple[str, ...] | None:
        """Return the keys that lead to the value for a trait of KubeSpawner; `None` if the profile sets none."""

    def options(self) -> tuple[Option, ...]:
        """Return what users can choose."""

    def access(self) -> Access:
        """Return the access rule.

        Raises:
            ProfileDefinitionError: when it is invalid.
        """

    async def build(self, context: ServerContext, params: Mapping[str, Any], selection: Selection) -> ProfileBuild:
        """Return everything that a server of this profile needs.

        Raises:
            BuildError: whatever the author's code raises.
            ConflictError: when two parts use the same name.
        """

    def changed(self, attributes: Mapping[str, Any]) -> Profile:
        """Return a profile with other values of these attributes.

        Raises:
            ProfileDefinitionError: when a value is invalid or cannot be changed.
        """
