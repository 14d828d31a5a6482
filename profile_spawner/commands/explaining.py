"""`explain`: shows where the value of a param comes from."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from profile_spawner.errors import NotAvailableError, ParamError, SourceError, did_you_mean

from . import arguments as args
from .app import app
from .arguments import Sources, UserOptions
from .cluster import Kubeconfig, Namespace, read_object
from .loading import LoadedProfiles, find_entry, loaded
from .output import Format, OutputOption, cell, make_table, place, print_data
from .places import literal_keys

__all__ = ["explain"]


@app.command()
def explain(
    profile: Annotated[
        str | None, typer.Option("--profile", "-p", help="The profile; the user's default by default.", metavar="SLUG")
    ] = None,
    param: Annotated[str | None, typer.Option("--param", help="Only this one.", metavar="NAME")] = None,
    pod: Annotated[
        str | None,
        typer.Option("--pod", help="Instead: what this running server was started with.", metavar="NAME"),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            "--record",
            help="Instead: what stands in this file: a pod (kubectl get pod -o json), or a server's state from "
            "JupyterHub's database or API, as JSON or YAML.",
            exists=True,
            dir_okay=False,
            metavar="FILE",
        ),
    ] = None,
    user: args.User = "user",
    groups: args.Groups = "",
    admin: args.Admin = False,
    server: args.Server = "",
    options: args.Options = None,
    kubeconfig: Kubeconfig = None,
    namespace: Namespace = None,
    output: OutputOption = Format.table,
    config: args.Config = None,
    profiles_dir: args.ProfilesDir = None,
    documents: args.Documents = None,
    profiles: args.Profiles = None,
    configurator_compat: args.Compat = False,
    entry_points: args.EntryPoints = False,
    chart: args.Chart = None,
    auth_state: args.AuthState = None,
) -> None:
    """Say for every param which value a server gets, from which layer, file and line, and what that value hides.

    Without --pod and --record, for a server that would be started now. A secure param is shown as ***. Of a value that
    cannot be used the reason is shown, and the exit code is 1.
    """
    if pod is not None:
        found = record_of(asyncio.run(read_object("pods", pod, kubeconfig, namespace)), f"pod {pod}")
    elif record is not None:
        found = record_of(_read(record), str(record))
    else:
        sources = Sources.of(config, profiles_dir, documents, profiles, configurator_compat, entry_points, chart)
        found = _now(sources, UserOptions.of(user, groups, admin, server, options, auth_state), profile)
    if param is not None:
        if param not in found:
            raise ParamError(f"has no value here{did_you_mean(param, found)}", field=f"param {param}")
        found = {param: found[param]}
    if not found:
        typer.echo("Note: the profile uses no params", err=True)
    print_data(list(found.values()), output, make_table(["param", "value", "layer", "from", "hides"], _rows(found)))
    raise typer.Exit(1 if any(one.get("error") for one in found.values()) else 0)


def _now(sources: Sources, user: UserOptions, slug: str | None) -> dict[str, Any]:
    with loaded(sources, user=user) as found:
        record = found.run(_record(found, user, slug))
    written = {
        keys: f"{code.file}:{code.before + line}"
        for code in found.hub_config.code
        for keys, line in literal_keys(code.text, "param_values").items()
    }
    for name, one in record.items():
        for value in (one, *one["overridden"]):
            origin = value["origin"]
            if origin and origin.startswith("param_values"):  # what a spawner can tell; here the files are known
                origin = _configured_at(written, user, name, value["layer"], value["source"]) or origin
            value["origin"] = place(origin) if origin else None
    return record


async def _record(found: LoadedProfiles, user: UserOptions, slug: str | None) -> dict[str, Any]:
    from profile_spawner.profiles.selection import Rejection

    spawner = found.spawner(user)
    chosen = slug or found.snapshot.default_for(spawner.user_info)
    if chosen is None:
        raise NotAvailableError("there is no profile for this user", field="--user", value=user.name)
    entry = find_entry(found.snapshot, chosen)
    selection = found.snapshot.select({"profile": entry.slug, **user.chosen}, spawner.user_info)
    if isinstance(selection, Rejection):
        raise NotAvailableError(selection.message, profile=entry.slug)
    record: dict[str, Any] = found.snapshot.record(selection, **await spawner.param_layers())
    return record


def _configured_at(
    written: Mapping[tuple[Any, ...], str], user: UserOptions, name: str, layer: str, source: str
) -> str | None:
    """Return the file and line of a configured value; `None` for what was chosen, or comes from a hook."""
    places: dict[str, tuple[str, ...]] = {
        "enforced": ("enforced",),
        "hub": ("hub",),
        "user": ("users", user.name),
        "server": ("servers", f"{user.name}/{user.server}"),
        "groups": ("groups", source),
    }
    if layer not in places:
        return None
    paths = ((*places[layer], name), (*places[layer], "params", name))
    return next((written[path] for path in paths if path in written), None)


def record_of(server: Any, where: str) -> dict[str, Any]:
    """Return the record of a server's params: of a pod, or of a server's state as JupyterHub keeps it.

    Args:
        server: A pod, a state, or JupyterHub's model of a server with its state.
        where: What it is, for messages.

    Raises:
        SourceError: when there is none.
    """
    from profile_spawner.names import ANNOTATION_PARAMS

    found = _within(server, "profile_spawner", "params") or _within(server, "state", "profile_spawner", "params")
    if found is None:
        text = _within(server, "metadata", "annotations", ANNOTATION_PARAMS)
        with contextlib.suppress(ValueError, TypeError):
            found = json.loads(text or "null")
    if not isinstance(found, Mapping) or not all(map(_is_explanation, found.values())):
        raise SourceError(
            f"{where} has no record of params",
            field=ANNOTATION_PARAMS,
            expected="a pod of a profile with params; a very long record stands in the server's state only",
        )
    return dict(found)


def _is_explanation(value: Any) -> bool:
    keys = {"value", "layer", "source", "origin"}
    hidden = value.get("overridden") if isinstance(value, Mapping) else None
    return isinstance(hidden, list) and all(isinstance(v, Mapping) and keys <= v.keys() for v in (value, *hidden))


def _within(value: Any, *steps: str) -> Any:
    for step in steps:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _read(path: Path) -> Any:
    from profile_spawner.profiles.yaml_text import parse_yaml

    return next(iter(parse_yaml(path.read_bytes(), str(path))), None)


def _rows(found: Mapping[str, Any]) -> list[list[Any]]:
    rows = []
    for name, one in found.items():
        hidden = [f"{_where(s)} = {cell(s['value'])}" for s in one["overridden"]]
        joined = "joined with " if one.get("merged") and hidden else ""
        value = f"Error: {one['error']}" if one.get("error") else cell(one["value"])
        rows.append([name, value, one["layer"], _where(one), joined + "\n".join(hidden)])
    return rows


def _where(one: Mapping[str, Any]) -> str:
    text = one["source"] if one["source"] != one["layer"] else one["layer"]
    return f"{text} ({place(one['origin'])})" if one["origin"] else str(text)
