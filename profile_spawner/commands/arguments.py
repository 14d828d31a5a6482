"""The options that several commands have: the sources of the profiles, and the user."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from profile_spawner.migrate.chart_defaults import ChartDefaults

__all__ = [
    "Admin",
    "AuthState",
    "Chart",
    "Compat",
    "Config",
    "Documents",
    "EntryPoints",
    "Groups",
    "Options",
    "Profiles",
    "ProfilesDir",
    "Server",
    "Slug",
    "Sources",
    "User",
    "UserOptions",
    "words",
]

Config = Annotated[
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
ProfilesDir = Annotated[
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
Documents = Annotated[
    list[Path] | None,
    typer.Option(
        "--documents",
        help="A YAML file with profiles, or a folder of them; may be repeated.",
        exists=True,
        envvar="PROFILE_DOCUMENTS",
        metavar="PATH",
    ),
]
Profiles = Annotated[
    str | None,
    typer.Option(
        "--profiles",
        help="Built-in profiles to load: slugs separated by commas, or 'all'.",
        envvar="ENABLED_PROFILES",
        metavar="SLUGS",
    ),
]
Compat = Annotated[
    bool, typer.Option("--configurator-compat", help="Load modules that were written for the EOEPCA configurator.")
]
Chart = Annotated[
    Path | None,
    typer.Option(
        "--chart",
        help="The chart that values are for: its .tgz as `helm pull` fetches it, or its folder. By default, the "
        "defaults of Zero to JupyterHub 4.3 to 4.4 count.",
        exists=True,
        envvar="PROFILE_SPAWNER_CHART",
        metavar="TGZ|DIR",
    ),
]
AuthState = Annotated[
    Path | None,
    typer.Option(
        "--auth-state",
        help="A JSON or YAML file with the user's auth_state, which functions in a configuration may ask for.",
        exists=True,
        dir_okay=False,
        metavar="FILE",
    ),
]
EntryPoints = Annotated[bool, typer.Option("--entry-points", help="Load the profiles of installed packages.")]
User = Annotated[str, typer.Option("--user", "-u", help="The name of the user.", metavar="NAME")]
Groups = Annotated[
    str, typer.Option("--groups", "-g", help="The user's groups, separated by commas.", metavar="GROUPS")
]
Admin = Annotated[bool, typer.Option("--admin", help="The user is an administrator.")]
Server = Annotated[str, typer.Option("--server", help="The name of a named server.", metavar="NAME")]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--options",
        "-o",
        help="What the user chooses: OPTION=CHOICE, may be repeated; or all of it as JSON.",
        metavar="OPTION=CHOICE",
    ),
]


Slug = Annotated[str, typer.Argument(help="The profile's slug.", metavar="SLUG")]


def words(text: str) -> tuple[str, ...]:
    """Return the words of a list that is separated by commas."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


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
        chart: The chart that values are for; `None` takes the built-in table of defaults.
    """

    config: tuple[Path, ...] = ()
    profiles_dirs: tuple[Path, ...] = ()
    documents: tuple[Path, ...] = ()
    profiles: tuple[str, ...] | None = None
    configurator: bool = False
    entry_points: bool = False
    chart: Path | None = None

    @property
    def named(self) -> bool:
        """Whether anything is named at all."""
        return self != Sources(configurator=self.configurator, chart=self.chart)

    def chart_defaults(self) -> ChartDefaults:
        """Return the defaults that values are merged with.

        Raises:
            SourceError: If `chart` is no chart.
        """
        from profile_spawner.migrate.chart_defaults import known_defaults, read_chart

        return read_chart(self.chart) if self.chart is not None else known_defaults

    @classmethod
    def of(
        cls,
        config: Sequence[Path] | None,
        profiles_dirs: Sequence[Path] | None,
        documents: Sequence[Path] | None,
        profiles: str | None,
        configurator: bool,
        entry_points: bool,
        chart: Path | None = None,
    ) -> Sources:
        """Return the sources that the options of a command name."""
        return cls(
            tuple(config or ()),
            tuple(profiles_dirs or ()),
            tuple(documents or ()),
            None if profiles is None else words(profiles),
            configurator,
            entry_points,
            chart,
        )


@dataclass(frozen=True)
class UserOptions:
    """The user and the server that a command is about.

    Attributes:
        name: The name of the user.
        groups: The user's groups.
        admin: Whether the user is an administrator.
        server: The name of a named server.
        chosen: What the user chooses besides the profile.
        auth_state: What the authenticator keeps about the user; `None` without it.
    """

    name: str = "user"
    groups: tuple[str, ...] = ()
    admin: bool = False
    server: str = ""
    chosen: Mapping[str, Any] = field(default_factory=dict)
    auth_state: Mapping[str, Any] | None = None

    @classmethod
    def of(
        cls,
        name: str,
        groups: str,
        admin: bool = False,
        server: str = "",
        options: Sequence[str] | None = None,
        auth_state: Path | None = None,
    ) -> UserOptions:
        """Return the user that the options of a command describe."""
        known = _auth_state(auth_state) if auth_state is not None else None
        return cls(name, words(groups), admin, server, _chosen(options or ()), known)


def _auth_state(path: Path) -> Mapping[str, Any]:
    """Read `--auth-state`.

    Raises:
        typer.BadParameter: If the file holds no mapping.
    """
    from profile_spawner.profiles.yaml_text import parse_yaml

    found = next(iter(parse_yaml(path.read_bytes(), str(path))), None)
    if not isinstance(found, Mapping):
        raise typer.BadParameter(f"--auth-state {path}: expected a mapping, such as {{access_token: text}}")
    return found


def _chosen(given: Sequence[str]) -> dict[str, Any]:
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
                raise typer.BadParameter(f"--options {text!r} is not JSON: {e}") from None
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
