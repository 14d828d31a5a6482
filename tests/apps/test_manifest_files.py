"""The files of `load_manifests` are read with the same care as documents from anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from profile_spawner.apps.assets import load_manifests
from profile_spawner.errors import SourceError

GOOD = """
---
apiVersion: v1
kind: ConfigMap
metadata: {name: "a-{{ server_slug }}"}
data: {on: "1"}
---
---
{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "b"}}
"""
LEVELS = [f"{n}: &{n} [{', '.join(['*' + before] * 10)}]\n" for before, n in zip("abcdef", "bcdefg", strict=True)]
BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(LEVELS)
BAD = {
    "a key twice": ("kind: A\nmetadata: {}\nkind: B\n", "twice", 3),
    "a tag": ("a: !!python/object/apply:os.system [id]\n", "tags", 1),
    "aliases": (
        BOMB,
        "values", 6,
    ),
    "depth": ("a:\n  " + "[" * 60 + "]" * 60, "deep", 2),
    "not yaml": ("a: [1\nb: 2\n", "not YAML", 2),
}  # fmt: skip


def test_any_number_of_documents(tmp_path: Path) -> None:
    """Empty ones are left out, and keys stay words."""
    path = tmp_path / "objects.yaml"
    path.write_text(GOOD)
    manifest = load_manifests(path, name="objects")
    assert [document["kind"] for document in manifest.content] == ["ConfigMap", "Secret"]
    assert manifest.content[0]["data"] == {"on": "1"}


@pytest.mark.parametrize("kind", sorted(BAD))
def test_hostile_files_are_refused_with_their_line(tmp_path: Path, kind: str) -> None:
    """Size, depth, aliases, keys that stand twice and tags: found when the module is loaded."""
    text, words, line = BAD[kind]
    path = tmp_path / "objects.yaml"
    path.write_text(text)
    with pytest.raises(SourceError, match=words) as caught:
        load_manifests(path, name="objects")
    assert caught.value.origin is not None
    assert (caught.value.origin.source, caught.value.origin.line) == (str(path), line)


def test_a_large_file_is_not_even_read_to_its_end(tmp_path: Path) -> None:
    """What exceeds the limit is refused with its size."""
    path = tmp_path / "objects.yaml"
    with path.open("wb") as file:
        file.truncate(1 << 33)
    with pytest.raises(SourceError, match="too large"):
        load_manifests(path, name="objects")
