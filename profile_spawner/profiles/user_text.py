"""Checks texts that users type, and inserts chosen values into overrides.

A typed text is never formatted, rendered or run. It is escaped where KubeSpawner expands braces and where Kubernetes
replaces `$(NAME)`.
"""

from __future__ import annotations

import contextlib
import re
import string
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from profile_spawner.names import is_label_value
from profile_spawner.params.quantities import quantity_value
from profile_spawner.texts import Text, marked

from .patterns import matches
from .template import Template

__all__ = [
    "DOLLAR_TRAITS",
    "EXAMPLES",
    "EXPANDED_TRAITS",
    "FORMATTED_TRAITS",
    "IDENTITY_TRAITS",
    "KUBESPAWNER_USER",
    "MAX_TEXT",
    "TYPED_EXPANDED_TRAITS",
    "TYPED_OR_USER",
    "USE_A_VARIABLE",
    "USUAL_VARIABLES",
    "check_typed",
    "command_texts",
    "each_text",
    "escape_before",
    "escape_braces",
    "escape_copies",
    "escape_dollars",
    "fill_value",
    "is_plain_word",
    "is_run_by_programs",
    "is_whole_argument",
    "nodes",
    "odd_field",
    "text_problem",
    "texts_in_commands",
    "unfilled",
    "user_variables",
]

MAX_TEXT = 256
"""The longest text a user may type unless the option says otherwise, in characters."""

EXAMPLES = (
    "example", "example-1", "abc", "ABC", "a1", "A1", "AB-1", "AB-123", "ab-123", "1", "123", "12345", "1G", "1Gi",
    "2.5", "example.org", "a:1", "a/b:1", "example/image:1", "example.org/image:1", "ghcr.io/example/image:1",
    "docker.io/example/image:1", "quay.io/jupyter/base-notebook:2026-01-31", f"example.org/image@sha256:{'0' * 64}",
    "/example", "user@example.org", "https://example.org", "https://example.org/a.git", "2026-01-31",
    "2026-01-31T12:00:00Z", "12:00:00Z", "P1D", "192.0.2.1", "2001:db8::1", "00000000-0000-4000-8000-000000000000",
)  # fmt: skip
"""Texts of which one usually fits a schema, or a pattern of what users type."""

EXPANDED_TRAITS = frozenset(
    {
        "environment",
        "extra_annotations",
        "extra_containers",
        "extra_labels",
        "extra_pod_config",
        "init_containers",
        "service_account",
        "volume_mounts",
        "volumes",
    }
)
"""The traits in whose texts KubeSpawner expands `{username}` and the like (`KubeSpawner._expand_all`)."""

FORMATTED_TRAITS = frozenset({"default_url", "notebook_dir"})
"""The traits whose texts JupyterHub formats (`Spawner.format_string`)."""

IDENTITY_TRAITS = frozenset(
    {"dns_name_template", "pod_name_template", "pvc_name_template", "secret_name_template", "working_dir"}
)
"""The traits that KubeSpawner expands when a spawner is made. Those of a profile are expanded when it is applied."""

TYPED_EXPANDED_TRAITS = (
    EXPANDED_TRAITS
    | FORMATTED_TRAITS
    | IDENTITY_TRAITS
    | {
        "storage_extra_annotations",
        "storage_extra_labels",
        "storage_selector",
        "user_namespace_annotations",
        "user_namespace_labels",
    }
)
"""All traits whose texts are expanded, also those in which only typed texts must be escaped."""

DOLLAR_TRAITS = frozenset(
    {
        "args",
        "cmd",
        "default_url",
        "environment",
        "extra_container_config",
        "extra_containers",
        "extra_pod_config",
        "init_containers",
        "notebook_dir",
        "volume_mounts",
    }
)
"""The traits in which Kubernetes replaces `$(NAME)`, or that become environment variables."""

_KUBESPAWNERS_NAMES = frozenset(
    {
        "escaped_servername", "escaped_user_server", "escaped_username", "hubnamespace", "namespace", "pod_name",
        "pvc_name", "safe_servername", "safe_user_server", "safe_username", "servername", "unescaped_servername",
        "unescaped_username", "user_server", "userid", "username",
    }
)  # fmt: skip
"""What KubeSpawner fills in (`KubeSpawner._expand_user_properties`)."""
_NAMES_FOR = {
    **dict.fromkeys(TYPED_EXPANDED_TRAITS, _KUBESPAWNERS_NAMES),
    **dict.fromkeys(FORMATTED_TRAITS, frozenset({"base_url", "username"})),
    "dns_name_template": frozenset({"name", "namespace"}),
}
"""The names that are filled into the texts of a trait."""

_PATH_TRAITS = (
    "default_url", "extra_container_config", "extra_containers", "init_containers", "notebook_dir", "volume_mounts",
    "volumes", "working_dir",
)  # fmt: skip
_LABEL_TRAITS = ("extra_labels", "node_selector", "storage_extra_labels")
KUBESPAWNER_USER = r"\{(?:unescaped_username|unescaped_servername)\b[^{}]*\}|metadata\.annotations\b"
"""A regular expression for places where KubeSpawner or annotations insert what the user or the server is called."""
TYPED_OR_USER = rf"\{{value\b[^{{}}]*\}}|{KUBESPAWNER_USER}"
"""The same in the override of an option that takes a text of the user, with the places of this text."""
USE_A_VARIABLE = (
    'Give it to a variable: environment: {TITLE: "{value}"}, cmd: [sh, -c, "exec start --title=\\"$TITLE\\""]'
)
"""What to do instead of writing a user's text into a command."""
_COMMANDS = frozenset({"args", "cmd", "command"})
"""The fields that contain commands or their arguments, of containers, probes and lifecycle hooks."""
_COMMAND_TRAITS = frozenset(
    {
        "args", "cmd", "extra_container_config", "extra_containers", "extra_pod_config", "init_containers",
        "lifecycle_hooks",
    }
)  # fmt: skip
_RUN_BY_PROGRAMS = re.compile(
    # Shells, the dynamic loader, pagers and editors.
    r"(?:BASH_)?ENV|BASH_FUNC_.*|BROWSER|EDITOR|FCEDIT|F?PATH|GCONV_PATH|IFS|INPUTRC|LD_.*|LESS(?:OPEN|CLOSE)?"
    r"|(?:MAN)?PAGER|MAKEFILES|OPENSSL_(?:CONF|ENGINES|MODULES)|PROMPT_COMMAND|PS[0-4]|SHELL|(?:EX|VIM)INIT|VISUAL|ZDOTDIR"
    r"|GIT_(?:ASKPASS|CONFIG|EDITOR|EXEC|EXTERNAL|PAGER|PROXY|SEQUENCE|SSH|TEMPLATE).*|(?:SSH|SUDO)_ASKPASS"
    # Languages and Jupyter: options, start files, and where programs are loaded from.
    r"|CLASSPATH|GEM_(?:HOME|PATH)|IPYTHONDIR|JULIA_(?:DEPOT_PATH|LOAD_PATH|PROJECT)|LUA_(?:C?PATH|INIT)\w*|NODE_PATH"
    r"|JUPYTER(?:_CONFIG_(?:DIR|PATH)|_DATA_DIR|_PATH|_PREFER_ENV_PATH|HUB_SINGLEUSER_\w+)|PERL5?(?:5DB|LIB|OPT)|PHPRC"
    r"|PHP_INI_SCAN_DIR|PIP_(?:\w*_)?(?:CONFIG_FILE|FIND_LINKS|INDEX_URL)|PYSPARK_(?:DRIVER_)?PYTHON|R_(?:ENVIRON|HOME|LIBS|PROFILE)\w*"
    r"|PYTHON(?:BREAKPOINT|HOME|INSPECT|PATH|STARTUP|USERBASE|WARNINGS)|RUBY(?:LIB|OPT)|XDG_CONFIG_(?:DIRS|HOME)"
    # By custom, start scripts insert them into commands without quotes.
    r"|(?:\w+_)?(?:ARGS|CMD|COMMAND|OPTIONS|OPTS)"
)
USUAL_VARIABLES = frozenset({"JUPYTERHUB_SERVER_NAME", "JUPYTERHUB_USER"})
"""The variables in which JupyterHub says what the user and the server are called."""
_VARIABLES_OF_TRAITS = {"default_url": "JUPYTERHUB_DEFAULT_URL", "notebook_dir": "JUPYTERHUB_ROOT_DIR"}
"""The variables that contain the values of traits."""
_PLAIN_WORD = re.compile(r"(?!-)(?!(?:.*/)?\.\.(?:/|\Z))[\w@%+=:,./-]*", re.ASCII)

_TEXT_TRAITS = frozenset(
    {
        "args",
        "cmd",
        "common_labels",
        "default_url",
        "environment",
        "extra_annotations",
        "extra_labels",
        "extra_resource_guarantees",
        "extra_resource_limits",
        "image",
        "node_selector",
        "storage_capacity",
        "working_dir",
    }
)
"""Settings of KubeSpawner whose values are texts, whatever was chosen: a chosen number is written out in them."""


def check_typed(label: str, value: Any, limit: int, pattern: str | None, message: str) -> tuple[Any, str]:
    """Return the stripped text and an empty message, or `None` and an error message.

    Args:
        label: What the field is called on the page.
        value: What was sent: any JSON.
        limit: The longest text, in characters.
        pattern: A regular expression that the whole text must match.
        message: The error message when it does not match.
    """
    if not isinstance(value, str):
        return None, Text("“%(name)s” must be a text.", name=label)
    text = value.strip()
    # Check the length first, so that no pattern is matched with a long text.
    if len(text) > limit:
        return None, Text("“%(name)s” may have at most %(limit)s characters.", name=label, limit=limit)
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text):
        return None, Text("“%(name)s” must be one line without control characters.", name=label)
    if pattern is not None and not matches(pattern, text):
        return None, message or Text("“%(name)s” must match %(pattern)s.", name=label, pattern=pattern)
    return text, ""


def text_problem(name: str, override: Mapping[str, Any], value: Any) -> str:
    """Return what is wrong with a value that becomes a number, a label or a part of a path; empty when it fits."""
    if number := _wanted_number(override, value):
        return Text("“%(name)s” must be %(number)s.", name=name, number=Text(number))
    for text in (filled for trait in _PATH_TRAITS for filled in _texts_in(_fill(override.get(trait), str(value)))):
        if ".." in text.split("/") and ".." in str(value):
            message = marked("“%(name)s” becomes a part of a path: it may not contain “..”.")
            return Text(message, name=name)
    for trait in _LABEL_TRAITS:
        for template in _texts_in(override.get(trait)):
            if "{value}" not in template:
                continue
            filled, others = str(_fill(template, str(value))), str(_fill(template, ""))
            # What KubeSpawner adds later is a valid part of a label.
            fits = is_label_value(re.sub(r"\{\w+\}", "x", filled) if "{" in others else filled)
            if not fits:
                message = marked(
                    "“%(name)s” becomes a label of the server: it may have at most 63 letters, digits, “-”, “_” and "
                    "“.”, and begins and ends with a letter or digit."
                )
                return Text(message, name=name)
    return ""


def _wanted_number(override: Mapping[str, Any], value: Any) -> str:
    """Return what kind of number a value must be, if it becomes one and is not; otherwise an empty text."""
    for trait, template in override.items():
        number = _CHECKED_NUMBERS.get(trait)
        for one in template.values() if isinstance(template, Mapping) else (template,):
            if number is None or not isinstance(one, str) or "{value}" not in one:
                continue
            try:
                number.read(_fill(one, value))
            except (TypeError, ValueError, OverflowError):
                return number.expected
    return ""


@dataclass(frozen=True)
class _Number:
    """How a trait's number is written as a text, and what is said if a text is none."""

    read: Callable[[Any], Any]
    expected: str


def _cores(value: Any) -> float:
    number = float(value)
    if not 0 <= number < float("inf"):
        raise ValueError("must be a number of cores")
    return number


def _whole(value: Any) -> int:
    number = int(value)
    if number < 0 or (isinstance(value, float) and number != value):
        raise ValueError("must be a whole number")
    return number


def _memory(value: Any) -> Any:
    """Return a number of bytes as KubeSpawner takes it: a number, or a text with a unit."""
    text = str(value).strip()
    if re.fullmatch(r"[0-9]+(?:\.[0-9]+)?[KMGT]", text):
        return text
    return _whole(value)


_NUMBERS = {
    **dict.fromkeys(("cpu_guarantee", "cpu_limit"), _Number(_cores, marked("a number such as 0.5 or 2"))),
    **dict.fromkeys(("mem_guarantee", "mem_limit"), _Number(_memory, marked("a size such as 512M or 4G"))),
    **dict.fromkeys(
        (
            "delete_grace_period", "fs_gid", "gid", "http_timeout", "k8s_api_request_retry_timeout",
            "k8s_api_request_timeout", "port", "start_timeout", "uid",
        ),
        _Number(_whole, marked("a whole number")),
    ),
}  # fmt: skip
"""The settings of KubeSpawner that are numbers: a chosen or typed text is read as one in them."""
_CHECKED_NUMBERS = {
    **_NUMBERS,
    **dict.fromkeys(
        ("extra_resource_guarantees", "extra_resource_limits", "storage_capacity"),
        _Number(quantity_value, marked("a quantity such as 2, 500m or 4Gi")),
    ),
}
"""These, and the settings that are texts, or hold texts, of which Kubernetes reads quantities."""


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts_in(key)
            yield from _texts_in(item)
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from _texts_in(item)


def texts_in_commands(
    override: Mapping[str, Any], users: str, variables: Collection[str] = ()
) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Yield what would let a program run a user's text, with its path: texts in commands, keys, and some variables.

    Whether a command is a shell's cannot be seen in it (`php -r`, an entry point of the image, the parts of other
    options). So a user's text may not stand in any; a command can read it from a variable instead. It may not be a key
    of any mapping either: it would choose a field, a variable, a label or an annotation.

    Args:
        override: Values of KubeSpawner's traits.
        users: A regular expression for the places of a user's text.
        variables: The variables whose values contain a user's text. `$(NAME)` inserts them into commands.
    """
    found = _places(users, variables)
    names = ((path, name) for path, name, _ in _variables(override) if isinstance(path[-1], int))
    keys = ((path, path[-1]) for path, _ in nodes(override) if isinstance(path[-1], str))
    for path, text in chain(command_texts(override), keys, names):
        if found.search(text):
            yield path, text


def _places(users: str, variables: Collection[str]) -> re.Pattern[str]:
    """Return a regular expression for places of a user's text, and for those of variables that contain one."""
    names = "|".join(map(re.escape, sorted(variables)))
    return re.compile(rf"{users}|(?<!\$)(?:\$\$)*\$\((?:{names})\)" if names else users)


def command_texts(override: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Yield all texts of commands, and of variables that programs run, with their paths.

    Args:
        override: Values of KubeSpawner's traits.
    """
    commands = {trait: value for trait, value in override.items() if trait in _COMMAND_TRAITS}
    for path, value in nodes(commands):
        if isinstance(value, str) and not _COMMANDS.isdisjoint(path):
            yield path, value
    yield from ((path, text) for path, name, text in _variables(override) if is_run_by_programs(name))


def user_variables(parts: Iterable[tuple[Any, str]], known: Collection[str] = ()) -> set[str]:
    """Return the names of the variables, of any container, whose values contain a user's text.

    Args:
        parts: Overrides, manifests or parts of them, each with a regular expression for the places of a user's text.
        known: Variables that contain a user's text. `$(NAME)` inserts them into others.
    """
    found = set(known)
    variables = [(name, text, users) for part, users in parts for _, name, text in _variables(part)]
    while more := {name for name, text, users in variables if _places(users, found).search(text)} - found:
        found |= more
    return found


def _variables(value: Any) -> Iterator[tuple[tuple[Any, ...], str, str]]:
    """Yield path, name and text of each variable in a value."""
    for path, item in nodes(value):
        if path[-1] in ("env", "environment"):
            for key, one in _items(item):
                named = one if isinstance(one, Mapping) else {"value": one}
                text = named.get("value") or named.get("valueFrom") or named.get("value_from") or ""
                yield (*path, key), str(named.get("name", key)), str(text)
        elif path[-1] in _VARIABLES_OF_TRAITS and isinstance(item, str):
            yield path, _VARIABLES_OF_TRAITS[path[-1]], item


def is_plain_word(text: str) -> bool:
    """Return whether a user's text means the same to a shell wherever it stands, and is no option and leads nowhere."""
    return _PLAIN_WORD.fullmatch(text) is not None


def is_run_by_programs(variable: str) -> bool:
    """Return whether shells and other programs run the value of a variable, or load what it names."""
    return _RUN_BY_PROGRAMS.fullmatch(variable) is not None


def is_whole_argument(text: str, users: str) -> bool:
    """Return whether an argument is a user's text, or the value of one as in `--title={value}`, and nothing else."""
    return re.fullmatch(rf"(?:--?[\w.-]+=)?(?:{users})", text) is not None


def nodes(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield the path and the value of everything inside a mapping or list, each before its parts."""
    for step, item in _items(value):
        yield (*path, step), item
        yield from nodes(item, (*path, step))


def each_text(value: Any, change: Callable[[str], Any]) -> Any:
    """Return a copy of `value` in which every text is changed. Keys of mappings stay as they are."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: each_text(item, change) for key, item in value.items()}
    return [each_text(item, change) for item in value] if isinstance(value, list | tuple) else value


def _items(value: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return value.items()
    return enumerate(value) if isinstance(value, list | tuple) else ()


def odd_field(trait: str, text: str, *, chosen: bool) -> str:
    """Return the first field of a text that is more than a name, such as `{username:>9}` or `{0}`; empty if none is.

    Args:
        trait: The trait of KubeSpawner to which the text belongs. Not all are expanded.
        text: The text.
        chosen: Whether the text belongs to an option, so that `{value}` is replaced in it.
    """
    expanded = trait in TYPED_EXPANDED_TRAITS
    try:
        fields = [field for field in string.Formatter().parse(text) if field[1] is not None]
    except ValueError:  # a lone brace
        return text if expanded else ""
    for _, name, spec, conversion in fields:
        is_value = re.match(r"value\b", name or "") is not None
        if (expanded or (chosen and is_value)) and (spec or conversion or not (name or "").isidentifier()):
            return f"{{{name}{'!' if conversion else ''}{conversion or ''}{':' if spec else ''}{spec}}}"
    return ""


def unfilled(override: Mapping[str, Any], *, filled: bool) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Yield the texts with braces into which nothing can be filled, so that no server can start, and what stands there.

    Args:
        override: A `kubespawner_override`.
        filled: Whether it belongs to an option whose `{value}` is replaced in it.
    """
    for trait, value in override.items():
        names = _NAMES_FOR.get(trait)
        if names is None:
            continue
        for path, text in (((), value), *nodes(value)):
            if not isinstance(text, str) or ("{" not in text and "}" not in text):
                continue
            text = "".join(_pieces(text, "")) if filled else text
            try:
                fields = [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]
            except ValueError:  # a lone brace
                yield (trait, *path), ""
            else:
                yield from (((trait, *path), f"{{{name}}}") for name in fields if name not in names)


def escape_braces(value: Any) -> Any:
    """Return `value` with the braces in all its texts doubled, so that KubeSpawner's expansion leaves them alone."""
    return each_text(value, lambda text: text.replace("{", "{{").replace("}", "}}"))


def escape_dollars(text: str) -> str:
    """Return `text` as it has to stand in an environment value or argument, so that Kubernetes replaces nothing in it.

    Every `$` is doubled: `$(` alone would leave a way out, as in `$$(NAME)` the first `$` escapes the second.
    """
    return text.replace("$", "$$")


def escape_before(value: Any, place: str) -> Any:
    """Return `value` in whose texts no `$` or `$(` before a user's text becomes a part of a `$(NAME)` with it.

    Args:
        value: A text, or a mapping or list of texts.
        place: A regular expression for the places of a user's text.
    """
    found = re.compile(rf"(?<!\$)((?:\$\$)*)\$(?=(?:\([^()$]*)?(?:{place}))")
    return each_text(value, lambda text: found.sub(r"\1$$", text))


def escape_copies(value: Any, said: Collection[str]) -> Any:
    """Return a value in which Kubernetes replaces nothing in the texts of users that its literal texts contain.

    Args:
        value: A text, or a mapping or list of texts.
        said: What users typed or are called.
    """
    risky = sorted((text for text in said if "$" in text or text.startswith("(")), key=len, reverse=True)
    if not risky:
        return value
    copies = "|".join(map(re.escape, risky))

    def escaped(text: str) -> str:
        if isinstance(text, Template):
            return text
        return re.sub(copies, lambda found: escape_dollars(found.group()), escape_before(text, copies))

    return each_text(value, escaped)


def fill_value(override: Mapping[str, Any], value: Any, *, typed: bool) -> dict[str, Any]:
    """Return `override` with `{value}` replaced.

    Other `{names}` stay for KubeSpawner, as its own `recursive_format` leaves them. A typed text is data: its braces
    are escaped where KubeSpawner would expand them, and `$(NAME)` is neutralised in environment values.

    Args:
        override: A `kubespawner_override`; not changed.
        value: What was chosen or typed.
        typed: Whether the value is a user's own text.
    """
    result = {}
    for trait, template in override.items():
        inserted = value
        if typed and isinstance(value, str):
            if trait in DOLLAR_TRAITS:
                inserted, template = escape_dollars(inserted), escape_before(template, r"\{value\b")
            if trait in TYPED_EXPANDED_TRAITS:
                inserted = escape_braces(inserted)
        elif trait in _TEXT_TRAITS and isinstance(value, int | float) and not isinstance(value, bool):
            inserted = f"{value:.15g}"
        filled = _fill(template, inserted)
        if trait in _NUMBERS and filled != template:
            with contextlib.suppress(TypeError, ValueError, OverflowError):  # KubeSpawner says what is wrong
                filled = _NUMBERS[trait].read(filled)
        result[trait] = filled
    return result


def _fill(template: Any, value: Any) -> Any:
    if isinstance(template, Mapping):
        return {_fill(k, value): _fill(v, value) for k, v in template.items()}
    if isinstance(template, list | tuple | set):
        return [_fill(v, value) for v in template]
    if not isinstance(template, str):
        return template
    if template == "{value}":
        return value
    return "".join(_pieces(template, value))


def _pieces(template: str, value: Any) -> Iterator[str]:
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError:  # a lone brace: the text is no template
        yield template.replace("{value}", str(value))
        return
    for literal, name, spec, conversion in parts:
        yield literal
        if name == "value":
            converted = {"r": repr, "a": ascii}.get(conversion or "", str)(value) if conversion else value
            yield format(converted, spec or "")
        elif name is not None and name.isidentifier():
            yield "{" + name + "}"
        elif name is not None:  # text of another language: JSON, `awk '{print $1}'`
            yield "{" + name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "") + "}"
