"""The small measurement that bad and doubtful input starts from."""

import shutil

import pytest

from tests.batch.pbs_fixture import fake_pbs_queue
from tests.cli.fitting import QUICK, parameters, simulated
from tests.made_once import made_once

__all__ = ["fake_pbs_queue"]


@pytest.fixture(scope="session")
def config(tmp_path_factory):
    """A static suspension at three angles, 40 frames each."""
    return made_once(tmp_path_factory, "static", simulated) / "flow.yaml"


@pytest.fixture(scope="session")
def reference(config, tmp_path_factory, private_cache):
    """The parameters of a fit of that file as it is."""
    import hpcxpcs

    def make(run):
        assert hpcxpcs.fit(config, run=run, overrides=QUICK).exit_code == 0

    return parameters(made_once(tmp_path_factory, "reference", make))


@pytest.fixture
def copy(config, tmp_path):
    """A copy of file and configuration that a test may damage."""
    for path in (config, config.with_suffix(".hdf")):
        shutil.copy(path, tmp_path / path.name)
    return tmp_path / config.name
