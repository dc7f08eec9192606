"""One small problem and its posterior in one piece, which other ways to compute it are compared with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.acceptance.jobs import Jobs, copied, digest, prepared_digest
from tests.made_once import made_once
from tests.small_problem import small_problem

SHARDS = 6


@dataclass(frozen=True)
class Reference:
    """A problem, its complete run by one process in one go, and the same run with only the likelihood prepared."""

    config: Path
    run: Path
    prepared: Path
    digest: str
    prepared_digest: str

    def variant(self, place: Path, **sections: dict) -> Path:
        """The configuration with some sections or keys of them changed."""
        settings = yaml.safe_load(self.config.read_text())
        for name, section in sections.items():
            settings[name] = {**settings.get(name, {}), **section}
        place.write_text(yaml.safe_dump(settings))
        return place


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory, private_cache: None) -> Reference:
    rest = ("complete.json", "events.jsonl", "results", "shards", "checks", "data/check*.h5")

    def make(folder: Path) -> None:
        config = small_problem(folder, SHARDS, seed=1, ranks_per_machine=7, checkpoint_every=50)
        with Jobs(folder, config) as jobs:
            jobs.fit(folder / "run")
        copied(folder / "run", folder / "prepared", without=rest)

    folder = made_once(tmp_path_factory, "posterior", make)
    run = folder / "run"
    return Reference(folder / "flow.yaml", run, folder / "prepared", digest(run), prepared_digest(run))


@pytest.fixture(scope="session")
def rejected(tmp_path_factory: pytest.TempPathFactory, reference: Reference) -> tuple[Path, tuple[str, ...]]:
    """A run with another seed and shards that cannot please, and the settings that make it so."""
    sampling = "optimization.cmc.per_shard_mcmc.seed=43"
    settings = (sampling, "optimization.cmc.validation.min_ess=4000")
    options = [part for setting in settings for part in ("--set", setting)]

    def make(folder: Path) -> None:
        with Jobs(folder, reference.config) as jobs:
            jobs.fit(folder / "run", *options, expect=3)

    return made_once(tmp_path_factory, "rejected", make) / "run", settings


@pytest.fixture
def jobs(tmp_path: Path, reference: Reference) -> Iterator[Jobs]:
    with Jobs(tmp_path, reference.config) as found:
        yield found
