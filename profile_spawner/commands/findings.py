"""The findings of a check, and their output as lines, as JSON, or as SARIF for code review."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from .output import place

if TYPE_CHECKING:
    from profile_spawner.errors import Origin, ProfileSpawnerError

__all__ = ["Finding", "finding_of", "print_findings", "sarif"]

Level = Literal["error", "warning", "note"]

_SARIF = "https://json.schemastore.org/sarif-2.1.0.json"


@dataclass(frozen=True)
class Finding:
    """One error, warning or note.

    Attributes:
        level: `error`: it does not work. `warning`: it works, but probably not as intended, or it cannot be checked.
            `note`: it works as written, or only the cluster knows.
        rule: A short name for this kind of finding.
        message: What is wrong, what was expected, and what to do.
        profile: The slug.
        file: Where it was written; empty when that is not known.
        line: The line in it, from 1; 0 when that is not known.
        field: The attribute, or the path in a document.
    """

    level: Level
    rule: str
    message: str
    profile: str = ""
    file: str = ""
    line: int = 0
    field: str = ""

    def __str__(self) -> str:
        where = place(f"{self.file}:{self.line}" if self.line else self.file)
        who = f"profile {self.profile!r}" if self.profile else ""
        return ": ".join(p for p in (where, self.level, who, self.field, f"{self.message} [{self.rule}]") if p)

    @property
    def sort_key(self) -> tuple[str, int, str, str, str]:
        """The sort key: by place, then by subject."""
        return (self.file, self.line, self.profile, self.field, self.message)


def finding_of(error: ProfileSpawnerError, rule: str, *, origin: Origin | None = None) -> Finding:
    """Return an error or a warning as a finding. Its own line counts before `origin`, its own rule before `rule`."""
    from profile_spawner.errors import ProfileWarning, shorten

    at = error.origin if error.origin is not None and (error.origin.line or origin is None) else origin
    message = error.message
    if error.value is not None:
        message += f" (got {shorten(error.value)})"
    if error.expected:
        message += f"; expected {error.expected}"
    if error.hint:
        message += f". {error.hint}"
    warning = error if isinstance(error, ProfileWarning) else None
    return Finding(
        warning.level if warning else "error",
        (warning.rule if warning else "") or rule,
        message,
        error.profile or "",
        at.source if at else "",
        at.line if at else 0,
        error.field or "",
    )


def print_findings(findings: Sequence[Finding], output: str, checked: int, *, default: bool = False) -> None:
    """Print them.

    Args:
        findings: Errors, warnings and notes, in any order.
        output: `text`, `json` or `sarif`.
        checked: The number of checked profiles.
        default: Whether the server that users get without profiles was checked.
    """
    ordered = sorted(_joined(findings), key=lambda f: f.sort_key)
    if output == "json":
        rows = [{**asdict(f), "file": place(f.file)} for f in ordered]
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    elif output == "sarif":
        typer.echo(json.dumps(sarif(ordered), indent=2, ensure_ascii=False))
    else:
        for finding in ordered:
            typer.secho(str(finding), fg=_COLOURS[finding.level])
        numbers = {level: sum(f.level == level for f in ordered) for level in _COLOURS}
        counted = [_count(number, level) for level, number in numbers.items() if number or level != "note"]
        server = ", and the hub's default server" if default else ""
        typer.echo(f"{_count(checked, 'profile')}{server}: {', '.join(counted)}")


def _joined(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Yield one finding for the same of several profiles at one line, which have it from an anchor of YAML."""
    same: dict[Finding, list[str]] = {}
    for finding in sorted(set(findings), key=lambda f: f.sort_key):
        same.setdefault(replace(finding, profile="") if finding.line else finding, []).append(finding.profile)
    for finding, (first, *others) in same.items():
        has = "1 other profile has" if len(others) == 1 else f"{len(others)} other profiles have"
        also = f" ({has} it from the same line)" if others else ""
        yield replace(finding, profile=first, message=f"{finding.message}{also}")


_COLOURS: dict[Level, str] = {"error": typer.colors.RED, "warning": typer.colors.YELLOW, "note": typer.colors.BLUE}


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def sarif(findings: Iterable[Finding]) -> dict[str, object]:
    """Return findings in the Static Analysis Results Interchange Format 2.1.0.

    Files below the working directory are named relative to it, as code review wants them.
    """
    found = list(findings)
    results = []
    for finding in found:
        result: dict[str, object] = {
            "ruleId": finding.rule,
            "level": finding.level,
            "message": {"text": ": ".join(p for p in (finding.profile, finding.field, finding.message) if p)},
        }
        if finding.file:
            location: dict[str, object] = {"artifactLocation": {"uri": _uri(finding.file)}}
            if finding.line:
                location["region"] = {"startLine": finding.line}
            result["locations"] = [{"physicalLocation": location}]
        results.append(result)
    rules = [{"id": name} for name in sorted({f.rule for f in found})]
    driver = {"name": "profile-spawner", "rules": rules}
    return {"$schema": _SARIF, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}


def _uri(file: str) -> str:
    path = Path(file)
    if not path.is_absolute():
        return path.as_posix()
    try:
        return path.resolve().relative_to(Path.cwd().resolve()).as_posix()
    except ValueError:
        return path.as_uri()
