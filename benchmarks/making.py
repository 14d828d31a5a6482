"""Makes any number of equal profiles for both compared sides."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from profile_spawner.profiles.base import BaseAppProfile

__all__ = ["MODULE", "profile_classes", "profile_list", "write_modules"]

OPTIONS = {
    "size": {
        "display_name": "Size",
        "choices": {c: {"display_name": c, "kubespawner_override": {"cpu_limit": n}} for n, c in enumerate("abc", 1)},
    }
}

MODULE = """\
from profile_spawner import BaseAppProfile, profile_registry


@profile_registry.register
class P{n}(BaseAppProfile):
    slug = "p{n}"
    display_name = "Profile {n}"
    description = "Number {n} of many"
    image = "example/{n}:1"
    pod_env_vars = {{f"E{{i}}": "x" for i in range(10)}}
"""


def profile_list(count: int) -> list[dict[str, Any]]:
    """Return a `profile_list` with ten environment variables and one option of three choices each."""
    return [
        {
            "display_name": f"Profile {n}",
            "slug": f"p{n}",
            "description": f"Number {n} of many",
            "kubespawner_override": {"image": f"example/{n}:1", "environment": {f"E{i}": "x" for i in range(10)}},
            "profile_options": copy.deepcopy(OPTIONS),
        }
        for n in range(count)
    ]


def profile_classes(count: int) -> list[type[BaseAppProfile]]:
    """Return classes that ask for the same."""
    return [
        type(
            f"P{n}",
            (BaseAppProfile,),
            {
                "slug": f"p{n}",
                "display_name": f"Profile {n}",
                "description": f"Number {n} of many",
                "image": f"example/{n}:1",
                "pod_env_vars": {f"E{i}": "x" for i in range(10)},
                "profile_options": OPTIONS,
                "__module__": "benchmarks.generated",
            },
        )
        for n in range(count)
    ]


def write_modules(folder: Path, count: int) -> None:
    """Write modules with one profile each."""
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        (folder / f"m{n}.py").write_text(MODULE.format(n=n))
