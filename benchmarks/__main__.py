"""`python -m benchmarks [--quick] [--only a,b] [--check] [--output docs/performance.md]`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import tests.conftest  # noqa: F401 - gives KubeSpawner a kubeconfig that leads nowhere

from .lookups import lookups
from .measuring import Table
from .pages import page
from .reloading import reloading
from .spawning import memory, spawn_cost
from .starting import command_line, hub_start
from .storms import calls, readiness, storm

ALL = {
    "a": page,
    "b": spawn_cost,
    "c": calls,
    "d": reloading,
    "e": storm,
    "f": memory,
    "g": lookups,
    "h": readiness,
    "i": command_line,
    "k": hub_start,
}

HEAD = """# Performance

Written by `make bench`; do not edit. All headlines are ratios of medians within one run, the sides taking turns, and
the sides are first shown to do the same. In parentheses stands the range that the quartiles of both sides allow. The
hub is a process of its own; requests, API server and node are in another. Absolute times are this machine's and carry
over to no other. Where a target is missed, it says so; the raw numbers are in
[performance.json](performance.json).

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
    parts = [HEAD, f"The machine: {machine()}.\n"]
    for table in tables:
        parts.append(f"\n## ({table.name}) {table.title}\n\nMeasured on {table.date}.\n\n")
        parts.append("| what | result | target | |\n| --- | --- | --- | --- |\n")
        for row in table.rows:
            mark = "" if row.met is None else "met" if row.met else "**missed**"
            note = f" ({row.note})" if row.note else ""
            parts.append(f"| {row.what}{note} | {row.value} | {row.target} | {mark} |\n")
    return "".join(parts)


def write(table: Table, output: Path) -> None:
    """Put a table into the page and into the raw numbers beside it, in place of an earlier one of the same letter."""
    numbers = output.with_suffix(".json")
    known = json.loads(numbers.read_text(encoding="utf-8"))["tables"] if numbers.exists() else []
    tables = {one["name"]: Table.of(one) for one in known} | {table.name: table}
    ordered = [tables[name] for name in sorted(tables)]
    output.write_text(markdown(ordered), encoding="utf-8")
    raw = {"machine": machine(), "tables": [asdict(one) for one in ordered]}
    numbers.write_text(json.dumps(raw, indent=1, default=str) + "\n", encoding="utf-8")


async def run(names: list[str], quick: bool, output: Path | None) -> list[Table]:
    """Run the benchmarks one after the other; print and write each as it is done."""
    tables = []
    for name in names:
        table = await ALL[name](quick)
        tables.append(table)
        if output is not None:
            write(table, output)
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
    parser.add_argument(
        "--output",
        type=Path,
        help="write a Markdown page, and the raw numbers as JSON beside it; what is not measured now stays",
    )
    parser.add_argument("--check", action="store_true", help="fail where a number is missed that is counted, not timed")
    arguments = parser.parse_args()
    names = [n for n in arguments.only.split(",") if n]
    unknown = [n for n in names if n not in ALL]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(ALL)}")
    tables = asyncio.run(run(names, arguments.quick, arguments.output))
    missed = [row.what for table in tables for row in table.rows if row.exact and row.met is False]
    if arguments.check and missed:
        sys.exit("missed: " + "; ".join(missed))


if __name__ == "__main__":
    main()
