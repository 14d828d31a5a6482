"""Checks texts that users type, and inserts chosen values into overrides.

A typed text is never formatted, rendered or run. It is escaped where KubeSpawner expands braces and where Kubernetes
replaces `$(NAME)`.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from profile_spawner.names import is_label_value
from profile_spawner.texts import Text, marked

from .patterns import matches

__all__ = [
    "EXPANDED_TRAITS",
    "FORMATTED_TRAITS",
    "MAX_TEXT",
    "TYPED_EXPANDED_TRAITS",
    "check_typed",
    "escape_braces",
    "escape_dollars",
    "fill_value",
    "in_shell_command",
    "label_problem",
]

MAX_TEXT = 256
"""The longest text a user may type unless the option says otherwise, in characters."""

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

TYPED_EXPANDED_TRAITS = (
    EXPANDED_TRAITS
    | FORMATTED_TRAITS
    | {
        "storage_extra_annotations",
        "storage_extra_labels",
        "storage_selector",
        "user_namespace_annotations",
        "user_namespace_labels",
    }
)
"""All of these, and where only a typed text needs care."""

_DOLLAR_TRAITS = frozenset(
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

_LABEL_TRAITS = ("extra_labels", "node_selector", "storage_extra_labels")
_SHELL = re.compile(r"(?:.*/)?(?:ba|da|a|k|z|c|tc|fi)?sh")
_SHELL_COMMAND = re.compile(r"-[A-Za-z]*c")

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


def label_problem(name: str, override: Mapping[str, Any], value: Any) -> str:
    """Return what is wrong with a value that becomes a label; empty when it fits or becomes none."""
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


def in_shell_command(value: Any) -> bool:
    """Tell whether the `{value}` of an override becomes part of a shell's command (`sh -c "... {value}"`)."""
    if isinstance(value, Mapping):
        parts = [
            p for key in ("cmd", "command", "args") if isinstance(value.get(key), list | tuple) for p in value[key]
        ]
        return _is_shell_command(parts) or any(in_shell_command(item) for item in value.values())
    if isinstance(value, list | tuple):
        return _is_shell_command(value) or any(in_shell_command(item) for item in value)
    return False


def _is_shell_command(argv: Sequence[Any]) -> bool:
    texts = [part if isinstance(part, str) else "" for part in argv]
    shell = next((n for n, text in enumerate(texts) if _SHELL.fullmatch(text)), None)
    if shell is None:
        return False
    flag = next((n for n, text in enumerate(texts) if n > shell and _SHELL_COMMAND.fullmatch(text)), None)
    return flag is not None and flag + 1 < len(texts) and "{value}" in texts[flag + 1]


def escape_braces(value: Any) -> Any:
    """Return `value` with the braces in all its texts doubled, so that KubeSpawner's expansion leaves them alone."""
    if isinstance(value, str):
        return value.replace("{", "{{").replace("}", "}}")
    if isinstance(value, Mapping):
        return {k: escape_braces(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [escape_braces(v) for v in value]
    return value


def escape_dollars(text: str) -> str:
    """Return `text` as it has to stand in an environment value or argument, so that Kubernetes replaces nothing in it.

    Every `$` is doubled: `$(` alone would leave a way out, as in `$$(NAME)` the first `$` escapes the second.
    """
    return text.replace("$", "$$")


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
            if trait in _DOLLAR_TRAITS:
                inserted = escape_dollars(inserted)
            if trait in TYPED_EXPANDED_TRAITS:
                inserted = escape_braces(inserted)
        elif trait in _TEXT_TRAITS and isinstance(value, int | float) and not isinstance(value, bool):
            inserted = f"{value:.15g}"
        result[trait] = _fill(template, inserted)
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
        elif name is not None:
            yield "{" + name + "}"
