"""`--set key=value` changes one key as if it stood in the file."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hpcxpcs.config import Config
from hpcxpcs.errors import ConfigError

Load = Callable[..., Config]


def test_given_overrides_when_loaded_then_they_win_and_the_last_wins_most(load: Load) -> None:
    config = load("scaling: {mode: averaged}\n", "scaling.mode=individual", "scaling.mode = fourier")
    assert config.scaling.mode == "fourier"


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("likelihood.tolerance=1e-3", lambda c: c.likelihood.tolerance == 1e-3),
        ("output.plots=false", lambda c: c.output.plots is False),
        ("output.directory=a=b", lambda c: c.output.directory == "a=b"),
        ("runtime.compilation_cache_dir=null", lambda c: c.runtime.compilation_cache_dir is None),
        ("runtime.compilation_cache_dir=", lambda c: c.runtime.compilation_cache_dir is None),
        ("data_filtering.dead_frames=[3, 1]", lambda c: c.data_filtering.dead_frames == (1, 3)),
        ("data_filtering.phi_range={min: 1, max: 2}", lambda c: c.data_filtering.phi_ranges[0].max == 2.0),
        (
            "initial_parameters.fixed_parameters.phi0=0",
            lambda c: c.initial_parameters.fixed_parameters == {"phi0": 0},
        ),
        ("parameter_space.bounds.0.min=150", lambda c: c.parameter_space.bounds[0].min == 150.0),
    ],
)
def test_given_an_override_when_loaded_then_its_value_is_read_as_yaml(
    load: Load, override: str, read: Callable[[Config], bool]
) -> None:
    assert read(load("parameter_space: {bounds: [{name: D0, min: 120}]}\noutput:\n", override))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("scaling.mode", "must be KEY=VALUE"),
        ("=3", "must be KEY=VALUE"),
        ("scaling.mode=[1", "the value is malformed"),
        ("scaling={mode: a, mode: b}", "mode: is given in lines 1 and 1"),
        ("analysis_mode.x=1", "analysis_mode is a value, it has no keys"),
        ("parameter_space.bounds.7.min=1", "'7' is not an index into a list of 1"),
        ("parameter_space.bounds.D0.min=1", "'D0' is not an index into a list of 1"),
        ("scalling.mode=auto", "did you mean 'scaling'?"),
        ("scaling.mode=atuo", "did you mean 'auto'?"),
        ("parameter_space.bounds.0.max=1", "must be greater than min"),
    ],
)
def test_given_a_wrong_override_when_loaded_then_the_error_names_it(load: Load, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load("parameter_space: {bounds: [{name: D0, min: 120}]}\n", override)
    assert f"--set {override}: " in str(caught.value)
    assert message in str(caught.value)
