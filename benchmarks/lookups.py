"""(g) Looks up a param, compared with a dictionary."""

from __future__ import annotations

from typing import Any

from profile_spawner.params.definition import Param
from profile_spawner.params.layers import Collection, Resolver

from .measuring import Table, interleaved

__all__ = ["lookups"]


async def lookups(quick: bool) -> Table:
    """Compare one lookup among fifty params in five layers."""
    del quick
    table = Table("g", "Params: one lookup among 50 params in 5 layers")
    names = [f"area/p{i}" for i in range(50)]
    definitions = {n: Param(n, default=0) for n in names}
    collections = {
        "global": Collection("global", dict.fromkeys(names, 1)),
        "lab": Collection("lab", dict.fromkeys(names[::2], 2), ("mixin",)),
        "mixin": Collection("mixin", dict.fromkeys(names[::3], 3)),
    }
    resolver = Resolver(definitions, collections)
    layers = {"user": {names[0]: 9}, "groups": [("staff", {names[1]: 8}, [])]}
    resolved = resolver.resolve(profile="lab", **layers)
    plain = dict(resolved)
    key = names[7]
    inner = 20_000
    sides: dict[str, Any] = {"dict": lambda: plain[key], "ours": lambda: resolved[key]}
    samples = interleaved(sides, 9, inner)
    empty = interleaved({"call": lambda: None}, 9, inner)["call"].median
    cost = {name: max(s.median - empty, 1e-10) for name, s in samples.items()}
    ratio = cost["ours"] / cost["dict"]
    table.add("ours / dict", f"{ratio:.2f}x", "<= 2x", ratio <= 2, data=cost)
    explain = interleaved({"explain": lambda: resolved.explain(key)}, 9, inner)["explain"].median * 1e9
    table.add("explain(name), repeated", f"{explain:.0f} ns")
    return table
