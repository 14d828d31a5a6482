"""Converts profiles in documents to profile classes."""

from __future__ import annotations

import base64
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
    ProfileDefinitionError,
    ProfileSpawnerError,
    SourceError,
    described,
    did_you_mean,
    shorten,
)
from profile_spawner.params.definition import Param
from profile_spawner.params.layers import Collection
from profile_spawner.policy.judge import Refusal, dotted, judge_param, judge_texts, place_in, reported
from profile_spawner.policy.settings import DataPolicy
from profile_spawner.profiles.attributes import ATTRIBUTES, Attribute, problems_of
from profile_spawner.profiles.base import BaseAppProfile
from profile_spawner.profiles.hooks import LIST_HOOKS, Hook
from profile_spawner.profiles.plain_entries import PlainEntry, read_profile_list
from profile_spawner.profiles.profile import Contributor
from profile_spawner.profiles.registry import Collector
from profile_spawner.profiles.resources import InlineText
from profile_spawner.profiles.template import as_templates
from profile_spawner.profiles.yaml_text import YamlMap, line_at, parse_yaml

from .chart_values import MissingList, find_values, in_chart_order, is_manifest, list_in, missing_list, team_rules
from .schema import CollectionSpec, DocumentSpec, ParamSpec, ProfileKeys, ProfileSpec

__all__ = ["SUFFIXES", "DocumentReader", "DocumentResult"]

_FAMILIES: Mapping[str, type[BaseAppProfile]] = {
    "coder": BaseCoderProfile,
    "jupyterlab": BaseJupyterLabProfile,
    "remote_desktop": BaseRemoteDesktopProfile,
    "workspace": BaseWorkspaceProfile,
}
SUFFIXES = (".yaml", ".yml", ".json")
"""How the names of documents end."""
_NO_MAPPING = "must be a mapping of names to values"
_CLEAR = "If there are to be no profiles, write 'profiles: []'"
MAX_EXTENDED = 20
"""How long a chain of profiles can be that extend each other."""
_NOT_INHERITED = {name: attribute.default for name, attribute in ATTRIBUTES.items() if not attribute.inherited}
_Model = TypeVar("_Model", bound=BaseModel)


class _FromDocument(BaseAppProfile):
    """Adds the document's items to those of the base class. They override items with the same name."""

    _parts: Mapping[str, Sequence[Any]] = {}
    _written: Sequence[Mapping[str, Any]] = ()


def _with_parts(hook: Hook) -> Callable[[_FromDocument], list[Any]]:
    def get(self: _FromDocument) -> list[Any]:
        return hook.joined(getattr(super(_FromDocument, self), hook.name)(), self._parts.get(hook.key, ()))

    return get


for _hook in LIST_HOOKS:
    setattr(_FromDocument, _hook.name, _with_parts(_hook))


@dataclass
class DocumentResult:
    """The result of reading a document.

    Attributes:
        collector: The valid profiles, params and collections.
        problems: The errors of the others.
        needs_others: Whether a profile is based on a profile in another document.
    """

    collector: Collector
    problems: list[ProfileSpawnerError] = field(default_factory=list)
    needs_others: bool = False


class DocumentReader:
    """Reads documents.

    Args:
        policy: The data policy for the documents.
        find: Returns a profile of another document by its slug. Without one, it returns `None`, or raises `LookupError`
            with the reason.
        asset: Returns the content of a file in the document's folder; raises `SourceError`.
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
        """Read a document. Never raises; the result contains the errors.

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
            reading.documents(documents)
            reading.finish()
        except MemoryError:
            raise  # the trial worker reports it
        except Exception as e:  # noqa: BLE001 - an unexpected error of one document must not affect the others
            problem = f"the document cannot be read: {described(e)}"
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
        self._pending: dict[str, tuple[ProfileKeys, YamlMap]] = {}
        self._classes: dict[str, type[BaseAppProfile]] = {}
        self._making: list[str] = []
        self._order: list[str | PlainEntry] = []
        self._without_list: list[tuple[Mapping[str, Any], MissingList]] = []
        self._has_profiles = False

    # ---------------------------------------------------------------------------------------------- structure

    def documents(self, documents: Sequence[Any], line: int = 0) -> None:
        """Take the YAML documents of a text that begins at `line`. A text without any content is an error."""
        if not documents:
            origin = Origin(self._place, line)
            self._result.problems.append(SourceError("the document is empty", origin=origin, hint=_CLEAR))
        for document in documents:
            self._document(document)

    def _document(self, document: Any) -> None:
        """Take one YAML document: a mapping of parts, one profile, a list of profiles, a chart's values, a manifest."""
        if isinstance(document, list):
            self._profiles(document)
        elif not isinstance(document, YamlMap):
            self._problem("a document must be a mapping or a list of profiles", (), document)
        elif not document:
            self._problem("the document is empty", (), document, hint=_CLEAR)
        elif is_manifest(document):
            self._manifest(document)
        elif values := self._values(document):
            for found in values:
                self._raw(list_in(found), in_chart_order)
                missing = missing_list(found)
                if missing is None:
                    self._has_profiles = True
                else:
                    self._without_list.append((found, missing))
        elif "slug" in document or ("image" in document and "display_name" in document):
            self._profiles([document])
        else:
            self._parts(document)

    def _manifest(self, document: YamlMap) -> None:
        """Take the texts of a ConfigMap or Secret as the hub does that watches it: each key is a document."""
        if isinstance(document.get("items"), list):
            for item in document["items"]:
                self._document(item)
            return
        found = 0
        for part in ("data", "stringData"):
            texts = self._mapping(document, part)
            for key, text in texts.items():
                if not isinstance(text, str) or not key.endswith(SUFFIXES):
                    continue
                found += 1
                line = line_at(document, (part, key))
                try:
                    if part == "data" and document["kind"] == "Secret":
                        self.documents(parse_yaml(base64.b64decode(text, validate=True), f"{self._place}: {key}"), line)
                    else:  # the lines are those of the file when the text is a block
                        self.documents(parse_yaml("\n" * line + text, self._place), line)
                except ValueError:
                    self._problem("the value is not Base64", (part, key), document)
                except SourceError as e:
                    self._result.problems.append(e)
        if not found:
            expected = f"a key that ends in {', '.join(SUFFIXES)}"
            self._problem(f"the {document['kind']} holds no document", (), document, expected=expected)

    def _values(self, document: YamlMap) -> Sequence[Mapping[str, Any]]:
        try:
            return list(find_values(document, self._place))
        except SourceError as e:
            self._result.problems.append(e)
            return [{"singleuser": {"profileList": []}}]

    def _parts(self, document: YamlMap) -> None:
        known = {f.alias or n for n, f in DocumentSpec.model_fields.items()}
        for key in document:
            if key not in known:
                self._problem(f"{key!r} is not known here{did_you_mean(key, known)}", (key,), document)
            elif document[key] is None:
                empty = "[]" if key in ("profiles", "profile_list") else "{}"
                self._problem("is empty", (key,), document, hint=f"Write {empty} if nothing is to be there")
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
        field_name = dotted(path) or None
        self._result.problems.append(ProfileDefinitionError(message, origin=origin, field=field_name, **more))

    def _validated(self, model: type[_Model], data: Any, what: str, **more: Any) -> _Model | None:
        """Return `data` as a model; report every error with its line."""
        try:
            return model.model_validate(data)
        except ValidationError as e:
            known = [f.alias or n for n, f in model.model_fields.items()]
            for path, message in dict.fromkeys(problems_of(e)):
                unknown = len(path) == 1 and path[0] not in known
                hint = did_you_mean(str(path[0]), known) if unknown else ""
                origin = Origin(self._place, line_at(data, path))
                where = f"{what}{'.' if what and path else ''}{dotted(path)}"
                problem = ProfileDefinitionError(f"{message}{hint}", origin=origin, field=where or None, **more)
                self._result.problems.append(problem)
            return None

    # ---------------------------------------------------------------------------------------------- params

    def _param(self, name: str, definition: Any, document: YamlMap) -> None:
        origin = Origin(self._place, line_at(document, ("params", name)))
        spec = self._validated(ParamSpec, definition if definition is not None else {}, f"params.{name}")
        if spec is None:
            return
        values = spec.model_dump(exclude_unset=True, by_alias=True)
        possible = (values.get("default"), *_listed(values.get("schema", {})))
        if not self._allowed(definition, "", ((name, value) for value in possible), origin):
            return
        try:
            param = Param(name, **values, origin=origin, untrusted=not self._policy.unrestricted)
            self._result.collector.add_param(param)
        except ProfileSpawnerError as e:
            e.origin = e.origin or origin
            self._result.problems.append(e)

    def _collection(self, name: str, definition: Any, origin: Origin) -> None:
        spec = self._validated(CollectionSpec, definition if definition is not None else {}, f"collections.{name}")
        if spec is None:
            return
        params = definition.get("params") if isinstance(definition, Mapping) else None
        if not self._allowed(params, "", spec.params.items(), origin):
            return
        origins = {k: Origin(self._place, n) for k, n in getattr(params, "lines", {}).items()}
        untrusted = not self._policy.unrestricted
        try:
            self._result.collector.add_collection(
                Collection(
                    name,
                    spec.params,
                    spec.profiles,
                    origin,
                    origins,
                    untrusted,
                    spec.description,
                    spec.documentation,
                    spec.meta,
                )
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
        if not self._texts_allowed(entry, "", origin):
            return
        contributor: Contributor = "hub" if self._policy.unrestricted else "document"
        try:
            self._order += read_profile_list([entry], origin, contributor=contributor)
        except ProfileSpawnerError as e:
            e.origin = e.origin or origin
            self._result.problems.append(e)

    def _allowed(self, written: Any, slug: str, values: Iterable[tuple[str, Any]], origin: Origin) -> bool:
        """Report the values of params that the policy does not allow; return whether all are allowed."""
        if self._policy.unrestricted:
            return True
        refusals = [refusal for name, value in values for refusal in judge_param(name, value, self._policy)]
        return self._reported(refusals, slug, origin, lambda refusal: line_at(written, place_in(written, refusal)))

    def _texts_allowed(self, item: Any, slug: str, origin: Origin) -> bool:
        """Report the texts of a profile that the policy does not allow; return whether all are allowed."""
        if self._policy.unrestricted:
            return True
        refusals = list(judge_texts(item, self._policy))
        return self._reported(refusals, slug, origin, lambda refusal: line_at(item, refusal.path))

    def _reported(self, refusals: Sequence[Refusal], slug: str, origin: Origin, line: Callable[[Refusal], int]) -> bool:
        self._result.problems += reported(
            refusals, lambda one: one.problem(slug, Origin(origin.source, line(one) or origin.line))
        )
        return not refusals

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
        elif not isinstance(params := item.get("params") or {}, Mapping):
            self._problem(_NO_MAPPING, ("params",), item, profile=slug, value=params)
        elif self._allowed(params, slug, params.items(), origin) and self._texts_allowed(item, slug, origin):
            self._pending[slug] = (spec, item)
            self._order.append(slug)

    def finish(self) -> None:
        """Create the classes, bases first, and register everything in the order of the document."""
        for values, missing in self._without_list:
            if missing.path or not (self._has_profiles or self._order):
                self._problem(missing.message, missing.path, values, hint=missing.hint)
        for item in self._order:
            try:
                self._result.collector.add(self._class_of(item) if isinstance(item, str) else item)
            except ProfileSpawnerError as e:
                e.profile = e.profile or (item if isinstance(item, str) else item.slug)
                e.__traceback__ = None
                self._result.problems.append(e)
            except MemoryError:
                raise  # the trial worker reports it
            except Exception as e:  # noqa: BLE001 - an unexpected error of one profile must not affect the others
                slug, origin = (
                    (item, Origin(self._place, self._pending[item][1].line))
                    if isinstance(item, str)
                    else (item.slug, item.origin)
                )
                problem = ProfileDefinitionError(f"it cannot be read: {described(e)}", profile=slug, origin=origin)
                self._result.problems.append(problem)

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
        if len(self._making) > MAX_EXTENDED:
            raise self._too_deep(slug, item)
        self._making.append(slug)
        try:
            base = self._base_of(spec, item)
            if len(getattr(base, "_written", ())) > MAX_EXTENDED:
                raise self._too_deep(slug, item)
            made = self._make(slug, spec, item, base, origin)
        finally:
            self._making.pop()
        self._classes[slug] = made
        return made

    def _too_deep(self, slug: str, item: YamlMap) -> ProfileDefinitionError:
        return ProfileDefinitionError(
            f"the profiles extend each other through more than {MAX_EXTENDED} levels",
            profile=slug,
            origin=Origin(self._place, line_at(item, ("extends",))),
            field="extends",
            hint="Let it extend one of the first profiles",
        )

    def _base_of(self, spec: ProfileKeys, item: YamlMap) -> type[BaseAppProfile]:
        if spec.extends is None:
            return _FAMILIES[spec.family] if spec.family else BaseAppProfile
        origin = Origin(self._place, line_at(item, ("extends",)))
        if spec.family is not None:
            raise ProfileDefinitionError("give either family or extends", origin=origin, field="extends")
        if spec.extends in self._pending and spec.extends != item["slug"]:
            return self._class_of(spec.extends)
        self._result.needs_others = True
        why = ""
        try:
            found = self._find(spec.extends) or BUILTIN.get(spec.extends)
        except LookupError as e:
            found, why = BUILTIN.get(spec.extends), str(e.args[0])
        if found is None:
            known = [name for name in (*self._pending, *BUILTIN) if name != item["slug"]]
            raise ProfileDefinitionError(
                why or f"there is no profile {spec.extends!r} to extend{did_you_mean(spec.extends, known)}",
                origin=origin,
                field="extends",
                hint="It must be a profile of a document, or a built-in one",
            )
        return found

    def _make(
        self, slug: str, spec: ProfileKeys, item: YamlMap, base: type[BaseAppProfile], origin: Origin
    ) -> type[BaseAppProfile]:
        attributes: dict[str, Any] = dict(_NOT_INHERITED)
        lines = dict(item.lines)
        for name, attribute in ATTRIBUTES.items():
            key = attribute.document
            if name in item:
                attributes[name] = self._value(attribute, item)
            if key is None or key.name not in item:
                continue
            lines.setdefault(name, item.lines[key.name])
            value = item[key.name]
            if key.how == "merge":
                if value is not None and not isinstance(value, Mapping):
                    where = Origin(self._place, line_at(item, (key.name,)))
                    raise ProfileDefinitionError(_NO_MAPPING, origin=where, field=key.name, value=value)
                value = {**_mapping_of(base, name), **(value or {})}
            elif key.how == "text":
                if value is None:
                    continue
                if not isinstance(value, str) or name in item:
                    where = Origin(self._place, line_at(item, (key.name,)))
                    message = f"must be a text, and {name} must not be given too"
                    raise ProfileDefinitionError(message, origin=where, field=key.name)
                value = InlineText(value)
            attributes[name] = value
        attributes |= {
            "_parts": self._parts_of(spec, item, getattr(base, "_parts", {})),
            "_written": (item, *getattr(base, "_written", ())),
            "__profile_untrusted__": not self._policy.unrestricted,
            "__profile_origin__": origin,
            "__profile_lines__": _LineOf(lines),
            "__module__": __name__,
            "__doc__": str(item.get("description") or "") or None,
        }
        bases = (base,) if issubclass(base, _FromDocument) else (_FromDocument, base)
        return type(f"Document_{shorten(slug)}", bases, attributes)

    def _value(self, attribute: Attribute, item: YamlMap) -> Any:
        """Return the value of an attribute as classes have it: a reference to a param, a file's text, or as it is."""
        value = _param_or_value(item[attribute.name])
        if attribute.document is not None and attribute.document.how == "text" and isinstance(value, str):
            value = InlineText(self._read_asset(value, Origin(self._place, line_at(item, (attribute.name,)))))
        return value

    def _parts_of(
        self, spec: ProfileKeys, item: YamlMap, base: Mapping[str, Sequence[Any]]
    ) -> Mapping[str, Sequence[Any]]:
        """Return what the document brings besides attributes, on top of what its base has."""
        files = []
        for number, file in enumerate(spec.files):
            content = file.content
            if content is None:
                origin = Origin(self._place, line_at(item, ("files", number, "path")))
                content = self._read_asset(file.path or "", origin)
            try:
                files.append(file.config_map(content))
            except ValidationError as e:
                origin = Origin(self._place, line_at(item, ("files", number)))
                _, message = next(problems_of(e))
                raise ProfileDefinitionError(message, origin=origin, field=f"files[{number}]") from None
        parts = {hook.key: as_templates(getattr(spec, hook.key)) for hook in LIST_HOOKS}
        parts["config_maps"] = (*parts["config_maps"], *files)
        parts["volumes"] = as_templates([v.volume() for v in spec.volumes])
        return {hook.key: tuple(hook.joined(base.get(hook.key, ()), parts[hook.key])) for hook in LIST_HOOKS}

    def _read_asset(self, path: str, origin: Origin) -> str:
        if self._asset is None:
            raise ProfileDefinitionError(
                "there are no files beside this document", origin=origin, value=path, hint="Use files with content"
            )
        return self._asset(path, origin)


class _LineOf:
    """Finds the line of an attribute in a document. Not a function: it must not become a method."""

    def __init__(self, lines: Mapping[str, int]) -> None:
        self._lines = lines

    def __call__(self, name: str) -> int:
        return self._lines.get(name, 0)


def _param_or_value(value: Any) -> Any:
    if isinstance(value, Mapping) and "$param" in value and set(value) <= {"$param", "default"}:
        return Param.ref(str(value["$param"]), *([value["default"]] if "default" in value else []))
    return value


def _mapping_of(base: type[BaseAppProfile], name: str) -> Mapping[str, Any]:
    value = getattr(base, name)
    return value if isinstance(value, Mapping) else {}


def _is_plain_entry(item: YamlMap) -> bool:
    """Return whether an item is an entry of KubeSpawner's `profile_list`, with the image in `kubespawner_override`."""
    own = ("image", "family", "extends", "env", "files", "volumes", "options")
    return "kubespawner_override" in item and not any(k in item for k in own)


def _listed(schema: Any) -> Iterator[Any]:
    """Yield the values that a JSON Schema lists; a user's choice becomes one of them."""
    if isinstance(schema, Mapping):
        for key, item in schema.items():
            if key in ("const", "default", "enum", "examples"):
                yield item
            yield from _listed(item)
    elif isinstance(schema, list | tuple):
        for item in schema:
            yield from _listed(item)


def _wrap(params: YamlMap) -> YamlMap:
    wrapped = YamlMap(params.line)
    wrapped["params"] = params
    wrapped.lines["params"] = params.line
    return wrapped
