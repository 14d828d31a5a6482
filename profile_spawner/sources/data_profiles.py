"""Profiles as data: turns what a document says into classes like those that authors write."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from profile_spawner.apps import (
    BUILTIN,
    BaseCoderProfile,
    BaseJupyterLabProfile,
    BaseRemoteDesktopProfile,
    BaseWorkspaceProfile,
)
from profile_spawner.errors import (
    Origin,
    PolicyError,
    ProfileDefinitionError,
    ProfileSpawnerError,
    SourceError,
    shorten,
)
from profile_spawner.params.definition import MISSING, Param
from profile_spawner.params.layers import Collection
from profile_spawner.policy.data_policy import DataPolicy, Refusal
from profile_spawner.policy.data_policy import dotted as _dotted
from profile_spawner.profiles.base import ATTRIBUTES, BaseAppProfile
from profile_spawner.profiles.registry import Collector, RawProfile, raw_profiles
from profile_spawner.profiles.resources import (
    ConfigMap,
    ImagePullSecret,
    InitContainer,
    InlineText,
    Manifest,
    RoleBinding,
    SecretMount,
    Volume,
)
from profile_spawner.profiles.yaml_text import YamlMap, line_at, parse_yaml

from .chart_values import find_values, in_chart_order, list_in, team_rules
from .schema import CollectionSpec, DocumentSpec, ParamSpec, ProfileSpec

__all__ = ["DocumentReader", "DocumentResult"]

_FAMILIES: Mapping[str, type[BaseAppProfile]] = {
    "coder": BaseCoderProfile,
    "jupyterlab": BaseJupyterLabProfile,
    "remote_desktop": BaseRemoteDesktopProfile,
    "workspace": BaseWorkspaceProfile,
}
_NOT_INHERITED: Mapping[str, Any] = {"default": False, "aliases": (), "replaced_by": None, "deprecated": ""}
_ASSETS = ("bash_login_path", "bashrc_path", "init_script_path")
_T = TypeVar("_T")
_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True)
class _Parts:
    """What a document's profile brings besides attributes."""

    config_maps: Sequence[ConfigMap] = ()
    volumes: Sequence[Volume] = ()
    manifests: Sequence[Manifest] = ()
    secret_mounts: Sequence[SecretMount] = ()
    env_config_maps: Sequence[str] = ()
    env_secrets: Sequence[str] = ()
    pull_secrets: Sequence[ImagePullSecret | str] = ()
    init_containers: Sequence[InitContainer] = ()
    role_bindings: Sequence[RoleBinding] = ()

    def on_top_of(self, base: _Parts) -> _Parts:
        """Return both; of two with one name this one's."""
        return _Parts(
            **{name: tuple(_joined(getattr(base, name), getattr(self, name), _NAMES[name])) for name in _NAMES}
        )


_NAMES: Mapping[str, Callable[[Any], str]] = {
    "config_maps": lambda c: c.mount_path or c.name,
    "volumes": lambda v: v.name,
    "manifests": lambda m: m.name,
    "secret_mounts": lambda m: m.mount_path,
    "env_config_maps": str,
    "env_secrets": str,
    "pull_secrets": lambda s: s if isinstance(s, str) else s.name,
    "init_containers": lambda c: c.name,
    "role_bindings": lambda b: b.name,
}
"""What makes two parts the same: the later one counts."""


class _FromDocument(BaseAppProfile):
    """Adds a document's parts to those of the base; of two with one name the document's counts."""

    _parts: _Parts = _Parts()
    _written: Sequence[Mapping[str, Any]] = ()

    def get_config_maps(self) -> list[ConfigMap]:
        return self._add("config_maps", super().get_config_maps())

    def get_default_volumes(self) -> list[Volume]:
        return self._add("volumes", super().get_default_volumes())

    def get_manifests(self) -> list[Manifest]:
        return self._add("manifests", super().get_manifests())

    def get_secret_mounts(self) -> list[SecretMount]:
        return self._add("secret_mounts", super().get_secret_mounts())

    def get_env_config_maps(self) -> list[str]:
        return self._add("env_config_maps", super().get_env_config_maps())

    def get_env_secrets(self) -> list[str]:
        return self._add("env_secrets", super().get_env_secrets())

    def get_image_pull_secrets(self) -> list[ImagePullSecret | str]:
        return self._add("pull_secrets", super().get_image_pull_secrets())

    def get_init_containers(self) -> list[InitContainer]:
        return self._add("init_containers", super().get_init_containers())

    def get_role_bindings(self) -> list[RoleBinding]:
        return self._add("role_bindings", super().get_role_bindings())

    def _add(self, name: str, base: list[Any]) -> list[Any]:
        return _joined(base, getattr(self._parts, name), _NAMES[name])


def _joined(base: Sequence[_T], own: Sequence[_T], key: Callable[[_T], str]) -> list[_T]:
    return list({**{key(b): b for b in base}, **{key(o): o for o in own}}.values())


@dataclass
class DocumentResult:
    """What was read.

    Attributes:
        collector: The profiles, params and collections that are fine.
        problems: What is wrong with the others.
        needs_others: Whether a profile is based on one of another document.
    """

    collector: Collector
    problems: list[ProfileSpawnerError] = field(default_factory=list)
    needs_others: bool = False


class DocumentReader:
    """Reads one document after the other.

    Args:
        policy: What the documents may ask for.
        find: Returns a profile of another document by its slug; `None` when there is none.
        asset: Returns the content of a file beside the document; raises `SourceError`.
    """

    def __init__(
        self,
        policy: DataPolicy,
        find: Callable[[str], type[BaseAppProfile] | None],
        asset: Callable[[str, Origin], str] | None = None,
    ) -> None:
        self._policy = policy
        self._find = find
        self._asset = asset

    def read(self, text: str | bytes, place: str, source: str) -> DocumentResult:
        """Read a document. Never raises: what is wrong stands in the result.

        Args:
            text: YAML.
            place: The file, or the ConfigMap and key, for messages.
            source: The name of the source.
        """
        result = DocumentResult(Collector(source))
        try:
            documents = parse_yaml(text, place)
        except ProfileSpawnerError as e:
            result.problems.append(e)
            return result
        reading = _Reading(self._policy, self._find, self._asset, place, result)
        try:
            for document in documents:
                reading.document(document)
            reading.finish()
        except Exception as e:  # noqa: BLE001 - one document that nobody thought of must not keep the others back
            problem = f"the document cannot be read: {type(e).__name__}: {shorten(str(e), 300)}"
            result.problems.append(SourceError(problem, origin=Origin(place)))
        return result


class _Reading:
    """The state while one document is read."""

    def __init__(
        self,
        policy: DataPolicy,
        find: Callable[[str], type[BaseAppProfile] | None],
        asset: Callable[[str, Origin], str] | None,
        place: str,
        result: DocumentResult,
    ) -> None:
        self._policy = policy
        self._find = find
        self._asset = asset
        self._place = place
        self._result = result
        self._pending: dict[str, tuple[ProfileSpec, YamlMap]] = {}
        self._classes: dict[str, type[BaseAppProfile]] = {}
        self._making: list[str] = []
        self._order: list[str | RawProfile] = []

    # ---------------------------------------------------------------------------------------------- structure

    def document(self, document: Any) -> None:
        """Take one YAML document: a mapping of parts, one profile, a list of profiles, or a chart's values."""
        if isinstance(document, list):
            self._profiles(document)
        elif not isinstance(document, YamlMap):
            self._problem("a document must be a mapping or a list of profiles", (), document)
        elif values := self._values(document):
            for found in values:
                self._raw(list_in(found), in_chart_order)
        elif "slug" in document or ("image" in document and "display_name" in document):
            self._profiles([document])
        else:
            self._parts(document)

    def _values(self, document: YamlMap) -> Sequence[Mapping[str, Any]]:
        try:
            return list(find_values(document, self._place))
        except SourceError as e:
            self._result.problems.append(e)
            return [{}]

    def _parts(self, document: YamlMap) -> None:
        known = {f.alias or n for n, f in DocumentSpec.model_fields.items()}
        for key in document:
            if key not in known:
                self._problem(f"{key!r} is not known here{_nearest(key, known)}", (key,), document)
        for name, definition in self._mapping(document, "params").items():
            self._param(name, definition, document)
        for name, definition in self._mapping(document, "collections").items():
            self._collection(name, definition, Origin(self._place, line_at(document, ("collections", name))))
        if self._mapping(document, "global"):
            params = document["global"]
            self._collection("global", _wrap(params), Origin(self._place, document.lines["global"]))
        self._raw(document.get("profile_list"))
        profiles = document.get("profiles")
        if profiles is not None and not isinstance(profiles, list):
            self._problem("profiles must be a list", ("profiles",), document)
        else:
            self._profiles(profiles or [])

    def _mapping(self, document: YamlMap, key: str) -> Mapping[str, Any]:
        value = document.get(key)
        if value is not None and not isinstance(value, YamlMap):
            self._problem(f"{key} must be a mapping", (key,), document)
            return {}
        return value or {}

    def _problem(self, message: str, path: tuple[Any, ...], inside: Any, **more: Any) -> None:
        origin = Origin(self._place, line_at(inside, path))
        field_name = _dotted(path) or None
        self._result.problems.append(ProfileDefinitionError(message, origin=origin, field=field_name, **more))

    def _validated(self, model: type[_Model], data: Any, what: str, **more: Any) -> _Model | None:
        """Return `data` as a model; report everything that is wrong with it, each with its line."""
        try:
            return model.model_validate(data)
        except ValidationError as e:
            seen = set()
            for error in e.errors(include_url=False):
                path = tuple(p for p in error["loc"] if not str(p).startswith(("function-", "lax-", "strict-")))
                message = error["msg"].removeprefix("Value error, ")
                if error["type"] == "extra_forbidden":
                    known = [f.alias or n for n, f in model.model_fields.items()] if len(path) == 1 else []
                    message = f"is not known here{_nearest(str(path[-1]), known)}"
                if (path, message) not in seen:
                    seen.add((path, message))
                    origin = Origin(self._place, line_at(data, path))
                    where = f"{what}{'.' if what and path else ''}{_dotted(path)}"
                    problem = ProfileDefinitionError(message, origin=origin, field=where or None, **more)
                    self._result.problems.append(problem)
            return None

    # ---------------------------------------------------------------------------------------------- params

    def _param(self, name: str, definition: Any, document: YamlMap) -> None:
        origin = Origin(self._place, line_at(document, ("params", name)))
        spec = self._validated(ParamSpec, definition if definition is not None else {}, f"params.{name}")
        if spec is None:
            return
        default = spec.default if "default" in spec.model_fields_set else MISSING
        if not self._reported(self._policy.param_refusals(name, default, spec.schema_), definition, name, origin):
            return
        try:
            self._result.collector.add_param(
                Param(
                    name,
                    schema=spec.schema_,
                    default=default,
                    description=spec.description,
                    documentation=spec.documentation,
                    secure=spec.secure,
                    user_settable=spec.user_settable,
                    sensitive=spec.sensitive,
                    merge=spec.merge,
                    merge_key=spec.merge_key,
                    layers=spec.layers,
                    meta=spec.meta,
                    origin=origin,
                    judged=not self._policy.unrestricted,
                )
            )
        except ProfileSpawnerError as e:
            e.origin = e.origin or origin
            self._result.problems.append(e)

    def _collection(self, name: str, definition: Any, origin: Origin) -> None:
        spec = self._validated(CollectionSpec, definition if definition is not None else {}, f"collections.{name}")
        if spec is None:
            return
        params = definition.get("params") if isinstance(definition, Mapping) else None
        if not self._allowed({"params": params}, name, origin):
            return
        origins = {k: Origin(self._place, n) for k, n in getattr(params, "lines", {}).items()}
        judged = not self._policy.unrestricted
        try:
            self._result.collector.add_collection(
                Collection(name, spec.params, spec.profiles, origin, origins, judged=judged)
            )
        except ProfileSpawnerError as e:
            e.origin = e.origin or origin
            self._result.problems.append(e)

    # ---------------------------------------------------------------------------------------------- profiles

    def _raw(self, entries: Any, ordered: Callable[[Any], Any] = lambda entry: entry) -> None:
        """Take entries of a `profile_list` as they are, each in the order in which the hub gets its keys."""
        if entries is None:
            return
        if isinstance(entries, YamlMap):
            numbered = [(entries.lines[k], entries[k]) for k in sorted(entries)]
        elif isinstance(entries, list):
            numbered = list(zip(getattr(entries, "lines", ()), entries, strict=False))
        else:
            self._problem("a profile list must be a list of mappings", (), entries)
            return
        for line, entry in numbered:
            self._raw_entry(ordered(entry), line)

    def _raw_entry(self, entry: Any, line: int) -> None:
        origin = Origin(self._place, line)
        for path in team_rules(entry):
            self._problem(
                "the profile would be open to everybody: this key means nothing here",
                path,
                entry,
                hint="Write the teams, such as org:team, into allowed_groups",
            )
            return
        try:
            for raw in raw_profiles([entry], origin, judged=not self._policy.unrestricted):
                if self._allowed(entry, raw.slug, origin):
                    self._order.append(raw)
        except ProfileSpawnerError as e:
            e.origin = e.origin or origin
            self._result.problems.append(e)

    def _allowed(self, entry: Any, slug: str, origin: Origin) -> bool:
        return self._reported(self._policy.refusals(entry), entry, slug, origin)

    def _reported(self, refusals: Iterable[Refusal], entry: Any, slug: str, origin: Origin) -> bool:
        """Report what the policy does not allow; return whether that is nothing."""
        fine = True
        for refusal in refusals:
            fine = False
            line = line_at(entry, refusal.path) or origin.line
            self._result.problems.append(refusal.problem(slug, Origin(origin.source, line), _dotted(refusal.path)))
        return fine

    def _profiles(self, items: Sequence[Any]) -> None:
        lines = getattr(items, "lines", None) or [getattr(i, "line", 0) for i in items]
        for line, item in zip(lines, items, strict=True):
            if not isinstance(item, YamlMap):
                self._result.problems.append(
                    ProfileDefinitionError("a profile must be a mapping", origin=Origin(self._place, line))
                )
            elif _is_plain_entry(item):
                self._raw_entry(item, line)
            else:
                self._remember(item)

    def _remember(self, item: YamlMap) -> None:
        slug = item.get("slug")
        named = {"profile": slug} if isinstance(slug, str) else {}
        spec = self._validated(ProfileSpec, item, "", **named)
        if spec is None:
            return
        origin = Origin(self._place, item.line)
        if not isinstance(slug, str) or not slug:
            self._problem("the slug is missing", ("slug",), item, hint='Add "slug: my-profile"')
        elif slug in self._pending:
            first = Origin(self._place, self._pending[slug][1].line)
            self._problem(f"the slug is used twice: first at {first}", ("slug",), item, profile=slug)
        elif self._allowed(item, slug, origin):
            self._pending[slug] = (spec, item)
            self._order.append(slug)

    def finish(self) -> None:
        """Make the classes, bases first, and register everything in the order of the document."""
        for item in self._order:
            try:
                self._result.collector.add(self._class_of(item) if isinstance(item, str) else item)
            except ProfileSpawnerError as e:
                e.profile = e.profile or (item if isinstance(item, str) else item.slug)
                e.__traceback__ = None
                self._result.problems.append(e)

    def _class_of(self, slug: str) -> type[BaseAppProfile]:
        if slug in self._classes:
            return self._classes[slug]
        spec, item = self._pending[slug]
        origin = Origin(self._place, item.line)
        if slug in self._making:
            raise ProfileDefinitionError(
                f"the profiles extend each other: {' -> '.join([*self._making, slug])}",
                profile=slug,
                origin=Origin(self._place, line_at(item, ("extends",))),
                field="extends",
            )
        self._making.append(slug)
        try:
            base = self._base_of(spec, item)
            made = self._make(slug, spec, item, base, origin)
        finally:
            self._making.pop()
        self._classes[slug] = made
        return made

    def _base_of(self, spec: ProfileSpec, item: YamlMap) -> type[BaseAppProfile]:
        if spec.extends is None:
            return _FAMILIES[spec.family] if spec.family else BaseAppProfile
        origin = Origin(self._place, line_at(item, ("extends",)))
        if spec.family is not None:
            raise ProfileDefinitionError("give either family or extends", origin=origin, field="extends")
        if spec.extends in self._pending and spec.extends != spec.slug:
            return self._class_of(spec.extends)
        self._result.needs_others = True
        found = self._find(spec.extends) or BUILTIN.get(spec.extends)
        if found is None:
            known = [*self._pending, *BUILTIN]
            raise ProfileDefinitionError(
                f"there is no profile {spec.extends!r} to extend{_nearest(spec.extends, known)}",
                origin=origin,
                field="extends",
                hint="It must be a profile of a document, or a built-in one",
            )
        # Another kind of source may be allowed more than this one.
        for written in getattr(found, "_written", ()):
            for refusal in self._policy.refusals(written):
                raise PolicyError(
                    f"{spec.extends!r} has what this document may not ask for: {refusal.message}",
                    origin=origin,
                    field=f"extends: {_dotted(refusal.path)}",
                    hint=refusal.hint or None,
                )
        return found

    def _make(
        self, slug: str, spec: ProfileSpec, item: YamlMap, base: type[BaseAppProfile], origin: Origin
    ) -> type[BaseAppProfile]:
        attributes: dict[str, Any] = dict(_NOT_INHERITED)
        for name in ATTRIBUTES:
            if name in item:
                attributes[name] = _param_or_value(item[name])
        if "options" in item:
            attributes["profile_options"] = item["options"]
        if "env" in item:
            attributes["pod_env_vars"] = {**_env_of(base), **(item["env"] or {})}
        for name in _ASSETS:
            if isinstance(attributes.get(name), str):
                where = Origin(self._place, line_at(item, (name,)))
                attributes[name] = InlineText(self._read_asset(attributes[name], where))
            text = item.get(name.removesuffix("_path"))
            if text is not None:
                if not isinstance(text, str) or name in item:
                    field_name = name.removesuffix("_path")
                    where = Origin(self._place, line_at(item, (field_name,)))
                    message = f"must be a text, and {name} must not be given too"
                    raise ProfileDefinitionError(message, origin=where, field=field_name)
                attributes[name] = InlineText(text)
        lines = item.lines
        attributes |= {
            "_parts": self._parts_of(spec, item).on_top_of(getattr(base, "_parts", _Parts())),
            "_written": (item, *getattr(base, "_written", ())),
            "__profile_judged__": not self._policy.unrestricted,
            "__profile_origin__": origin,
            "__profile_lines__": _LineOf(lines),
            "__module__": __name__,
            "__doc__": str(item.get("description") or "") or None,
        }
        bases = (base,) if issubclass(base, _FromDocument) else (_FromDocument, base)
        return type(f"Document_{slug}", bases, attributes)

    def _parts_of(self, spec: ProfileSpec, item: YamlMap) -> _Parts:
        config_maps = list(spec.config_maps)
        for number, file in enumerate(spec.files):
            content = file.content
            if content is None:
                origin = Origin(self._place, line_at(item, ("files", number, "path")))
                content = self._read_asset(file.path or "", origin)
            try:
                config_maps.append(file.config_map(content))
            except ValidationError as e:
                origin = Origin(self._place, line_at(item, ("files", number)))
                message = e.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
                raise ProfileDefinitionError(message, origin=origin, field=f"files[{number}]") from None
        return _Parts(
            config_maps=tuple(config_maps),
            volumes=tuple(v.volume() for v in spec.volumes),
            manifests=spec.manifests,
            secret_mounts=spec.secret_mounts,
            env_config_maps=spec.env_from_config_maps,
            env_secrets=spec.env_from_secrets,
            pull_secrets=spec.image_pull_secrets,
            init_containers=spec.init_containers,
            role_bindings=spec.role_bindings,
        )

    def _read_asset(self, path: str, origin: Origin) -> str:
        if self._asset is None:
            raise ProfileDefinitionError(
                "there are no files beside this document", origin=origin, value=path, hint="Use files with content"
            )
        return self._asset(path, origin)


class _LineOf:
    """Finds the line of an attribute in a document. Not a function: it must not become a method."""

    def __init__(self, lines: Mapping[str, int]) -> None:
        self._lines = {**lines}
        for ours, theirs in (
            ("env", "pod_env_vars"),
            ("options", "profile_options"),
            *((a.removesuffix("_path"), a) for a in _ASSETS),
        ):
            if ours in lines:
                self._lines.setdefault(theirs, lines[ours])

    def __call__(self, name: str) -> int:
        return self._lines.get(name, 0)


def _param_or_value(value: Any) -> Any:
    if isinstance(value, Mapping) and "$param" in value and set(value) <= {"$param", "default"}:
        return Param.ref(str(value["$param"]), *([value["default"]] if "default" in value else []))
    return value


def _env_of(base: type[BaseAppProfile]) -> Mapping[str, Any]:
    return base.pod_env_vars if isinstance(base.pod_env_vars, Mapping) else {}


def _is_plain_entry(item: YamlMap) -> bool:
    """Tell whether an item is an entry of KubeSpawner's `profile_list`: it sets its image by `kubespawner_override`."""
    own = ("image", "family", "extends", "env", "files", "volumes", "options")
    return "kubespawner_override" in item and not any(k in item for k in own)


def _wrap(params: YamlMap) -> YamlMap:
    wrapped = YamlMap(params.line)
    wrapped["params"] = params
    wrapped.lines["params"] = params.line
    return wrapped


def _nearest(name: str, known: Sequence[str] | set[str] | Iterator[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1, 0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
