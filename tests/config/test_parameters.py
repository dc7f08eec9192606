"""The parameter table is complete and consistent."""

from __future__ import annotations

import pytest

from hpcxpcs.config import MODEL_NAMES, Parameter, parameters_of, scaling_parameters
from hpcxpcs.config.parameters import ALIASES, PARAMETER_ALIASES, model_named, parameter_named
from hpcxpcs.config.scale import needs_data

EVERY_PARAMETER = [p for model in MODEL_NAMES for p in parameters_of(model)] + list(scaling_parameters())


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("static", "D0 alpha D_offset"),
        ("laminar_flow", "D0 alpha D_offset gamma_dot_t0 beta gamma_dot_t_offset phi0"),
        ("static_ref", "D0_ref alpha_ref D_offset_ref"),
        ("static_both", "D0_ref alpha_ref D_offset_ref D0_sample alpha_sample D_offset_sample"),
        (
            "two_component",
            "D0_ref alpha_ref D_offset_ref D0_sample alpha_sample D_offset_sample v0 beta v_offset f0 f1 f2 f3 phi0",
        ),
    ],
)
def test_given_a_model_then_its_parameters_in_canonical_order(model: str, names: str) -> None:
    assert [parameter.name for parameter in parameters_of(model)] == names.split()


def test_scaling_parameters_are_contrast_and_offset() -> None:
    assert [parameter.name for parameter in scaling_parameters()] == ["contrast", "offset"]


@pytest.mark.parametrize("parameter", EVERY_PARAMETER, ids=lambda p: f"{p.group}-{p.name}")
def test_every_parameter_is_described_and_no_table_knows_a_laboratory(parameter: Parameter) -> None:
    assert parameter.symbol
    assert parameter.description
    assert bool(parameter.rate) == (parameter.kind in ("amplitude", "exponent", "offset"))
    if needs_data(parameter):
        assert parameter.default in (0.0, None)


@pytest.mark.parametrize("alias", ALIASES)
def test_given_an_alias_of_a_model_then_its_name(alias: str) -> None:
    assert model_named(alias.upper().replace("_", "-")) == ALIASES[alias]


@pytest.mark.parametrize("alias", PARAMETER_ALIASES)
def test_given_an_alias_of_a_parameter_then_some_model_has_it(alias: str) -> None:
    owners = [m for m in MODEL_NAMES if PARAMETER_ALIASES[alias] in {p.name for p in parameters_of(m)}]
    assert owners
    assert parameter_named(alias, owners[0]) == PARAMETER_ALIASES[alias]
