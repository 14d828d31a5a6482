"""The common options of most commands: the sources of the profiles, and the user."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

__all__ = ["Sources", "Whose", "parse_options", "with_reader", "with_sources", "with_user"]


@dataclass(frozen=True)
class Sources:
    """Where the profiles come from.

    Attributes:
        config: Configuration files of a hub, folders of them, or values of Zero to JupyterHub, read in this order.
        profiles_dirs: Folders of Python modules, added to those of the configuration.
        documents: YAML files or folders of them, added to those of the configuration.
        profiles: The slugs of built-in profiles, or `all`; `None` leaves it to the configuration.
        configurator: Whether modules of the EOEPCA configurator can be loaded.
        entry_points: Whether profiles of installed packages are loaded.
    """

    config: tuple[Path, ...] = ()
    profiles_dirs: tuple[Path, ...] = ()
    documents: tuple[Path, ...] = ()
    profiles: tuple[str, ...] | None = None
    configurator: bool = False
    entry_points: bool = False

    @property
    def named(self) -> bool:
        """Whether anything is named at all."""
        return self != Sources(configurator=self.configurator)


@dataclass(frozen=True)
class Whose:
    """The user and the server that a command is about.

    Attributes:
        user: The name.
        groups: The user's groups.
        admin: Whether the user is an administrator.
        server: The name of a named server.
        options: What the user chooses besides the profile.
    """

    user: str = "user"
    groups: tuple[str, ...] = ()
    admin: bool = False
    server: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


_Config = Annotated[
    list[Path] | None,
    typer.Option(
        "--config",
        "-f",
        help="A jupyterhub_config.py, a folder of such files, or values of Zero to JupyterHub (YAML); may be repeated. "
        "Without any source, the jupyterhub_config.py in this folder is taken (in the hub's container the hub's), and "
        "without one all built-in profiles.",
        exists=True,
        envvar="PROFILE_SPAWNER_CONFIG",
        metavar="PATH",
    ),
]
_Dirs = Annotated[
    list[Path] | None,
    typer.Option(
        "--profiles-dir",
        help="A folder of Python modules with profiles; may be repeated.",
        exists=True,
        file_okay=False,
        envvar="PROFILES_DIR",
        metavar="DIR",
    ),
]
_Documents = Annotated[
    list[Path] | None,
    typer.Option(
        "--documents",
        help="A YAML file with profiles, or a folder of them; may be repeated.",
        exists=True,
        envvar="PROFILE_DOCUMENTS",
        metavar="PATH",
    ),
]
_Profiles = Annotated[
    str | None,
    typer.Option(
        "--profiles",
        help="Built-in profiles to load: slugs separated by commas, or 'all'.",
        envvar="ENABLED_PROFILES",
        metavar="SLUGS",
    ),
]
_Compat = Annotated[
    bool, typer.Option("--configurator-compat", help="Load modules that were written for the EOEPCA configurator.")
]
_Entry = Annotated[bool, typer.Option("--entry-points", help="Load the profiles of installed packages.")]
_User = Annotated[str, typer.Option("--user", "-u", help="The name of the user.", metavar="NAME")]
_Groups = Annotated[
    str, typer.Option("--groups", "-g", help="The user's groups, separated by commas.", metavar="GROUPS")
]
_Admin = Annotated[bool, typer.Option("--admin", help="The user is an administrator.")]
_Server = Annotated[str, typer.Option("--server", help="The name of a named server.", metavar="NAME")]
_Options = Annotated[
    list[str] | None,
    typer.Option(
        "--options",
        "-o",
        help="What the user chooses: OPTION=CHOICE, may be repeated; or all of it as JSON.",
        metavar="OPTION=CHOICE",
    ),
]


def with_sources(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say where profiles come from, as its first argument, a `Sources`."""

    @functools.wraps(command)
    def run(
        *args: Any,
        config: list[Path] | None,
        profiles_dir: list[Path] | None,
        documents: list[Path] | None,
        profiles: str | None,
        configurator_compat: bool,
        entry_points: bool,
        **kwargs: Any,
    ) -> Any:
        sources = Sources(
            config=tuple(config or ()),
            profiles_dirs=tuple(profiles_dir or ()),
            documents=tuple(documents or ()),
            profiles=None if profiles is None else _words(profiles),
            configurator=configurator_compat,
            entry_points=entry_points,
        )
        return command(sources, *args, **kwargs)

    added = {
        "config": (_Config, None),
        "profiles_dir": (_Dirs, None),
        "documents": (_Documents, None),
        "profiles": (_Profiles, None),
        "configurator_compat": (_Compat, False),
        "entry_points": (_Entry, False),
    }
    return _with_parameters(run, command, "sources", added)


def with_user(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say for whom, as its first argument, a `Whose`. Outside of `with_sources`."""

    @functools.wraps(command)
    def run(
        *args: Any, user: str, groups: str, admin: bool, server: str, options: list[str] | None, **kwargs: Any
    ) -> Any:
        whose = Whose(user, _words(groups), admin, server, parse_options(options or ()))
        return command(*args, whose=whose, **kwargs)

    added = {
        "user": (_User, "user"),
        "groups": (_Groups, ""),
        "admin": (_Admin, False),
        "server": (_Server, ""),
        "options": (_Options, None),
    }
    return _with_parameters(run, command, "whose", added)


def with_reader(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say for which user a list of profiles is made, as its first argument, a `Whose`.

    They matter where `profile_list` is a function, and for the names in what is made. Outside of `with_sources`.
    """

    @functools.wraps(command)
    def run(*args: Any, user: str, groups: str, **kwargs: Any) -> Any:
        return command(*args, whose=Whose(user, _words(groups)), **kwargs)

    return _with_parameters(run, command, "whose", {"user": (_User, "user"), "groups": (_Groups, "")})


def _with_parameters(
    run: Callable[..., Any], command: Callable[..., Any], replaced: str, added: Mapping[str, tuple[Any, Any]]
) -> Callable[..., Any]:
    """Let `run` show `command`'s parameters, with `added` instead of `replaced`; typer reads the signature."""
    signature = inspect.signature(command)
    hints = {**get_type_hints(command, include_extras=True), **{name: hint for name, (hint, _) in added.items()}}
    hints.pop(replaced, None)
    others = [p for p in signature.parameters.values() if p.name != replaced]
    kept = [p.replace(annotation=hints.get(p.name, p.annotation)) for p in others]
    new = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
        for name, (hint, default) in added.items()
    ]
    run.__signature__ = inspect.Signature(_in_order([*kept, *new]))  # type: ignore[attr-defined]
    run.__annotations__ = hints
    run.__dict__.pop("__wrapped__", None)  # else its signature would be taken
    return run


def _in_order(parameters: Sequence[inspect.Parameter]) -> list[inspect.Parameter]:
    return sorted(parameters, key=lambda p: p.kind)


def parse_options(given: Sequence[str]) -> dict[str, Any]:
    """Read `--options`: `OPTION=CHOICE` each, where several for one option make a list, or one JSON object.

    Raises:
        typer.BadParameter: when it is neither.
    """
    result: dict[str, Any] = {}
    for text in given:
        if text.lstrip().startswith("{"):
            try:
                result.update(json.loads(text))
            except ValueError as e:
                raise typer.BadParameter(f"--options {text!r} is no JSON: {e}") from None
            continue
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise typer.BadParameter(f"--options {text!r}: expected OPTION=CHOICE")
        if name in result:
            before = result[name]
            result[name] = [*(before if isinstance(before, list) else [before]), value]
        else:
            result[name] = value
    return result
