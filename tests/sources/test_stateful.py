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
    """Files come, change, break and go; the model knows the last good version of each. A restart changes nothing."""

    @initialize()
    def start(self) -> None:
        """Begin with an empty folder."""
        self.folder = Path(tempfile.mkdtemp())
        self.loop = asyncio.new_event_loop()
        self.service = service_of(profiles_dirs=(self.folder,), profile_documents=(self.folder,), trial=False)
        self.wanted: dict[str, tuple[str, int] | None] = {}
        self.good: dict[str, dict[str, int]] = {}
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
        assert {Path(p.origin.source).name for p in report.problems if p.origin} == self._model()
        if report.successful:
            served = {slug: e.effective["image"] for slug, e in self.service.snapshot.entries.items()}
            assert self.loop.run_until_complete(self._restarted()) == served

    def _model(self) -> set[str]:
        """Decide which file's profile counts: the first one; a file that cannot have its slug loses nothing."""
        order = [*(f"{n}.py" for n in "abc"), *(f"{n}.yaml" for n in "abc")]
        good = {name: self.good[name] for name in self.wanted if name in self.good}
        new = {name: dict([wanted]) for name, wanted in self.wanted.items() if wanted is not None}
        versions = {name: new.get(name, good.get(name, {})) for name in order}
        while True:
            self.owners: dict[str, str] = {}
            for name in order:
                for slug in versions[name]:
                    self.owners.setdefault(slug, name)
            losers = {name for name in order if any(self.owners[slug] != name for slug in versions[name])}
            completed = {name: {**good.get(name, {}), **versions[name]} for name in losers}
            if all(versions[name] == version for name, version in completed.items()):
                break
            versions.update(completed)
        self.good = {name: version for name, version in versions.items() if version}
        return losers | {name for name, wanted in self.wanted.items() if wanted is None}

    async def _restarted(self) -> dict[str, str]:
        """Return what a hub serves that starts with these files."""
        service = service_of(profiles_dirs=(self.folder,), profile_documents=(self.folder,), trial=False)
        snapshot = await service.ready()
        await service.stop()
        return {slug: entry.effective["image"] for slug, entry in snapshot.entries.items()}

    @invariant()
    def serves_what_the_model_says(self) -> None:
        """Compare."""
        if hasattr(self, "owners"):
            found = {s: e.effective["image"] for s, e in self.service.snapshot.entries.items()}
            assert found == {slug: f"i:{self.good[name][slug]}" for slug, name in self.owners.items()}


TestReloading = Reloading.TestCase
TestReloading.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
