"""Checks the settings of a hub's configuration before profiles are loaded with it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from profile_spawner.errors import Origin, ProfileWarning

from .places import class_line

if TYPE_CHECKING:
    from .configuration import HubConfig

__all__ = ["refused_settings", "spawner_class_of", "unfilled_settings"]

_OURS = ("profile-spawner", "profile_spawner.spawner.ProfileSpawner", "profile_spawner.ProfileSpawner")
_KUBESPAWNERS = ("kubespawner", "kubespawner.KubeSpawner", "kubespawner.spawner.KubeSpawner")


def spawner_class_of(found: HubConfig) -> tuple[Any, ProfileWarning | None]:
    """Return the configured subclass of `ProfileSpawner`, and a warning when another class of one's own is configured.

    The class is `None` for `ProfileSpawner` itself, for KubeSpawner, and for other classes.
    """
    configured: Any = found.config.JupyterHub.get("spawner_class")
    if configured is None or configured in (*_OURS, *_KUBESPAWNERS):
        return None, None
    from profile_spawner.spawner import KubeSpawner, ProfileSpawner

    if isinstance(configured, str) and "." in configured:
        from traitlets.utils.importstring import import_item

        with contextlib.suppress(ImportError):
            configured = import_item(configured)
    if configured in (ProfileSpawner, KubeSpawner):
        return None, None
    if isinstance(configured, type) and issubclass(configured, ProfileSpawner):
        return configured, None
    name = configured.__name__ if isinstance(configured, type) else str(configured)
    return None, ProfileWarning(
        f"the spawner is {name}: what it does besides KubeSpawner is not checked",
        rule="not-checked",
        field="JupyterHub.spawner_class",
        origin=_class_origin(found, name) or found.origin_of("spawner_class"),
        hint="Profiles that it makes itself become part of the hub when it derives from ProfileSpawner",
    )


def _class_origin(found: HubConfig, name: str) -> Origin | None:
    lines = ((code, class_line(code.text, name)) for code in found.code)
    return next((Origin(code.file, code.before + line) for code, line in lines if line), None)


def refused_settings(found: HubConfig, sections: Sequence[str], traits: Mapping[str, Any]) -> Iterator[ProfileWarning]:
    """Yield the settings that their traits do not take, and take them out, so that the rest counts.

    Args:
        found: The configuration.
        sections: The sections that the spawner reads.
        traits: The spawner's traits by name.
    """
    from traitlets import HasTraits, TraitError
    from traitlets.config.loader import LazyConfigValue

    from profile_spawner.migrate.placeholders import OPAQUE

    bare = HasTraits()
    for section in sections:
        for name, value in list(found.config[section].items()):
            if name not in traits or isinstance(value, LazyConfigValue):
                continue
            try:
                traits[name].validate(bare, value)
            except TraitError:
                del found.config[section][name]
                if OPAQUE in str(value):
                    continue
                yield ProfileWarning(
                    f"{section} does not take this value",
                    rule="wrong-value",
                    level="error",
                    field=found.name_of(section, name),
                    value=value,
                    expected=traits[name].info(),
                    origin=found.origin_of(name),
                )
            except Exception:  # noqa: BLE001, S112 - a trait of an own class may need its spawner
                continue


def unfilled_settings(found: HubConfig, sections: Sequence[str]) -> Iterator[ProfileWarning]:
    """Yield the texts of the hub's settings with braces into which nothing can be filled.

    Then they count as text; a setting that is such a text as a whole is taken out.
    """
    from profile_spawner.profiles.linting import about_braces
    from profile_spawner.profiles.user_text import unfilled

    for section in sections:
        settings = found.config[section]
        for (*steps, last), braces in list(unfilled(settings, filled=False)):
            holder: Any = settings
            for step in steps:
                holder = holder[step]
            if not steps:
                del settings[last]
            elif isinstance(holder[last], str):
                with contextlib.suppress(TypeError):  # a tuple
                    holder[last] = re.sub(r"([{}])", r"\1\1", holder[last])
            trait, *path = (*steps, last)
            message, hint = about_braces(braces)
            name = ".".join(map(str, (found.name_of(section, trait), *path)))
            origin = found.origin_of(trait, *path)
            yield ProfileWarning(message, rule="braces", level="error", field=name, hint=hint, origin=origin)
