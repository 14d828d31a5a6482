"""Checks the settings of a hub's configuration before profiles are loaded with it."""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from profile_spawner.errors import Origin, ProfileWarning, described, given

from .places import class_line

if TYPE_CHECKING:
    from .configuration import HubConfig

__all__ = [
    "guard_functions",
    "own_form",
    "refused_settings",
    "sound_entries",
    "spawner_class_of",
    "suspicious_settings",
    "unfilled_settings",
]

Tell = Callable[[ProfileWarning], object]
"""Called with what cannot be checked here."""

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


def own_form(found: HubConfig, sections: Sequence[str]) -> Iterator[ProfileWarning]:
    """Yield a warning when a function makes the spawn page, which may set profiles, and there is no `profile_list`."""
    for section in sections:
        settings = found.config[section]
        if callable(settings.get("options_form")) and not any("profile_list" in found.config[s] for s in sections):
            yield ProfileWarning(
                "is a function that makes the spawn page: profiles that it sets are not checked",
                rule="not-checked",
                field=found.name_of(section, "options_form"),
                origin=_place_of(found, ("options_form",)),
                hint="A function in profile_list is called, and what it returns is checked",
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
    from profile_spawner.profiles.linting import expected_by

    bare = HasTraits()
    for section in sections:
        for name, value in list(found.config[section].items()):
            if name not in traits or isinstance(value, LazyConfigValue):
                continue
            if name == "profile_list" and isinstance(value, list | tuple):
                others = (one for one in _keyed(value) if not isinstance(one[2], Mapping))
                yield from (_no_profile(found, *one) for one in others)
                continue  # `sound_entries` leaves them out
            try:
                traits[name].validate(bare, value)
            except TraitError:
                _mend(found.config[section], name, traits[name])
                if OPAQUE in str(value):
                    continue
                yield ProfileWarning(
                    f"{section} does not take this value",
                    rule="wrong-value",
                    level="error",
                    field=found.name_of(section, name),
                    value=given(value),
                    expected=expected_by(name, traits[name]),
                    origin=found.origin_of(name),
                )
            except Exception:  # noqa: BLE001, S112 - a trait of an own class may need its spawner
                continue


def _keyed(listed: Any) -> Iterator[tuple[Any, str, Any]]:
    """Yield the keys of the entries of a list or mapping, what to call them, and the entries."""
    from profile_spawner.profiles.plain_entries import each_entry

    keys = sorted(listed) if isinstance(listed, Mapping) else range(len(listed))
    yield from ((key, *entry) for key, entry in zip(keys, each_entry(listed), strict=True))


def _no_profile(found: HubConfig, key: Any, called: str, item: Any) -> ProfileWarning:
    return ProfileWarning(
        "an entry must be a mapping",
        rule="wrong-type",
        level="error",
        field=called,
        value=given(item),
        origin=found.origin_of("profile_list", key),
    )


def _mend(settings: Any, name: str, trait: Any) -> None:
    """Replace a value that a trait does not take by what was probably meant, or take it out."""
    from traitlets import HasTraits, TraitError

    value = settings.pop(name)
    readings: tuple[Any, ...] = (str,) if isinstance(value, int | float) else (int, float)
    for read in readings if isinstance(value, str | int | float) else ():
        with contextlib.suppress(TraitError, ValueError):
            settings[name] = trait.validate(HasTraits(), read(value))
            return


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


def suspicious_settings(
    found: HubConfig, sections: Sequence[str], traits: Mapping[str, Any]
) -> Iterator[ProfileWarning]:
    """Yield what is probably not intended in the hub's settings. Variables of servers that are no texts become texts.

    Args:
        found: The configuration.
        sections: The sections that the spawner reads.
        traits: The spawner's traits by name.
    """
    from traitlets.config.loader import LazyConfigValue

    from profile_spawner.profiles.linting import lint_settings, no_text

    for section in sections:
        settings = found.config[section]
        known = {
            name: _items_of(value) if name == "environment" else value
            for name, value in settings.items()
            if name in traits and (name == "environment" or not isinstance(value, LazyConfigValue))
        }
        for warning in lint_settings(known, traits, lambda path: _place_of(found, path)):
            trait, *rest = warning.path
            warning.field = ".".join(map(str, (found.name_of(section, trait), *rest)))
            yield warning
        variables = known.get("environment", {})
        variables.update({name: str(value) for name, value in variables.items() if no_text(value)})


def _place_of(found: HubConfig, path: tuple[Any, ...]) -> Origin:
    return found.origin_of(*path) or Origin(str(found.files[0]))


# ------------------------------------------------------------------------------------------------ entries

_MENDED = ("braces", "unquoted-text", "wrong-type", "wrong-value")
"""Rules for what keeps a server from starting, so that nothing else of it could be checked."""


def sound_entries(found: HubConfig, listed: Any, traits: Mapping[str, Any], tell: Tell) -> Any:
    """Return a `profile_list` without what is wrong in its entries, so that the rest of them can be checked.

    Args:
        found: The configuration.
        listed: The list. It is not changed.
        traits: The spawner's traits by name.
        tell: Called with what is wrong, and with the functions that fail.
    """
    from profile_spawner.profiles.linting import lint_entry
    from profile_spawner.profiles.plain_entries import CONFIGURATION, sound_parts

    try:
        entries = list(_keyed(listed if isinstance(listed, list | tuple | Mapping) else None))
    except TypeError:
        return listed  # not a list, or keys that cannot be sorted: loading reports it
    places, result = found.places(), []
    for key, called, definition in entries:
        if not isinstance(definition, Mapping):
            tell(_no_profile(found, key, called, definition))
            continue
        at = found.origin_of("profile_list", key) or CONFIGURATION
        named = isinstance(definition.get("display_name"), str)
        where = places.of_definition(definition, Origin(at.source) if named else at)
        sound, problems = sound_parts(definition)
        linted = lint_entry(sound, traits, where)
        wrong = [w for w in linted if w.rule in _MENDED and w.level == "error"]
        for problem in (*problems, *wrong):
            problem.profile = _slug_of(sound)
            problem.origin = where(problem.path)
            tell(problem)
        result.append(_with_guards(_mended(sound, wrong), where, tell))
    return result


def _slug_of(definition: Mapping[str, Any]) -> str:
    from profile_spawner.profiles.plain_entries import slugify_like_kubespawner

    return str(definition.get("slug") or slugify_like_kubespawner(str(definition.get("display_name") or "")))


def _mended(definition: Any, wrong: Sequence[ProfileWarning]) -> Any:
    """Return an entry without what the linter has found."""
    from profile_spawner.profiles.plain_entries import replaced

    # What stands in a value before the value.
    for path, rule in sorted({w.path: w.rule for w in wrong}.items(), key=lambda found: -len(found[0])):
        value: Any = definition
        for step in path:
            value = value[step]
        if rule == "unquoted-text":
            definition = replaced(definition, path, str(value))
        elif rule == "braces":
            definition = replaced(definition, path, re.sub("[{}]", "", value))
        else:
            definition = replaced(definition, path)
    return definition


def _with_guards(definition: Any, where: Callable[[tuple[Any, ...]], Origin], tell: Tell) -> Any:
    """Return an entry whose functions do not fail; where one raises, its setting stays as the hub has it."""
    from profile_spawner.profiles.plain_entries import replaced
    from profile_spawner.profiles.user_text import nodes

    slug = _slug_of(definition)
    for path, value in list(nodes(definition)):
        if "kubespawner_override" not in path[:-1] or not _is_function(value):
            continue
        below = path[path.index("kubespawner_override") + 1 :]

        def failed(function: Any, error: BaseException, path: tuple[Any, ...] = path) -> None:
            field = ".".join(map(str, path))
            tell(_about_failure(function, error, field, where(path), slug))

        def instead(spawner: Any, *_: Any, below: tuple[Any, ...] = below) -> Any:
            return getattr(spawner, below[0], None) if len(below) == 1 else None

        guarded = _guarded(_for_variable(value) if below[0] == "environment" else value, failed, instead)
        definition = replaced(definition, path, guarded)
    return definition


# ------------------------------------------------------------------------------------------------ functions


def guard_functions(found: HubConfig, sections: Sequence[str], traits: Mapping[str, Any], tell: Tell) -> None:
    """Replace the functions in the hub's settings by functions that do not fail.

    A function may need what only the hub's machine has. When it raises, its setting counts as not set, so that
    everything else can be checked.

    Args:
        found: The configuration. It is changed.
        sections: The sections that the spawner reads.
        traits: The spawner's traits by name.
        tell: Called once for each function that fails, when it fails first.
    """
    for section in sections:
        for name, value in list(found.config[section].items()):
            if name == "profile_list" or name not in traits:
                continue
            failed = functools.partial(_failed, found, section, tell)
            if _is_function(value):
                instead = _same_pod if name == "modify_pod_hook" else functools.partial(_default_of, traits[name])
                found.config[section][name] = _guarded(value, functools.partial(failed, (name,)), instead)
            elif name == "environment":
                variables = _items_of(value)
                for key, one in list(variables.items()):
                    if _is_function(one):
                        variables[key] = _guarded(_for_variable(one), functools.partial(failed, (name, key)), _nothing)


def _is_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, type)


def _items_of(value: Any) -> dict[str, Any]:
    """Return the dictionary that is the value of a setting, or that is added to it (`c.Class.name.update(...)`)."""
    from traitlets.config.loader import LazyConfigValue

    found = value.to_dict().get("update") if isinstance(value, LazyConfigValue) else value
    return found if isinstance(found, dict) else {}


class _WrongResultError(Exception):
    """A function returns what its setting does not take."""


def _for_variable(function: Any) -> Any:
    """Return a function for an environment variable that raises an error for what is no text."""
    from profile_spawner.profiles.linting import no_text

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        result = function(*args)
        if what := no_text(result):
            raise _WrongResultError(what)
        return result

    return call


def _nothing(*_: Any) -> None:
    """Return no value: the variable is then empty."""


def _same_pod(spawner: Any, pod: Any) -> Any:
    del spawner
    return pod


def _default_of(trait: Any, *_: Any) -> Any:
    return trait.default()


def _guarded(function: Any, failed: Callable[[Any, BaseException], None], instead: Callable[..., Any]) -> Any:
    """Return a function that returns what `function` returns, or, where that raises, what `instead` returns."""
    told = False

    def fail(error: BaseException, args: Any) -> Any:
        nonlocal told
        if not told:
            told = True
            failed(function, error)
        return instead(*args)

    async def awaited(result: Any, args: Any) -> Any:
        try:
            return await result
        except (Exception, SystemExit) as e:  # noqa: BLE001 - it may raise anything
            return fail(e, args)

    # Not an object: a copy of the configuration must not copy it.
    def call(*args: Any) -> Any:
        try:
            result = function(*args)
        except (Exception, SystemExit) as e:  # noqa: BLE001 - it may raise anything
            return fail(e, args)
        return awaited(result, args) if inspect.isawaitable(result) else result

    return call


def _failed(
    found: HubConfig, section: str, tell: Tell, path: tuple[str, ...], function: Any, error: BaseException
) -> None:
    trait, *rest = path
    field = ".".join((found.name_of(section, trait), *rest))
    tell(_about_failure(function, error, field, _place_of(found, path)))


def _about_failure(
    function: Any, error: BaseException, field: str, origin: Origin, profile: str = ""
) -> ProfileWarning:
    name = getattr(function, "__name__", type(function).__name__)
    named = "the function" if name == "<lambda>" else f"the function {name}"
    if isinstance(error, _WrongResultError):
        message = f"{named} returns {error}, but a variable must be a text, so no server can start"
        return ProfileWarning(message, rule="unquoted-text", level="error", profile=profile, field=field, origin=origin)
    return ProfileWarning(
        f"{named} fails here, so this setting is left out: {described(error)}",
        rule="not-checked",
        profile=profile,
        field=field,
        origin=origin,
        hint="--user and --auth-state say for whom it is called",
    )
