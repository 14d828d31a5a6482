"""`python -m benchmarks [--quick] [--only a,b] [--output docs/performance.md]`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import tests.conftest  # noqa: F401 - gives KubeSpawner a kubeconfig that leads nowhere

from .hubs import page, readiness, storm
from .lookups import lookups
from .measuring import Table
from .reloading import reloading
from .spawning import memory, spawn_cost

ALL = {"a": page, "b": spawn_cost, "d": reloading, "e": storm, "f": memory, "g": lookups, "h": readiness}

HEAD = """# Performance

Written by `make bench`; do not edit. All headlines are ratios of medians within one run, the two sides interleaved, and
both are first shown to do the same. Absolute times are this machine's and carry over to no other.

"""

CALLS = """
(c) Calls to Kubernetes: the tests of the hub compare the number of calls by verb over many warm spawns and stops with
plain KubeSpawner's and demand equality; see `tests/spawner/`.
"""


def machine() -> str:
    """Describe where the numbers come from."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    packages = ", ".join(f"{p} {version(p)}" for p in ("jupyterhub", "jupyterhub-kubespawner", "traitlets"))
    return (
        f"{os.cpu_count()} cores, {memory_bytes / 2**30:.0f} GiB, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, {packages}"
    )


def markdown(tables: list[Table]) -> str:
    """Return the results as a page."""
    parts = [HEAD, f"Measured on: {machine()}.\n"]
    for table in tables:
        parts.append(f"\n## ({table.name}) {table.title}\n\n| what | result | target | |\n| --- | --- | --- | --- |\n")
        for row in table.rows:
            mark = "" if row.met is None else "met" if row.met else "**missed**"
            note = f" ({row.note})" if row.note else ""
            parts.append(f"| {row.what}{note} | {row.value} | {row.target} | {mark} |\n")
    parts.append(CALLS)
    return "".join(parts)


async def run(names: list[str], quick: bool) -> list[Table]:
    """Run the benchmarks one after the other and print each as it is done."""
    tables = []
    for name in names:
        table = await ALL[name](quick)
        tables.append(table)
        print(f"({table.name}) {table.title}")
        for row in table.rows:
            mark = "" if row.met is None else "met" if row.met else "MISSED"
            print(f"    {row.what}: {row.value}   {row.target} {mark}", flush=True)
    return tables


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="benchmarks", description="Measure ProfileSpawner beside KubeSpawner.")
    parser.add_argument("--quick", action="store_true", help="fewer repeats and smaller numbers")
    parser.add_argument("--only", default=",".join(ALL), help=f"some of {', '.join(ALL)}")
    parser.add_argument("--output", type=Path, help="write a Markdown page, and the raw numbers as JSON beside it")
    arguments = parser.parse_args()
    names = [n for n in arguments.only.split(",") if n]
    unknown = [n for n in names if n not in ALL]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(ALL)}")
    tables = asyncio.run(run(names, arguments.quick))
    if arguments.output is not None:
        arguments.output.write_text(markdown(tables), encoding="utf-8")
        raw = {"machine": machine(), "tables": [asdict(t) for t in tables]}
        arguments.output.with_suffix(".json").write_text(json.dumps(raw, indent=1, default=str), encoding="utf-8")


if __name__ == "__main__":
    main()
