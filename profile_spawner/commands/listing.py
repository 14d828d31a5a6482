"""`list` and `show`: print profiles and their values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from profile_spawner.errors import ParamError

from . import arguments as args
from .app import app
from .arguments import Sources, UserOptions
from .cluster import ClusterDocuments, FromCluster, Kubeconfig, Namespace
from .configuration import setting
from .loading import LoadedProfiles, find_entry, loaded
from .output import Format, OutputOption, cell, make_table, place, plain, print_data, report_problems, tell_per_user

if TYPE_CHECKING:
    from profile_spawner.params.evaluator import Explanation
    from profile_spawner.profiles.base import BaseAppProfile
    from profile_spawner.profiles.entry import Entry
    from profile_spawner.profiles.options import Option

    from .places import Where

__all__ = ["list_profiles", "show"]

_FOR = Annotated[
    str | None, typer.Option("--user", "-u", help="Only the profiles that this user may use.", metavar="NAME")
]
_IN = Annotated[
    str, typer.Option("--groups", "-g", help="With --user: the user's groups, separated by commas.", metavar="GROUPS")
]


class Kind(str, Enum):
    """What is listed."""

    profiles = "profiles"
    collections = "collections"
    params = "params"


@app.command("list")
def list_profiles(
    user: _FOR = None,
    groups: _IN = "",
    kind: Annotated[Kind, typer.Option("--kind", help="What to list.")] = Kind.profiles,
    meta: Annotated[
        list[str] | None,
        typer.Option("--meta", help="Only what has this value in `meta`; can be repeated.", metavar="KEY=VALUE"),
    ] = None,
    output: OutputOption = Format.table,
    config: args.Config = None,
    profiles_dir: args.ProfilesDir = None,
    documents: args.Documents = None,
    profiles: args.Profiles = None,
    configurator_compat: args.Compat = False,
    entry_points: args.EntryPoints = False,
    chart: args.Chart = None,
    auth_state: args.AuthState = None,
    from_cluster: FromCluster = False,
    kubeconfig: Kubeconfig = None,
    namespace: Namespace = None,
) -> None:
    """List the profiles that a hub with this configuration offers, and to whom; or its collections or params.

    Profiles that cannot be loaded are reported on standard error; then the exit code is 1.
    """
    from profile_spawner.profiles.access import UserInfo

    sources = Sources.of(config, profiles_dir, documents, profiles, configurator_compat, entry_points, chart)
    wanted = [_pair(text) for text in meta or ()]
    viewer = None if user is None else UserOptions.of(user, groups, auth_state=auth_state)
    cluster = ClusterDocuments(kubeconfig, namespace) if from_cluster else None
    with loaded(sources, user=viewer, cluster=cluster) as found:
        entries = list(found.snapshot.entries.values())
        if viewer is not None:
            entries = list(found.snapshot.visible_to(UserInfo(viewer.name, frozenset(viewer.groups))))
        elif found.per_user:
            tell_per_user(UserOptions())
        rows = [_summary(found, e) for e in entries] if kind is Kind.profiles else _defined(found, kind)
    rows = [row for row in rows if all(str(row["meta"].get(key)) == value for key, value in wanted)]
    if kind is Kind.profiles:
        shown = [[r["slug"], r["display_name"], r["image"], r["resources"], r["for"], r["origin"]] for r in rows]
        table = make_table(["slug", "name", "image", "resources", "for", "written at"], shown)
    else:
        shown = [[r["name"], r["description"], cell(r["meta"] or ""), r["origin"]] for r in rows]
        table = make_table(["name", "description", "meta", "written at"], shown)
    print_data(rows, output, table)
    raise typer.Exit(1 if report_problems(found.snapshot.problems) else 0)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise ParamError("is no filter", field="--meta", value=text, expected="KEY=VALUE, such as platform=gpu")
    return key, value


def _defined(found: LoadedProfiles, kind: Kind) -> list[dict[str, Any]]:
    """Return the collections or the definitions of params."""
    from profile_spawner.params.definition import thaw

    resolver = found.snapshot.resolver
    if resolver is None:
        return []
    slugs = found.snapshot.entries
    named: list[Any] = (
        list(resolver.definitions.values())
        if kind is Kind.params
        else [one for name, one in resolver.collections.items() if name not in slugs]
    )
    return [
        {
            "name": one.name,
            "description": one.description,
            "documentation": one.documentation,
            "meta": thaw(one.meta),
            "origin": place(one.origin) if one.origin is not None else "",
        }
        for one in named
    ]


def _summary(found: LoadedProfiles, entry: Entry) -> dict[str, Any]:
    offer, effective = entry.offer, entry.effective
    result = {
        "slug": offer.slug,
        "display_name": offer.display_name,
        "description": offer.description,
        "image": _image_of(found, entry),
        "resources": resources_of(effective),
        "for": entry.offer.access.describe(),
        "category": entry.category,
        "tags": list(entry.tags),
        "default": offer.default,
        "options": [o.name for o in offer.options],
        "documentation": entry.documentation,
        "meta": dict(entry.meta),
        "origin": place(found.places.of(entry)(())),
    }
    if offer.unavailable:
        result["unavailable"] = "; ".join(map(str, found.snapshot.reasons(entry.slug))) or offer.unavailable
    if offer.deprecated:
        result["deprecated"] = offer.deprecated
    return result


def _image_of(found: LoadedProfiles, entry: Entry) -> str:
    """Return the image that a server gets by default: that of the profile, of its options' defaults, or of the hub."""
    image = entry.effective.get("image", "")
    for option in entry.offer.options:
        value = option.default_for(None)
        for override in option.overrides(value, typed=False) if value not in (None, ()) else ():
            image = override.get("image", image)
    if image or entry.profile.path_of("image") is not None:
        return "" if callable(image) else str(image)
    configured = setting(found.config, "image")
    return str(configured if configured is not None else found.spawner_class.image.default())


def resources_of(effective: Mapping[str, Any]) -> str:
    """Return the limits in a few words, such as `2 CPU, 4G, 1 nvidia.com/gpu`."""
    parts = []
    if effective.get("cpu_limit") is not None:
        limit = effective["cpu_limit"]
        parts.append(f"{limit:g} CPU" if isinstance(limit, int | float) else f"{limit} CPU")
    if effective.get("mem_limit") is not None:
        parts.append(str(effective["mem_limit"]))
    extra = effective.get("extra_resource_limits")
    parts += [f"{count} {name}" for name, count in extra.items()] if isinstance(extra, Mapping) else []
    return ", ".join(parts)


@app.command()
def show(
    slug: args.Slug,
    user: args.User = "user",
    groups: args.Groups = "",
    output: OutputOption = Format.table,
    config: args.Config = None,
    profiles_dir: args.ProfilesDir = None,
    documents: args.Documents = None,
    profiles: args.Profiles = None,
    configurator_compat: args.Compat = False,
    entry_points: args.EntryPoints = False,
    chart: args.Chart = None,
    auth_state: args.AuthState = None,
    from_cluster: FromCluster = False,
    kubeconfig: Kubeconfig = None,
    namespace: Namespace = None,
) -> None:
    """Show every effective value of a profile, and the file and line that it comes from."""
    sources = Sources.of(config, profiles_dir, documents, profiles, configurator_compat, entry_points, chart)
    cluster = ClusterDocuments(kubeconfig, namespace) if from_cluster else None
    with loaded(sources, user=UserOptions.of(user, groups, auth_state=auth_state), cluster=cluster) as found:
        entry = find_entry(found.snapshot, slug)
        data = {
            **_summary(found, entry),
            "values": [{"field": f, "value": plain(v), "origin": place(o)} for f, v, o in _rows(found, entry)],
        }
    shown = [[row["field"], cell(row["value"]), row["origin"]] for row in data["values"]]
    title = f"{entry.offer.display_name} ({entry.slug}), for {entry.offer.access.describe()}"
    print_data(data, output, make_table(["field", "value", "comes from"], shown, title=title))


def _rows(found: LoadedProfiles, entry: Entry) -> Iterable[tuple[str, Any, Any]]:
    from profile_spawner.profiles.class_profile import ClassProfile

    if not isinstance(entry.profile, ClassProfile):
        return _entry_rows(entry, found.places.of(entry))
    return [] if entry.offer.unavailable else found.run(_class_rows(found, entry, entry.profile.cls))


def _entry_rows(entry: Entry, where: Where) -> Iterator[tuple[str, Any, Any]]:
    for key, value in entry.profile.list_entry().items():
        inner = value if key == "kubespawner_override" and isinstance(value, Mapping) else None
        if inner is None:
            yield key, value, where((key,))
        for name, item in (inner or {}).items():
            path = (key, name)
            if name == "environment" and isinstance(item, Mapping):
                for variable, text in item.items():
                    yield ".".join((*path, str(variable))), _environment_value(text), where((*path, variable))
            else:
                yield ".".join(map(str, path)), item, where(path)


def _environment_value(value: Any) -> Any:
    return "computed at the start" if callable(value) else value


async def _class_rows(found: LoadedProfiles, entry: Entry, cls: type[BaseAppProfile]) -> list[tuple[str, Any, Any]]:
    from profile_spawner.params.definition import ParamRef
    from profile_spawner.profiles.attributes import ATTRIBUTES
    from profile_spawner.profiles.base import line_of, make_profile
    from profile_spawner.profiles.context import ServerContext
    from profile_spawner.profiles.selection import default_selection

    selection = default_selection(entry.offer)
    params = found.snapshot.resolve(entry.profile, selection)
    profile = make_profile(cls, ServerContext.example(), params=params, selection=selection)
    build = await profile.build_server()
    rows: list[tuple[str, Any, Any]] = []
    for name in ATTRIBUTES:
        declared, value = getattr(cls, name), getattr(profile, name)
        if name in ("params", "pod_env_vars") or (
            value == ATTRIBUTES[name].default and not isinstance(declared, ParamRef)
        ):
            continue
        origin: Any = line_of(cls, name)
        if isinstance(declared, ParamRef) and declared.name in params:
            why = params.explain(declared.name)
            origin = f"param {declared.name}: {_why(why)}"
        rows.append((name, value, origin))
    own = cls.pod_env_vars if isinstance(cls.pod_env_vars, Mapping) else {}
    override = build.kubespawner_override
    for name, value in sorted((override.get("environment") or {}).items()):
        rows.append(
            (
                f"environment.{name}",
                _unescaped(value),
                line_of(cls, "pod_env_vars" if name in own else "get_pod_env_vars"),
            )
        )
    mounts = {m["name"]: m["mountPath"] for m in override.get("volume_mounts") or ()}
    rows += [
        (f"volume.{v['name']}", mounts.get(v["name"], ""), line_of(cls, "get_default_volumes"))
        for v in override.get("volumes") or ()
        if "persistentVolumeClaim" in v
    ]
    for item in build.objects:
        hook = item.field.partition("(")[0].partition(",")[0]
        origin = line_of(cls, hook) if hasattr(cls, hook) else entry.origin
        rows.append((f"{item.kind} {item.name}", f"{item.lifetime.value}, for {item.field}", origin))
    definitions = found.snapshot.resolver.definitions if found.snapshot.resolver is not None else {}
    for option in entry.offer.options:
        param = definitions.get(option.param or "")
        written = line_of(cls, "profile_options") if param is None else param.origin or entry.origin
        rows.append((f"option.{option.name}", _option(option), written))
    rows += [(f"param.{n}", params.explain(n).value, _why(params.explain(n))) for n in sorted(params)]
    return rows


def _unescaped(value: Any) -> Any:
    return value.replace("{{", "{").replace("}}", "}") if isinstance(value, str) else value


def _why(found: Explanation) -> str:
    who = found.layer if found.source == found.layer else f"{found.layer} {found.source}"
    return f"{who} ({place(found.origin or 'configuration')})"


def _option(option: Option) -> str:
    if option.listed():
        return f"{option.kind}: " + ", ".join(c.name + (" (default)" if c.default else "") for c in option.listed())
    written = option.document()
    return ", ".join([option.kind, *(f"{key} {written[key]}" for key in ("min", "max", "default") if key in written)])
