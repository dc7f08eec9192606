"""The configuration sections about parameters: bounds, priors, start values, what varies and what is held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from hpcxpcs.config.parameters import MODEL_NAMES, find_parameter, parameter_named
from hpcxpcs.config.prior import PRIOR_KINDS, Prior, read_prior
from hpcxpcs.config.section import Section, commented
from hpcxpcs.config.values import Number


def _read_parameter_name(value: object, info: ValidationInfo) -> str:
    """The canonical name; checked against the model when the validation context names one."""
    if not isinstance(value, str):
        raise ValueError("is not a parameter name")
    model = (info.context or {}).get("model")
    return parameter_named(value, model) if model in MODEL_NAMES else value


ParameterName = Annotated[str, BeforeValidator(_read_parameter_name)]
PriorValue = Annotated[
    Prior,
    PlainValidator(read_prior),
    PlainSerializer(Prior.to_mapping),
    WithJsonSchema(
        {
            "type": "object",
            "properties": {"type": {"enum": list(PRIOR_KINDS)}},
            "required": ["type"],
            "additionalProperties": {"type": "number"},
        }
    ),
]


class BoundEntry(Section):
    """Bounds and prior of one parameter; what is left out comes from the data."""

    name: ParameterName = Field(description="parameter name")
    min: Number | None = Field(default=None, description="lower bound in the parameter's unit; null: from the data")
    max: Number | None = Field(default=None, description="upper bound in the parameter's unit; null: from the data")
    prior_mu: Number | None = Field(
        default=None,
        exclude=True,
        description="mean of a truncated normal prior; with prior_sigma, instead of prior",
    )
    prior_sigma: Number | None = Field(
        default=None,
        gt=0,
        exclude=True,
        validate_default=True,
        description="standard deviation of a truncated normal prior; with prior_mu, instead of prior",
    )
    prior: PriorValue | None = Field(
        default=None,
        validate_default=True,
        description=f"prior truncated to the bounds; null: from the data; types: {', '.join(PRIOR_KINDS)}",
    )

    @field_validator("max")
    @classmethod
    def _lies_above_min(cls, value: float | None, info: ValidationInfo) -> float | None:
        lower = info.data.get("min")
        if value is not None and lower is not None and value <= lower:
            raise ValueError(f"must be greater than min ({lower:g})")
        return value

    @field_validator("prior_sigma")
    @classmethod
    def _comes_with_mu(cls, value: float | None, info: ValidationInfo) -> float | None:
        mu = info.data.get("prior_mu")
        if value is None and mu is not None:
            raise ValueError("is missing; prior_mu and prior_sigma go together")
        if value is not None and mu is None and "prior_mu" in info.data:
            raise ValueError("lacks its prior_mu; prior_mu and prior_sigma go together")
        return value

    @field_validator("prior")
    @classmethod
    def _folds_short_form(cls, value: Prior | None, info: ValidationInfo) -> Prior | None:
        mu, sigma = info.data.get("prior_mu"), info.data.get("prior_sigma")
        if mu is None or sigma is None:
            return value
        if value is not None:
            raise ValueError("is given together with prior_mu and prior_sigma; keep one of the two")
        return Prior("truncated_normal", (("mu", mu), ("sigma", sigma)))


def _without_repetition(names: Sequence[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"names {', '.join(repeated)} more than once")


class ParameterSpace(Section):
    """Where the parameters may lie and what is believed about them beforehand."""

    bounds: tuple[BoundEntry, ...] = Field(
        default=(),
        description="bounds and priors; what is not stated comes from the data: what their frames can show at their q",
    )

    @field_validator("bounds")
    @classmethod
    def _names_each_once(cls, value: tuple[BoundEntry, ...]) -> tuple[BoundEntry, ...]:
        _without_repetition([entry.name for entry in value])
        return value


class InitialParameters(Section):
    """Start values, and which parameters vary."""

    parameter_names: tuple[ParameterName, ...] | None = Field(
        default=None,
        description="names that values refers to, in its order; left out: all of the model, in table order",
    )
    values: tuple[Number | None, ...] | None = Field(
        default=None, description="start values; null, for all or for one, finds starts from the data"
    )
    fixed_parameters: dict[ParameterName, Number] = Field(
        default_factory=dict, description="parameters held at a value, for example {phi0: 0.0}"
    )
    active_parameters: tuple[ParameterName, ...] | None = Field(
        default=None,
        description="only these vary; all others are held at their start value, or their default",
        json_schema_extra=commented(["D0", "alpha"]),
    )

    @field_validator("parameter_names", "active_parameters")
    @classmethod
    def _names_each_once(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        _without_repetition(value or ())
        return value

    @field_validator("fixed_parameters", mode="before")
    @classmethod
    def _fixes_each_once(cls, value: object, info: ValidationInfo) -> object:
        model = (info.context or {}).get("model")
        if value is None:
            return {}
        if isinstance(value, Mapping) and model in MODEL_NAMES:
            known = {str(name): find_parameter(str(name), model) for name in value}
            _without_repetition([one.name if one else name for name, one in known.items()])
        return value
