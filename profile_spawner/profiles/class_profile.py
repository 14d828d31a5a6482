"""`ClassProfile`: a profile that an author wrote as a class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from profile_spawner.errors import Origin, ProfileDefinitionError
from profile_spawner.params.layers import GLOBAL

from .access import Access
from .attributes import ATTRIBUTES
from .author_code import author_code, call_author
from .base import (
    BaseAppProfile,
    ProfileBuild,
    access_of,
    check_profile_class,
    failure_of,
    line_of,
    make_profile,
    options_of,
    origin_of,
)
from .context import ServerContext
from .options import Option
from .profile import Contributor
from .selection import Selection

__all__ = ["ClassProfile"]


@dataclass(frozen=True)
class ClassProfile:
    """A profile that is a class. Each server gets an instance of its own.

    Attributes:
        cls: The class.
    """

    cls: type[BaseAppProfile]

    @property
    def slug(self) -> str:
        """The identity."""
        return self.cls.slug

    @property
    def origin(self) -> Origin:
        """The file and line of the class."""
        return origin_of(self.cls)

    @property
    def contributor(self) -> Contributor:
        """Whether the class is of a module or was made of a document that the data policy restricts."""
        return "document" if getattr(self.cls, "__profile_untrusted__", False) else "module"

    @property
    def takes_params(self) -> bool:
        """True."""
        return True

    def check(self) -> None:
        """Check types, quantities, names and files.

        Raises:
            ProfileDefinitionError: naming the file and line, the attribute, its value and what was expected.
        """
        check_profile_class(self.cls)
        if self.slug == GLOBAL:
            raise ProfileDefinitionError(
                "this slug is taken by the collection of values for everybody",
                profile=self.slug,
                origin=line_of(self.cls, "slug"),
                field="slug",
            )

    def get(self, name: str) -> Any:
        """Return the value of an attribute.

        Raises:
            BuildError: when an author's descriptor fails.
        """
        try:
            return getattr(self.cls, name, None)
        except BaseException as e:
            raise failure_of(self.cls, e, name) from e

    def written(self) -> Mapping[str, Any]:
        """Return the attributes, and what a document says to hooks."""
        return {**{name: self.get(name) for name in ATTRIBUTES}, **getattr(self.cls, "_parts", {})}

    def list_entry(self) -> Mapping[str, Any]:
        """Return an empty dictionary."""
        return {}

    def where(self, path: tuple[Any, ...]) -> Origin:
        """Return the line of the attribute or hook that the path begins with."""
        return line_of(self.cls, str(path[0])) if path else self.origin

    def path_of(self, trait: str) -> tuple[str, ...] | None:
        """Return the attribute for a trait."""
        return (trait,) if trait in ATTRIBUTES and self.get(trait) != ATTRIBUTES[trait].default else None

    def options(self) -> tuple[Option, ...]:
        """Return the options of `profile_options`."""
        with author_code(lambda e: failure_of(self.cls, e, "profile_options")):
            return options_of(self.cls)

    def access(self) -> Access:
        """Return the access rule."""
        with author_code(lambda e: failure_of(self.cls, e, "is_available_to()")):
            return access_of(self.cls)

    async def build(self, context: ServerContext, params: Mapping[str, Any], selection: Selection) -> ProfileBuild:
        """Return the result of `BaseAppProfile.build()`.

        Raises:
            BuildError: whatever an author's code raises.
            ConflictError: when two parts use the same name.
        """
        result: ProfileBuild = await call_author(
            lambda: make_profile(self.cls, context, params=params, selection=selection).build_server(),
            lambda e: failure_of(self.cls, e),
        )
        return result

    def changed(self, attributes: Mapping[str, Any]) -> ClassProfile:
        """Return a profile whose class extends this one.

        Raises:
            ProfileDefinitionError: when a value is invalid.
        """
        if not attributes:
            return self
        base = self.cls

        def construct(profile: BaseAppProfile, *args: Any, **kwargs: Any) -> None:
            base.__init__(profile, *args, **kwargs)
            # What an author's constructor sets must not hide the change.
            fresh = object.__new__(type(profile))
            BaseAppProfile.__init__(fresh, profile.context, params=profile.params, selection=profile.selection)
            for name in attributes:
                vars(profile).pop(name, None)
                if name in vars(fresh):
                    vars(profile)[name] = vars(fresh)[name]

        where = Origin(str(self.origin))
        own = {"__init__": construct, "__module__": base.__module__, "__profile_origin__": where}
        space = {**attributes, **own}
        made = ClassProfile(type(self.cls.__name__, (self.cls,), space))
        made.check()
        return made
