"""Finds the lines of a plain `profile_list` and of settings in configuration files and in a chart's values.

A hub has only the values. Administrators who correct them need the file and line.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from profile_spawner.errors import Origin

if TYPE_CHECKING:
    from profile_spawner.migrate.chart import Code
    from profile_spawner.profiles.entry import Entry

__all__ = [
    "Places",
    "Where",
    "class_line",
    "in_yaml",
    "list_as_written",
    "literal_entries",
    "literal_keys",
    "mentions",
    "setting_line",
]

Path_ = tuple[Any, ...]
Where = Callable[[Path_], Origin]


class Places:
    """The files and lines of the plain entries of a hub.

    Args:
        written: Entries as they are written, and where; what counts more comes first. Values that are not known are
            `OPAQUE`.
    """

    def __init__(self, written: Iterable[tuple[Mapping[str, Any], Where]] = ()) -> None:
        self._found: dict[str, list[tuple[Mapping[str, Any], Where]]] = {}
        for definition, where in written:
            for key in _names(definition):
                self._found.setdefault(key, []).append((definition, where))

    def of(self, entry: Entry) -> Where:
        """Return a function from a path in the entry to file and line."""
        written, origin = entry.profile.list_entry(), entry.origin
        if not written:
            return entry.profile.where
        if hasattr(written, "lines") and origin.line:
            return in_yaml(written, origin.source)
        return self.of_definition(written, origin)

    def of_definition(self, definition: Mapping[str, Any], otherwise: Origin) -> Where:
        """Return the same for a dictionary; `otherwise` is the answer for what is not found."""
        if otherwise.line:
            return lambda path: otherwise
        # Two lists may have entries of the same name, of which the hub has one.
        found = [one for key in _names(definition) for one in self._found.get(key, ())]
        same = (where for written, where in found if written == definition)
        return next(same, found[0][1] if found else lambda path: otherwise)

    def of_slug(self, slug: str, *path: Any) -> Origin | None:
        """Return where the plain entry with this slug begins, or a value in it."""
        found = self._found.get(f"slug {slug}")
        return found[0][1](path) if found else None


def _names(definition: Mapping[str, Any]) -> Iterator[str]:
    """Yield what an entry can be found by: its slug, also the one that KubeSpawner makes, and its name."""
    from profile_spawner.profiles.plain_entries import slugify_like_kubespawner

    slug, name = definition.get("slug"), definition.get("display_name")
    if isinstance(slug, str):
        yield f"slug {slug}"
    if isinstance(name, str):
        if slug is None:
            yield f"slug {slugify_like_kubespawner(name)}"
        yield f"name {name}"


def in_yaml(definition: Any, file: str) -> Where:
    """Return a function from a path in an entry that was read from YAML to file and line."""
    from profile_spawner.profiles.yaml_text import line_at

    return lambda path: Origin(file, line_at(definition, path) or getattr(definition, "line", 0))


# ------------------------------------------------------------------------------------------------ Python files


def _parsed(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError):
        return ast.Module([], [])  # reading it as configuration reports this, or it is YAML


def literal_entries(code: Code) -> Iterator[tuple[dict[str, Any], Where]]:
    """Yield the entries of lists of profiles that stand as literals in Python code, and where.

    What is not a literal in them is `OPAQUE`.
    """
    for node in _entries(_parsed(code.text)):
        yield _value(node), _in_python(node, code)


def _in_python(node: ast.expr, code: Code) -> Where:
    return lambda path: Origin(code.file, code.before + _line_of(node, path))


def _entries(tree: ast.AST) -> Iterator[ast.expr]:
    """Yield the literals that look like entries of a list of profiles, and not like a choice in one."""
    waiting: list[ast.AST] = [tree]
    for node in waiting:
        keys = _keys(node)
        if "display_name" in keys:
            if isinstance(node, ast.expr) and isinstance(keys["display_name"], ast.Constant) and "choices" not in keys:
                yield node
        elif keys:  # choices and options are the values of mappings
            waiting += [value for value in keys.values() if "display_name" not in _keys(value)]
        elif isinstance(node, ast.Assign) and _keys(node.value) and _set_to(node, "profile_list"):
            waiting += _keys(node.value).values()
        elif not (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript)):
            waiting += ast.iter_child_nodes(node)


def _pairs(node: ast.AST) -> Iterator[tuple[Any, int, ast.expr]]:
    """Yield the keys of a mapping, `{...}` or `dict(...)`, with their lines and values."""
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        yield from ((key.value, key.lineno, value) for key, value in pairs if isinstance(key, ast.Constant))
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        yield from ((word.arg, word.value.lineno, word.value) for word in node.keywords if word.arg)


def _keys(node: ast.AST) -> dict[Any, ast.expr]:
    return {key: value for key, _, value in _pairs(node)}


_STRUCTURE = ("kubespawner_override", "profile_options", "choices", "unlisted_choice")
"""Mappings in entries: a text that stands for one would be an error."""


def _value(node: ast.expr) -> Any:
    """Return what a literal stands for, with `OPAQUE` for what is none in it."""
    if keys := _keys(node):
        return {key: _value(value) for key, value in keys.items() if key not in _STRUCTURE or _keys(value)}
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item) for item in node.elts if not isinstance(item, ast.Starred)]
    return _literal(node)


def _literal(node: ast.expr) -> Any:
    from profile_spawner.migrate.placeholders import OPAQUE

    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, MemoryError, RecursionError):
        return OPAQUE


def _set_to(node: ast.AST, name: str) -> ast.expr | None:
    """Return what a statement sets the setting of this name to; `None` if it does not."""
    if not isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return None
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return node.value if any(isinstance(t, ast.Attribute) and t.attr == name for t in targets) else None


def _line_of(node: ast.expr, path: Path_) -> int:
    """Return the line of what stands at a path in a literal, or of what comes nearest."""
    line = node.lineno
    for step in path:
        found = [(at, value) for key, at, value in _pairs(node) if key == step]
        if isinstance(node, ast.List | ast.Tuple) and isinstance(step, int):
            found = [(item.lineno, item) for item in node.elts[step : step + 1]]
        if not found:
            break
        line, node = found[-1]
    return line


def _added_to(node: ast.AST, name: str) -> ast.expr | None:
    """Return what a statement adds to a setting: `c.Class.name[key] = …` or `c.Class.name.update(…)`; else `None`."""

    def is_setting(node: ast.expr) -> bool:
        return isinstance(node, ast.Attribute) and node.attr == name and ast.unparse(node.value).startswith("c.")

    if isinstance(node, ast.Assign):
        parts = [t for t in node.targets if isinstance(t, ast.Subscript) and is_setting(t.value)]
        added = ast.Dict(keys=[t.slice for t in parts], values=[node.value for _ in parts])
        return ast.copy_location(added, node) if parts else None
    method = node.func if isinstance(node, ast.Call) and node.args else None
    is_change = isinstance(method, ast.Attribute) and is_setting(method.value)
    return node.args[0] if isinstance(node, ast.Call) and is_change else None


def setting_line(text: str, name: str, *path: Any) -> int:
    """Return the last line of Python code that sets this setting, or of what stands at a path in it; 0 without one."""
    found = [
        (node, value)
        for node in ast.walk(_parsed(text))
        if (value := _set_to(node, name) or _added_to(node, name)) is not None
    ]
    if not found:
        return 0
    exact = [(node, value) for node, value in found if path and path[0] in _keys(value)]
    statement, value = max(exact or found, key=lambda one: one[1].lineno)
    return _line_of(value, path) if path else getattr(statement, "lineno", 0)


def literal_keys(text: str, setting: str) -> dict[Path_, int]:
    """Return the lines of the keys of the dictionaries that are assigned to a setting, by their path in it."""
    values = (_set_to(node, setting) for node in ast.walk(_parsed(text)))
    return {path: line for value in values if value is not None for path, line in _below(value, ())}


def _below(node: ast.expr, path: Path_) -> Iterator[tuple[Path_, int]]:
    for key, line, value in _pairs(node):
        yield (*path, key), line
        yield from _below(value, (*path, key))


def class_line(text: str, name: str) -> int:
    """Return the line of Python code at which a class begins; 0 if there is no such class."""
    found = (node.lineno for node in ast.walk(_parsed(text)) if isinstance(node, ast.ClassDef) and node.name == name)
    return next(found, 0)


def mentions(text: str, name: str) -> list[int]:
    """Return the lines of Python code that read or set an attribute or a key of this name."""
    nodes = [n for n in ast.walk(_parsed(text)) if isinstance(n, ast.Attribute | ast.Constant | ast.keyword)]
    return [n.lineno for n in nodes if name in (getattr(n, "attr", ""), getattr(n, "value", ""), getattr(n, "arg", ""))]


def list_as_written(text: str) -> list[Any]:
    """Return the list of profiles that Python code sets, with `OPAQUE` for an entry that is not a literal.

    It is empty when the list is not written down as a whole in one place.
    """
    statements = _parsed(text).body
    found = next((value for node in statements if (value := _set_to(node, "profile_list")) is not None), None)
    whole = isinstance(found, ast.List) and len(mentions(text, "profile_list")) == 1
    return [_literal(item) for item in found.elts] if isinstance(found, ast.List) and whole else []
