"""Finds the lines of a plain `profile_list` and of settings in configuration files and in a chart's values.

A hub has only the values. Administrators who correct them need the file and line.
"""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profile_spawner.errors import Origin

if TYPE_CHECKING:
    from profile_spawner.migrate.chart import Code
    from profile_spawner.profiles.entry import Entry

__all__ = ["Places", "Where", "class_line", "literal_entries", "literal_keys", "setting_line", "setting_origin"]

Path_ = tuple[Any, ...]
Where = Callable[[Path_], Origin]


class Places:
    """The files and lines of the plain entries of a hub.

    Args:
        code: The Python code of the configuration, in which the entries are looked for as literals.
        listed: Entries that were read from YAML, with their file.
    """

    def __init__(self, code: Iterable[Code] = (), listed: Iterable[tuple[Any, str]] = ()) -> None:
        self._found: dict[str, Where] = {}
        for definition, file in listed:
            self._add(definition, _in_yaml(definition, file))
        for one in code:
            for node in _dicts(one.text):
                self._add(_constants(node), _in_python(node, one.file, one.before))

    def _add(self, definition: Mapping[str, Any], where: Where) -> None:
        for key in _names(definition):
            self._found.setdefault(key, where)

    def of(self, entry: Entry) -> Where:
        """Return a function from a path in the entry to file and line."""
        written, origin = entry.profile.list_entry(), entry.origin
        if not written:
            return entry.profile.where
        if hasattr(written, "lines") and origin.line:
            return _in_yaml(written, origin.source)
        return self.of_definition({**written, "slug": entry.slug}, origin)

    def of_definition(self, definition: Mapping[str, Any], otherwise: Origin) -> Where:
        """Return the same for a dictionary; `otherwise` is the answer for what is not found."""
        if otherwise.line:
            return lambda path: otherwise
        found = (self._found[key] for key in _names(definition) if key in self._found)
        return next(found, lambda path: otherwise)

    def of_slug(self, slug: str) -> Origin | None:
        """Return where the plain entry with this slug begins."""
        where = self._found.get(f"slug {slug}")
        return where(()) if where is not None else None


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


def _in_yaml(definition: Any, file: str) -> Where:
    from profile_spawner.profiles.yaml_text import line_at

    return lambda path: Origin(file, line_at(definition, path) or getattr(definition, "line", 0))


# ------------------------------------------------------------------------------------------------ Python files


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _parsed(text: str) -> ast.AST | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError):
        return None  # reading it as configuration reports this, or it is YAML


def _dicts(text: str) -> Iterator[ast.Dict]:
    """Yield the literals that look like entries of a list of profiles."""
    tree = _parsed(text)
    if tree is None:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict) and "display_name" in _constants(node) and "choices" not in _keys(node):
            yield node


def _keys(node: ast.Dict) -> set[str]:
    return {k.value for k in node.keys if isinstance(k, ast.Constant) and isinstance(k.value, str)}


def _constants(node: ast.Dict) -> dict[str, Any]:
    pairs = zip(node.keys, node.values, strict=True)
    return {
        k.value: v.value
        for k, v in pairs
        if isinstance(k, ast.Constant) and isinstance(k.value, str) and isinstance(v, ast.Constant)
    }


def _in_python(node: ast.Dict, file: str, before: int) -> Where:
    def where(path: Path_) -> Origin:
        line, inner = node.lineno, node
        for step in path:
            found = _step(inner, step)
            if found is None:
                break
            line, inner = found  # type: ignore[assignment]
        return Origin(file, before + line)

    return where


def _step(node: ast.AST, step: Any) -> tuple[int, ast.AST] | None:
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == step:
                return key.lineno, value
    elif isinstance(node, ast.List | ast.Tuple) and isinstance(step, int) and step < len(node.elts):
        return node.elts[step].lineno, node.elts[step]
    return None


def literal_keys(path: Path, setting: str) -> dict[tuple[str, ...], Origin]:
    """Return where the keys of the dictionaries that are assigned to a setting stand, by their path in it."""
    tree = _parsed(_read(path))
    result: dict[tuple[str, ...], Origin] = {}
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Assign) and any(ast.unparse(t).split(".")[-1] == setting for t in node.targets):
            result.update(_below(node.value, (), str(path)))
    return result


def _below(node: ast.AST, path: tuple[str, ...], file: str) -> Iterator[tuple[tuple[str, ...], Origin]]:
    if not isinstance(node, ast.Dict):
        return
    for key, value in zip(node.keys, node.values, strict=True):
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield (*path, key.value), Origin(file, key.lineno)
            yield from _below(value, (*path, key.value), file)


def literal_entries(text: str) -> list[Mapping[str, Any]]:
    """Return the entries of profile lists that stand as literals in Python code."""
    found = []
    for node in _dicts(text):
        with contextlib.suppress(ValueError, TypeError, MemoryError, RecursionError):
            found.append(ast.literal_eval(node))
    return found


def class_line(text: str, name: str) -> int:
    """Return the line of Python code at which a class begins; 0 if there is no such class."""
    tree = _parsed(text)
    nodes = ast.walk(tree) if tree is not None else ()
    return next((node.lineno for node in nodes if isinstance(node, ast.ClassDef) and node.name == name), 0)


def setting_line(text: str, name: str, key: str | None = None) -> int:
    """Return the last line of a text that sets this setting, in Python or YAML; 0 without one.

    In Python it is set by `c.Class.name = …`, `c.Class.name["key"] = …` or a method such as `c.Class.name.update(…)`.

    Args:
        text: The text.
        name: The setting.
        key: A key in it. Lines that set only other keys do not count.
    """
    own, named = re.escape(name), rf".*\b{re.escape(key)}\b" if key is not None else ""
    parts = rf"\bc\.\w+\.{own}(?:\[|\.\w+\(){named}"
    pattern = re.compile(rf"^[^#]*(?:\.{own}\b\s*=(?!=)|{parts}|^\s*{own}\s*:)")
    return max((n for n, line in enumerate(text.splitlines(), 1) if pattern.search(line)), default=0)


def setting_origin(files: Iterable[Path], name: str) -> Origin | None:
    """Return the last line of the files that sets this setting."""
    found = None
    for path in files:
        line = setting_line(_read(path), name)
        found = Origin(str(path), line) if line else found
    return found
