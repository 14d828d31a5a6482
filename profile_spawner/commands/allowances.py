"""Finds the settings that a hub needs so that an imported document works: what the policy has to allow, and no more."""

from __future__ import annotations

import ast
import pprint
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profile_spawner.errors import PolicyError, ProfileSpawnerError

from .arguments import Sources, UserOptions
from .building import preview
from .choices import every_choice, user_for
from .loading import LoadedProfiles, loaded

if TYPE_CHECKING:
    from profile_spawner.policy.settings import DataPolicy

__all__ = ["Allowances", "find_allowances"]

_NAMED_IN = re.compile(r"data_policy = (\{.*\})")
_USER = UserOptions("zz-example")
"""A name that no document has, so that a text with it is one of the user's."""
_UNRESTRICTED = {"documents": {"unrestricted": True}}


@dataclass
class Allowances:
    """What the hub has to allow.

    Attributes:
        data_policy: The setting of this name; empty if nothing is needed.
        kinds: Values of `allowed_kinds`.
        rights: Values of `user_namespace_rights`.
        privileged: Whether `pod_security` must be `privileged`.
        problems: What no setting allows.
    """

    data_policy: dict[str, Any] = field(default_factory=dict)
    kinds: list[str] = field(default_factory=list)
    rights: list[str] = field(default_factory=list)
    privileged: bool = False
    problems: Sequence[ProfileSpawnerError] = ()

    def settings(self) -> Iterator[tuple[str, Any]]:
        """Yield the settings of `c.ProfileSpawner` and their values."""
        values = {
            "allowed_kinds": self.kinds,
            "user_namespace_rights": self.rights,
            "pod_security": "privileged" if self.privileged else "",
            "data_policy": self.data_policy,
        }
        yield from ((name, value) for name, value in values.items() if value)

    def lines(self) -> str:
        """Return the lines of a configuration that set them."""
        shown = ((name, pprint.pformat(value, width=88, sort_dicts=False)) for name, value in self.settings())
        return "".join(f"c.ProfileSpawner.{name} = {value}\n" for name, value in shown)


def find_allowances(document: Path, base: str) -> Allowances:
    """Build every profile of a document for every choice, and return what the hub has to allow.

    Args:
        document: The file.
        base: The other lines of the hub's configuration.
    """
    from profile_spawner.policy.settings import DEFAULT_KINDS, OPT_IN_KINDS, ROLE_RIGHTS

    config = document.with_name("allowances_config.py")
    everything = Allowances(_UNRESTRICTED, sorted(OPT_IN_KINDS), sorted(ROLE_RIGHTS), privileged=True)
    kinds, rights, problems = _needed(document, config, base, everything)
    found = Allowances(_UNRESTRICTED, sorted(kinds - DEFAULT_KINDS), sorted(rights), problems=problems)
    known = {str(problem) for problem in problems}
    found.privileged = any(str(p) not in known for p in _needed(document, config, base, found)[2])
    found.data_policy = _policy(document, config, base, found, known)
    return found


def _policy(document: Path, config: Path, base: str, found: Allowances, known: set[str]) -> dict[str, Any]:
    """Return the smallest `data_policy`: names that the refusals give, or everything when names are not enough."""
    from profile_spawner.policy.settings import DataPolicy

    named: dict[str, Any] = {}
    for _ in range(10):  # what is allowed makes other refusals visible
        allowed = Allowances({"documents": named}, found.kinds, found.rights, found.privileged)
        refused = [p for p in _needed(document, config, base, allowed)[2] if str(p) not in known]
        if not refused:
            return {"documents": named} if named else {}
        before = str(named)
        for problem in refused:
            if not isinstance(problem, PolicyError) or not _name(problem, named, DataPolicy()):
                return _UNRESTRICTED
        if str(named) == before:
            break
    return _UNRESTRICTED


def _name(problem: PolicyError, named: dict[str, Any], usual: DataPolicy) -> bool:
    """Add what the hint of a refusal names; return whether it names anything that is the same for all users."""
    match = _NAMED_IN.search(problem.hint or "")
    if match is None or _USER.name in match[1]:
        return False
    for key, values in ast.literal_eval(match[1]).items():
        if not isinstance(values, list):
            named[key] = values
            continue
        given = named.setdefault(key, sorted(getattr(usual, key)) if ... in values else [])
        given += [v for v in values if v is not ... and v not in given]
    return True


def _needed(
    document: Path, config: Path, base: str, allowed: Allowances
) -> tuple[set[str], set[str], list[ProfileSpawnerError]]:
    """Return the kinds of all objects, the special rights of the Roles among them, and what is refused."""
    config.write_text(base + allowed.lines(), encoding="utf-8")
    kinds: set[str] = set()
    rights: set[str] = set()
    problems: dict[str, ProfileSpawnerError] = {}
    with loaded(Sources(config=(config,), documents=(document,))) as found:
        problems.update((str(problem), problem) for problem in found.snapshot.errors)
        for made in _previews(found, problems):
            for item in made.objects:
                kinds.add(item.kind)
                rights |= set(_special(item.body.get("rules") or ()) if item.kind == "Role" else ())
    return kinds, rights, list(problems.values())


def _previews(found: LoadedProfiles, problems: dict[str, ProfileSpawnerError]) -> Iterator[Any]:
    for entry in found.snapshot.entries.values():
        for options in every_choice(entry) if not entry.offer.unavailable else ():
            try:
                yield preview(found, entry.slug, user_for(entry, _USER, options))
            except ProfileSpawnerError as e:
                e.origin = e.origin or entry.origin
                problems.setdefault(str(e), e)


def _special(rules: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    from profile_spawner.policy.settings import ROLE_RIGHTS

    for rule in rules:
        yield from ROLE_RIGHTS.intersection([*rule.get("verbs", ()), *rule.get("resources", ())])
