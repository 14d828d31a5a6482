"""Whatever is done to the files, in whatever order: what is served is what a simple model says."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.sources.conftest import module, service_of

NAMES = st.sampled_from(["a", "b", "c"])
SLUGS = st.sampled_from(["one", "two", "three"])
VERSIONS = st.integers(1, 3)


class Reloading(RuleBasedStateMachine):
    """Files come, change, break and go; the model knows the last good version of each."""

    @initialize()
    def start(self) -> None:
        """Begin with an empty folder."""
        self.folder = Path(tempfile.mkdtemp())
        self.loop = asyncio.new_event_loop()
        self.service = service_of(profiles_dirs=(self.folder,), profile_documents=(self.folder,), trial=False)
        self.wanted: dict[str, tuple[str, int] | None] = {}
        self.good: dict[str, tuple[str, int]] = {}
        self.owners: dict[str, str] = {}
        self.reload()

    def teardown(self) -> None:
        """Clean up."""
        if hasattr(self, "loop"):
            self.loop.run_until_complete(self.service.stop())
            self.loop.close()
            shutil.rmtree(self.folder)

    @rule(name=NAMES, slug=SLUGS, version=VERSIONS)
    def write_module(self, name: str, slug: str, version: int) -> None:
        """Write a good module."""
        (self.folder / f"{name}.py").write_text(module(slug, f"i:{version}"))
        self.wanted[f"{name}.py"] = (slug, version)

    @rule(name=NAMES, slug=SLUGS, version=VERSIONS)
    def write_document(self, name: str, slug: str, version: int) -> None:
        """Write a good document."""
        text = f"[{{slug: {slug}, display_name: X, image: 'i:{version}'}}]"
        (self.folder / f"{name}.yaml").write_text(text)
        self.wanted[f"{name}.yaml"] = (slug, version)

    @rule(name=NAMES, suffix=st.sampled_from([".py", ".yaml"]))
    def break_it(self, name: str, suffix: str) -> None:
        """Write something broken."""
        (self.folder / f"{name}{suffix}").write_text("{ (")
        self.wanted[f"{name}{suffix}"] = None

    @rule(name=NAMES, suffix=st.sampled_from([".py", ".yaml"]))
    def remove(self, name: str, suffix: str) -> None:
        """Remove a file."""
        (self.folder / f"{name}{suffix}").unlink(missing_ok=True)
        self.wanted.pop(f"{name}{suffix}", None)

    @rule()
    def reload(self) -> None:
        """Reload, and let the model do the same."""
        report = self.loop.run_until_complete(self.service.reload())
        expected_problems = self._model()
        assert {Path(p.origin.source).name for p in report.problems if p.origin} == expected_problems

    def _model(self) -> set[str]:
        """Decide which file's profile counts: who had a slug keeps it; a file that cannot have it stays as it was."""
        order = [*(f"{n}.py" for n in "abc"), *(f"{n}.yaml" for n in "abc")]
        for name in list(self.good):
            if name not in self.wanted:
                del self.good[name]
        problems = {name for name, wanted in self.wanted.items() if wanted is None}
        versions = {n: self.wanted.get(n) or self.good.get(n) for n in order}
        refused: set[str] = set()
        while True:
            owners: dict[str, str] = {}
            losers = set()
            for name in order:
                version = versions[name]
                if version is None:
                    continue
                slug = version[0]
                other = owners.setdefault(slug, name)
                if other != name:
                    first, second = (name, other) if self.owners.get(slug) == name else (other, name)
                    owners[slug] = first
                    losers.add(second)
            again = {n for n in losers if n not in refused and n in self.good and versions[n] is not self.good[n]}
            if not again:
                break
            for name in again:
                refused.add(name)
                versions[name] = self.good[name]
        problems |= losers | refused
        self.owners = owners
        self.good = {n: v for n, v in versions.items() if v is not None}
        self.served = {slug: versions[name] for slug, name in owners.items()}
        return problems

    @invariant()
    def serves_what_the_model_says(self) -> None:
        """Compare."""
        if hasattr(self, "served"):
            found = {s: e.effective["image"] for s, e in self.service.snapshot.entries.items()}
            assert found == {slug: f"i:{v[1]}" for slug, v in self.served.items() if v is not None}


TestReloading = Reloading.TestCase
TestReloading.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
