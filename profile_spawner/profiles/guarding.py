"""Marks texts of users, so that `{{ references }}` in them are not expanded, even if a hook copies them.

A hook may return `f"[{self.choices['title']}]"`. The result does not show which part the author wrote and which the
user typed. Therefore, if a user's text contains double braces or could become part of some, hooks receive it with
secret marks between the braces. After the references are replaced, the marks are removed. The author's text is never
changed, even if it contains the same reference as the user's text.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from .context import ServerContext
from .selection import Selection

__all__ = ["guard", "is_guarded", "unguard"]

_MARK = f"\u2063{secrets.token_hex(8)}\u2063"
_WHERE = re.compile(r"(?<=\{)(?=\{|\Z)|\A(?=\{[ \t]*[A-Za-z])")


def guard(
    context: ServerContext, params: Mapping[str, Any], selection: Selection
) -> tuple[ServerContext, Mapping[str, Any], Selection]:
    """Return the context for the hooks of a profile, with the user's texts marked.

    Where none of them needs it, everything is returned as it is.
    """
    said = [context.user.name, context.server_name, *selection.values.values()]
    if not _has_braces(said):
        return context, params, selection
    user = replace(context.user, name=_marked(context.user.name))
    values = MappingProxyType({k: _marked(v) for k, v in selection.values.items()})
    context = replace(context, user=user, server_name=_marked(context.server_name))
    return context, _GuardedParams(params), replace(selection, values=values)


def is_guarded(params: Mapping[str, Any]) -> bool:
    """Return whether `guard()` has marked anything."""
    return isinstance(params, _GuardedParams)


def unguard(value: Any) -> Any:
    """Return the value without marks. It may be the value given to `guard()` or a value derived from it."""
    if isinstance(value, str):
        return value.replace(_MARK, "")
    if isinstance(value, ServerContext):
        user = replace(value.user, name=unguard(value.user.name))
        return replace(value, user=user, server_name=unguard(value.server_name))
    if isinstance(value, _GuardedParams):
        return value.params
    if isinstance(value, Mapping):
        return {unguard(k): unguard(v) for k, v in value.items()}
    if isinstance(value, list):
        return [unguard(v) for v in value]
    if isinstance(value, tuple):
        return tuple(unguard(v) for v in value)
    return value


def _has_braces(value: Any) -> bool:
    if isinstance(value, str):
        return "{" in value and _WHERE.search(value) is not None
    if isinstance(value, Mapping):
        return any(_has_braces(v) for v in value.values())
    return isinstance(value, list | tuple) and any(_has_braces(v) for v in value)


def _marked(value: Any) -> Any:
    if isinstance(value, str):
        return _WHERE.sub(_MARK, value)
    if isinstance(value, Mapping):
        return MappingProxyType({k: _marked(v) for k, v in value.items()})
    if isinstance(value, list | tuple):
        return type(value)(_marked(v) for v in value)
    return value


class _GuardedParams(Mapping[str, Any]):
    """Params whose values are marked when they are read, because any value may contain text that the user typed."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params

    def __getitem__(self, name: str) -> Any:
        return _marked(self.params[name])

    def __contains__(self, name: object) -> bool:
        return name in self.params

    def __iter__(self) -> Iterator[str]:
        return iter(self.params)

    def __len__(self) -> int:
        return len(self.params)
