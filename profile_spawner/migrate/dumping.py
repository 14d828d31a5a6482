"""Writes profiles as a document that can be loaded again with the same result.

A class is written down by its attributes and by what its hooks return for a server whose facts are references: a hook
that puts the user's name into a text gives `{{ username }}`, which means the same in a document. What a document cannot
express is reported: a hook that decides by the user, a Secret's value, a callable.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from profile_spawner.errors import ProfileSpawnerError
from profile_spawner.params.definition import MISSING, REFERENCE, ParamRef, thaw
from profile_spawner.params.layers import GLOBAL, Collection
from profile_spawner.profiles import resources
from profile_spawner.profiles.access import UserInfo
from profile_spawner.profiles.attributes import ATTRIBUTES
from profile_spawner.profiles.base import BaseAppProfile, make_profile, options_of
from profile_spawner.profiles.class_profile import ClassProfile
from profile_spawner.profiles.context import FACTS, ServerContext
from profile_spawner.profiles.entry import Entry
from profile_spawner.profiles.hooks import HOOKS
from profile_spawner.profiles.options import Option
from profile_spawner.profiles.plain_entries import PlainEntry
from profile_spawner.profiles.resources import InlineText, Volume
from profile_spawner.profiles.selection import default_selection
from profile_spawner.profiles.snapshot import Snapshot
from profile_spawner.profiles.template import Template
from profile_spawner.profiles.user_text import each_text
from profile_spawner.sources.schema import VolumeSpec

__all__ = [
    "Dump",
    "TemplateContext",
    "class_of",
    "declared",
    "dump_snapshot",
    "functions_in",
    "hook_values",
    "plain_model",
    "template_profile",
    "text_of",
]


@dataclass
class Dump:
    """A document, and warnings about what it cannot express.

    Attributes:
        document: Plain data, in the order in which it is written.
        warnings: Sentences about what is missing, or is fixed although it depends on the server.
    """

    document: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class TemplateContext(ServerContext):
    """A context without a real server: every fact is its own reference, such as `{{ username }}`."""

    @classmethod
    def make(cls) -> TemplateContext:
        """Return it."""
        return cls(
            UserInfo("{{ username }}"),
            server_name="{{ servername }}",
            namespace="{{ namespace }}",
            hub="{{ hub }}",
            pod_name="{{ pod_name }}",
        )

    @property
    def user_slug(self) -> str:
        """The reference."""
        return "{{ user_slug }}"

    @property
    def server_slug(self) -> str:
        """The reference."""
        return "{{ server_slug }}"


async def dump_snapshot(snapshot: Snapshot, slugs: Sequence[str] | None = None) -> Dump:
    """Return a document with these profiles (all by default) and the params that they need.

    Args:
        snapshot: The loaded profiles.
        slugs: The profiles to write, in this order.
    """
    dump = Dump()
    resolver = snapshot.resolver
    if resolver is not None:
        params = {name: p.definition() for name, p in resolver.definitions.items()}
        own = {n: c for n, c in resolver.collections.items() if n not in snapshot.entries and n != GLOBAL}
        shared = resolver.collections[GLOBAL]
        for key, value in (
            ("params", params),
            ("collections", {name: _collection(c) for name, c in own.items()}),
            ("global", thaw(shared.params)),
        ):
            if value:
                dump.document[key] = value
        if shared.profiles:
            dump.warnings.append(f"global inherits {', '.join(shared.profiles)}: a document cannot say that")
    entries = [snapshot.entries[s] for s in slugs] if slugs is not None else list(snapshot.entries.values())
    profiles = []
    for entry in entries:
        try:
            plain = isinstance(entry.profile, PlainEntry)
            written = _plain_entry(entry, dump) if plain else await _class(snapshot, entry, dump)
        except ProfileSpawnerError as e:
            dump.warnings.append(f"{entry.slug} is left out: {e}")
            continue
        if written is not None:
            profiles.append(written)
    dump.document["profiles"] = profiles
    return dump


def _collection(collection: Collection) -> dict[str, Any]:
    result: dict[str, Any] = {"params": thaw(collection.params)}
    if collection.profiles:
        result["profiles"] = list(collection.profiles)
    about = {name: thaw(getattr(collection, name)) for name in ("description", "documentation", "meta")}
    result |= {name: value for name, value in about.items() if value}
    return result


def _plain_entry(entry: Entry, dump: Dump) -> dict[str, Any] | None:
    definition = entry.profile.list_entry()
    place = next(functions_in(definition), None)
    if place is not None:
        dump.warnings.append(f"{entry.slug} is left out: {place} is a function, which a document cannot hold")
        return None
    result: dict[str, Any] = thaw(definition)
    result.setdefault("slug", entry.slug)
    result.setdefault("kubespawner_override", {})  # by this key a document knows it for a plain entry
    return result


def functions_in(value: Any, path: str = "") -> Iterator[str]:
    """Yield the paths of functions in plain data."""
    if callable(value):
        yield path
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from functions_in(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from functions_in(item, f"{path}[{number}]")


async def _class(snapshot: Snapshot, entry: Entry, dump: Dump) -> dict[str, Any]:
    cls = class_of(entry)
    profile = template_profile(snapshot, entry)
    values = await hook_values(profile)
    result: dict[str, Any] = {}
    for name, attribute in ATTRIBUTES.items():
        value = getattr(cls, name)
        if name in values:
            value = _without_functions(values.pop(name), f"{entry.slug}: {name}", dump)
        elif name != "params":
            value = declared(profile, name)
        if value == attribute.default and name != "description":
            continue
        key, how = (attribute.document.name, attribute.document.how) if attribute.document is not None else (name, "")
        if how == "text":
            if not cls.is_of_other_format():  # then the files are among its ConfigMaps
                result[key] = text_of(value)
        elif how == "same":
            result[key] = thaw(value) if isinstance(value, Mapping) else _options(options_of(cls))
        else:
            result[name] = _attribute(value)
    for key, items in values.items():
        if items:
            result[key] = [plain_model(VolumeSpec.of(i) if isinstance(i, Volume) else i) for i in items]
    _tell(cls, values, dump)
    return _in_our_names(result, cls.FACT_NAMES) if cls.FACT_NAMES else result


def declared(profile: BaseAppProfile, name: str) -> Any:
    """Return an attribute as the author wrote it, with its references, or as a constructor of the author's set it."""
    value = getattr(type(profile), name)
    return value if ATTRIBUTES[name].references(value) else vars(profile).get(name, value)


def _without_functions(values: Any, where: str, dump: Dump) -> Any:
    """Return values of a hook without those that a document cannot hold."""
    place = next(functions_in(values, where), None)
    if place is None:
        return values
    dump.warnings.append(f"{place} is a function; it is left out")
    return {k: v for k, v in values.items() if next(functions_in(v), None) is None}


def _in_our_names(value: Any, fact_names: Mapping[str, str]) -> Any:
    """Return `value` with the names of facts that documents know."""

    def renamed(match: re.Match[str]) -> str:
        name = match.group(2)
        return f"{{{{ {fact_names[name]} }}}}" if name in fact_names else match.group()

    return each_text(value, lambda text: REFERENCE.sub(renamed, text))


def _tell(cls: type[BaseAppProfile], values: Mapping[str, Any], dump: Dump) -> None:
    """Add warnings about what a document cannot express."""
    base = BaseAppProfile.is_available_to.__func__  # type: ignore[attr-defined]
    if cls.is_available_to.__func__ is not base:  # type: ignore[attr-defined]
        dump.warnings.append(f"{cls.slug}: is_available_to() is code; the document offers the profile to more people")
    for secret in values["image_pull_secrets"]:
        if not isinstance(secret, str) and secret.data is not None:
            dump.warnings.append(f"{cls.slug}: the value of pull secret {secret.name} is left out")
    for manifest in values["manifests"]:
        if any(d.get("kind") == "Secret" for d in manifest.content):
            dump.warnings.append(f"{cls.slug}: the values of Secrets in manifest {manifest.name} are ***")


def text_of(asset: Any) -> str:
    """Return the text of an asset: a file's, or one that stands in the profile itself."""
    return str(asset) if isinstance(asset, InlineText) else Path(asset).read_text(encoding="utf-8")


def _attribute(value: Any) -> Any:
    if isinstance(value, ParamRef):
        return {"$param": value.name, **({"default": thaw(value.default)} if value.default is not MISSING else {})}
    if isinstance(value, BaseModel):
        return plain_model(value)
    if isinstance(value, Mapping):
        return {str(k): _attribute(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_attribute(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def with_templates(value: Any) -> Any:
    """Return texts of a hook as a document writes them: braces of literal texts are escaped, facts are references."""

    def escaped(match: re.Match[str]) -> str:
        return match.group() if match.group(2) in FACTS else "{{{{" + (match.group(1) or match.group()[2:])

    def written(text: str) -> str:
        return str(text) if isinstance(text, Template) else REFERENCE.sub(escaped, text)

    return each_text(value, written)


def plain_model(model: Any) -> Any:
    """Return a resource as plain data without defaults; the values of Secrets become `***` or are left out."""
    if not isinstance(model, BaseModel):
        return with_templates(model)
    result: dict[str, Any] = {}
    # The models of the configurator have further fields, which documents do not know.
    known: Any = next((c for c in type(model).__mro__ if c.__module__ == resources.__name__), type(model))
    for name, spec in known.model_fields.items():
        value = getattr(model, name)
        if value == spec.default and not spec.is_required():
            continue
        if isinstance(value, SecretStr):
            continue
        result[name] = _with_masked_secrets(with_templates(value) if name in getattr(known, "TEMPLATES", ()) else value)
    return result


def _with_masked_secrets(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return plain_model(value)
    if isinstance(value, Mapping):
        masked = value.get("kind") == "Secret"
        return {
            str(k): dict.fromkeys(v, "***") if masked and k in ("data", "stringData") and v else _with_masked_secrets(v)
            for k, v in value.items()
        }
    if isinstance(value, list | tuple):
        return [_with_masked_secrets(v) for v in value]
    return getattr(value, "value", value)


def _options(options: Sequence[Option]) -> dict[str, Any]:
    """Return options as a document has them."""
    return {o.name: thaw(o.document()) for o in options}


def class_of(entry: Entry) -> type[BaseAppProfile]:
    """Return the class of an entry that is not a plain entry of a `profile_list`."""
    assert isinstance(entry.profile, ClassProfile)
    return entry.profile.cls


def template_profile(snapshot: Snapshot, entry: Entry) -> BaseAppProfile:
    """Return the profile of a class for a server whose facts are references."""
    params = snapshot.resolve(entry.profile, None)
    selection = default_selection(entry.offer)
    return make_profile(class_of(entry), TemplateContext.make(), params=params, selection=selection)


async def hook_values(profile: BaseAppProfile) -> dict[str, Any]:
    """Return what a class's hooks give for the profile of `template_profile`, by the keys of documents.

    Where the attribute that a hook stands for is given by a param, its value is the reference to it.
    """
    cls = type(profile)
    built = await profile.hook_values() if cls.is_of_other_format() else None
    result: dict[str, Any] = {}
    for hook in HOOKS.values():
        declared = getattr(cls, hook.key, None)
        if isinstance(declared, ParamRef):
            result[hook.key] = declared
            continue
        value = getattr(profile, hook.name)() if built is None else built[hook.name]
        value = await value if isinstance(value, Awaitable) else value
        if hook.key == "pod_env_vars":
            value = with_templates(value)
        elif isinstance(value, Mapping):
            value = each_text(value, str)
        result[hook.key] = dict(value) if isinstance(value, Mapping) else list(value)
    return result
