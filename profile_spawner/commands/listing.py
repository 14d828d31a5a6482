"""`list`, `show`, `images` and `schema`: print profiles, their values, images and schema."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from profile_spawner.errors import ProfileSpawnerError

from .building import preview
from .choices import every_choice, somebody
from .loading import LoadedProfiles, Sources, Whose, find_entry, loaded, run, with_reader, with_sources
from .output import Format, OutputOption, make_table, place, plain, print_data, progress, report_problems

if TYPE_CHECKING:
    from profile_spawner.profiles.entry import Entry
    from profile_spawner.profiles.options import Option

    from .places import Where

__all__ = ["images", "list_profiles", "schema", "show"]

_SLUG = Annotated[str, typer.Argument(help="The profile's slug.", metavar="SLUG")]
_FOR = Annotated[
    str | None, typer.Option("--user", "-u", help="Only the profiles that this user may use.", metavar="NAME")
]
_IN = Annotated[
    str, typer.Option("--groups", "-g", help="With --user: the user's groups, separated by commas.", metavar="GROUPS")
]


@with_sources
def list_profiles(sources: Sources, user: _FOR = None, groups: _IN = "", output: OutputOption = Format.table) -> None:
    """List the profiles that a hub with this configuration offers, and to whom.

    Profiles that cannot be loaded are reported on standard error; then the exit code is 1.
    """
    whose = None if user is None else Whose(user, tuple(g.strip() for g in groups.split(",") if g.strip()))
    raise typer.Exit(run(_list(sources, whose, output)))


async def _list(sources: Sources, whose: Whose | None, output: Format) -> int:
    from profile_spawner.profiles.access import UserInfo

    async with loaded(sources, whose=whose) as found:
        entries = list(found.snapshot.entries.values())
        if whose is not None:
            entries = list(found.snapshot.visible_to(UserInfo(whose.user, frozenset(whose.groups))))
        elif found.per_user:
            tell_per_user(Whose())
        rows = [_summary(found, e) for e in entries]
        shown = [[r["slug"], r["display_name"], r["image"], r["resources"], r["for"], r["origin"]] for r in rows]
        print_data(rows, output, make_table(["slug", "name", "image", "resources", "for", "written at"], shown))
        return 1 if report_problems(found.snapshot.problems) else 0


def tell_per_user(whose: Whose) -> None:
    """Say on standard error that other users may have other profiles."""
    groups = f" in the groups {', '.join(whose.groups)}" if whose.groups else ", who is in no group"
    typer.echo(
        f"Note: profile_list is a function. This is about user {whose.user!r}{groups}: --user, --groups", err=True
    )


def _summary(found: LoadedProfiles, entry: Entry) -> dict[str, Any]:
    offer, effective = entry.offer, entry.effective
    result = {
        "slug": offer.slug,
        "display_name": offer.display_name,
        "description": offer.description,
        "image": effective.get("image", ""),
        "resources": resources_of(effective),
        "for": entry.offer.access.describe(),
        "category": entry.category,
        "tags": list(entry.tags),
        "default": offer.default,
        "options": [o.name for o in offer.options],
        "origin": place(found.places.of(entry)(()) if entry.raw is not None else entry.origin),
    }
    if offer.unavailable:
        result["unavailable"] = offer.unavailable
    if offer.deprecated:
        result["deprecated"] = offer.deprecated
    return result


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


# ------------------------------------------------------------------------------------------------ show


@with_reader
@with_sources
def show(sources: Sources, whose: Whose, slug: _SLUG, output: OutputOption = Format.table) -> None:
    """Show every effective value of a profile, and the file and line that it comes from."""
    raise typer.Exit(run(_show(sources, whose, slug, output)))


async def _show(sources: Sources, whose: Whose, slug: str, output: Format) -> int:
    async with loaded(sources, whose=whose) as found:
        entry = find_entry(found.snapshot, slug)
        data = await describe_profile(found, entry)
        shown = [[row["field"], _cell(row["value"]), row["origin"]] for row in data["values"]]
        title = f"{entry.offer.display_name} ({entry.slug}), for {entry.offer.access.describe()}"
        print_data(data, output, make_table(["field", "value", "comes from"], shown, title=title))
        return 0


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)


async def describe_profile(found: LoadedProfiles, entry: Entry) -> dict[str, Any]:
    """Return all data of a profile as plain data.

    The keys are those of `list`, and `values`: rows of `field`, `value` and `origin`.
    """
    if entry.profile is None:
        rows = list(_raw_rows(entry, found.places.of(entry)))
    elif entry.offer.unavailable:
        rows = []
    else:
        rows = await _class_rows(found, entry)
    return {
        **_summary(found, entry),
        "values": [{"field": f, "value": plain(v), "origin": place(o)} for f, v, o in rows],
    }


def _raw_rows(entry: Entry, where: Where) -> Iterator[tuple[str, Any, Any]]:
    for key, value in (entry.raw or {}).items():
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


async def _class_rows(found: LoadedProfiles, entry: Entry) -> list[tuple[str, Any, Any]]:
    from profile_spawner.params.definition import ParamRef
    from profile_spawner.profiles.attributes import ATTRIBUTES
    from profile_spawner.profiles.base import line_of, make_profile
    from profile_spawner.profiles.context import ServerContext
    from profile_spawner.profiles.selection import default_selection

    cls = entry.profile
    assert cls is not None
    selection = default_selection(entry.offer)
    params = found.snapshot.resolve(cls, None)
    profile = make_profile(cls, ServerContext.specimen(), params=params, selection=selection)
    build = await profile.build()
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


def _why(resolution: Any) -> str:
    who = resolution.layer if resolution.source == resolution.layer else f"{resolution.layer} {resolution.source}"
    return f"{who} ({place(resolution.origin or 'configuration')})"


def _option(option: Option) -> str:
    if option.listed():
        return f"{option.kind}: " + ", ".join(c.name + (" (default)" if c.default else "") for c in option.listed())
    written = option.document()
    return ", ".join([option.kind, *(f"{key} {written[key]}" for key in ("min", "max", "default") if key in written)])


# ------------------------------------------------------------------------------------------------ images


class ImageFormat(str, enum.Enum):
    """How images are printed."""

    lines = "lines"
    json = "json"
    extra_images = "extra-images"


@with_reader
@with_sources
def images(
    sources: Sources,
    whose: Whose,
    output: Annotated[
        ImageFormat,
        typer.Option("--output", help="extra-images: for the values of Zero to JupyterHub (prePuller.extraImages)."),
    ] = ImageFormat.lines,
) -> None:
    """Print all images of all profiles and their choices, each once, for a pre-puller.

    Those of init containers, of further containers and of what is started beside a server are among them. What users
    may type themselves is not known before.
    """
    raise typer.Exit(run(_images(sources, whose, output)))


async def _images(sources: Sources, whose: Whose, output: ImageFormat) -> int:
    async with loaded(sources, whose=whose) as found:
        names, failures = await all_images(found, whose)
        if found.per_user:
            tell_per_user(whose)
        if output is ImageFormat.lines:
            for name in names:
                typer.echo(name)
        elif output is ImageFormat.json:
            typer.echo(json.dumps(names, indent=2))
        else:
            extra = {_chart_key(n, i): dict(zip(("name", "tag"), _split(n), strict=True)) for i, n in enumerate(names)}
            print_data({"prePuller": {"extraImages": extra}}, Format.yaml)
        return 1 if report_problems([*failures, *found.snapshot.problems]) else 0


def _split(image: str) -> tuple[str, str]:
    """Return name and tag as the chart joins them again: `name:tag`."""
    name, _, digest = image.partition("@")
    if digest:
        return f"{name}@{digest.partition(':')[0]}", digest.partition(":")[2]
    head, colon, tag = image.rpartition(":")
    return (head, tag) if colon and "/" not in tag else (image, "latest")


def _chart_key(image: str, number: int) -> str:
    """Return a key that the chart accepts as part of a name."""
    from profile_spawner.names import slugify

    return f"profile-{number}-{slugify(image.rpartition('/')[2])[:40]}".rstrip("-")


async def all_images(found: LoadedProfiles, whose: Whose) -> tuple[list[str], list[ProfileSpawnerError]]:
    """Return the images of everything that a start of any profile with any choice would create, and what went wrong."""
    seen: dict[str, None] = {}
    failures: dict[str, ProfileSpawnerError] = {}
    for entry in progress(found.snapshot.entries.values(), "Building the pods"):
        for options in every_choice(entry) if not entry.offer.unavailable else ():
            try:
                made = await preview(found, entry.slug, somebody(entry, whose, options))
            except ProfileSpawnerError as e:
                failures.setdefault(str(e), e)
                continue
            for document in (made.pod, *made.manifests):
                seen.update(dict.fromkeys(_images_in(document.get("spec"))))
    return list(seen), list(failures.values())


def _images_in(spec: Any) -> Iterator[str]:
    """Yield the images of a pod's spec, or of the pods that a Deployment or the like makes."""
    if not isinstance(spec, Mapping):
        return
    for key in ("containers", "initContainers"):
        for container in spec.get(key) or ():
            if container.get("image"):
                yield container["image"]
    for inner in ("template", "jobTemplate"):
        if isinstance(spec.get(inner), Mapping):
            yield from _images_in(spec[inner].get("spec"))


def schema() -> None:
    """Print the JSON Schema of profile documents (YAML), for editors and for checks."""
    from profile_spawner.sources.schema import document_schema

    typer.echo(json.dumps(document_schema(), indent=2, ensure_ascii=False))
