"""Prints the results of commands: as a table for people, as JSON or YAML for programs."""

from __future__ import annotations

import contextlib
import enum
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from profile_spawner.names import json_key

if TYPE_CHECKING:
    from profile_spawner.errors import ProfileSpawnerError

    from .arguments import UserOptions

__all__ = [
    "Format",
    "OutputOption",
    "as_yaml",
    "cell",
    "make_table",
    "masked",
    "place",
    "plain",
    "print_data",
    "print_documents",
    "progress",
    "report_problems",
    "tell_per_user",
    "without_prints",
    "working",
]

_WIDE = 100_000
_MANY = 10
_AMBIGUOUS = re.compile(
    r"[yYnN]|[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?0([oO][0-7]+|[xX][0-9a-fA-F]+|[bB][01]+)"
)
"""What PyYAML writes plain, being sure that it is a text, and others read as a truth value or a number."""
_T = TypeVar("_T")


class Format(str, enum.Enum):
    """The output format."""

    table = "table"
    json = "json"
    yaml = "yaml"


OutputOption = Annotated[Format, typer.Option("--output", help="How the result is printed.")]


def plain(value: Any) -> Any:
    """Return `value` as plain JSON: mappings as dictionaries, sequences as lists, everything else as text."""
    if isinstance(value, Mapping):
        return {json_key(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        return [plain(v) for v in items]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)


def place(origin: object) -> str:
    """Return file and line; a file below the working directory or in this package is named relative to it."""
    text = str(origin)
    for folder in (Path.cwd(), Path(__file__).parents[2]):
        text = text.removeprefix(f"{folder}{os.sep}")
    return text


def masked(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a Kubernetes object with the values of a Secret as `***`."""
    result: dict[str, Any] = plain(manifest)
    if result.get("kind") == "Secret":
        for key in ("data", "stringData"):
            if result.get(key):
                result[key] = dict.fromkeys(result[key], "***")
    return result


def as_yaml(data: Any) -> str:
    """Return `data` as YAML: texts of several lines as blocks, keys in their order.

    Texts that YAML parsers interpret differently (`yes`, `12:30`, `y`, `1e3`, `0o17`) are quoted. So parsers of YAML
    1.1 and 1.2, kubectl and Helm all read them as text.
    """
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            del data
            return True

        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
            del indentless
            super().increase_indent(flow, False)

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        style = "|" if "\n" in value and not any(line.endswith(" ") for line in value.split("\n")) else None
        if _AMBIGUOUS.fullmatch(value.replace("_", "")):
            style = "'"
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    return str(yaml.dump(plain(data), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120))


def print_data(data: Any, output: Format, table: Any = None) -> None:
    """Print data; `table` is what people see, anything that rich can print."""
    if output is Format.json:
        typer.echo(json.dumps(plain(data), indent=2, ensure_ascii=False))
    elif output is Format.yaml or table is None:
        typer.echo(as_yaml(data), nl=False)
    else:
        from rich.console import Console

        console = Console()
        if console.is_terminal:
            console.print(table)
            return
        # A pipe or a file has no width limit.
        console = Console(width=_WIDE)
        with console.capture() as captured:
            console.print(table)
        typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def print_documents(documents: Iterable[Any], output: Format = Format.yaml) -> None:
    """Print Kubernetes objects: YAML documents, or one JSON list that `kubectl` takes too."""
    found = [_in_order(document) for document in documents]
    if output is Format.json:
        typer.echo(json.dumps({"apiVersion": "v1", "kind": "List", "items": plain(found)}, indent=2))
        return
    typer.echo("---\n".join(as_yaml(document) for document in found), nl=False)


def _in_order(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object with its keys as people write them: what it is, its name, and then what is in it."""
    first = {key: document[key] for key in ("apiVersion", "kind", "metadata") if key in document}
    return {**first, **{key: value for key, value in document.items() if key not in first}}


def make_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> Any:
    """Return a table whose cells are texts, never markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    return table


def report_problems(problems: Iterable[ProfileSpawnerError]) -> int:
    """Print what is wrong with the sources on standard error; return how many errors there are."""
    from profile_spawner.errors import ProfileWarning

    errors = 0
    for problem in problems:
        typer.secho(f"Warning: {problem}", fg=typer.colors.YELLOW, err=True)
        errors += not isinstance(problem, ProfileWarning)
    return errors


@contextlib.contextmanager
def without_prints() -> Iterator[None]:
    """Send what the code of others prints to standard error, until the end of the block.

    Standard output has the results of a command, which other programs may read. What subprocesses print counts too.
    """
    sys.stdout.flush()
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # there may be no standard output
            before = os.dup(1)
            stack.callback(os.close, before)
            stack.callback(os.dup2, before, 1)
            os.dup2(2, 1)
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """Show a progress message on standard error, on a terminal only."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(f"{what} …") if console.is_terminal else contextlib.nullcontext():
        yield


def progress(items: Iterable[_T], what: str) -> Iterator[_T]:
    """Yield the items; where there are many, show on a terminal how far it is, on standard error."""
    from rich.console import Console
    from rich.progress import track

    found = list(items)
    console = Console(stderr=True)
    if not console.is_terminal or len(found) < _MANY:
        yield from found
    else:
        yield from track(found, description=f"{what} …", console=console, transient=True)


def cell(value: Any) -> str:
    """Return a value for a table: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)


def tell_per_user(user: UserOptions) -> None:
    """Say on standard error that other users may have other profiles."""
    groups = f" in the groups {', '.join(user.groups)}" if user.groups else ", who is in no group"
    typer.echo(
        f"Note: profile_list is a function. This is about user {user.name!r}{groups}: --user, --groups", err=True
    )
