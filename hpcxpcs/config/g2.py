"""The section `g2`: how g2(τ) of multi-tau results is fitted."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator

from hpcxpcs.config.section import Section
from hpcxpcs.config.values import Number, Whole, read_number


def _read_baseline(value: object) -> Any:
    if value in ("free", "power_law"):
        return value
    level = read_number(value)
    if not level > 0.0:
        raise ValueError("must be free, power_law or a number greater than 0")
    return level


def _read_delays(value: object) -> Any:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError("must be [shortest, longest] in s")
    low, high = (read_number(one) for one in value)
    if not 0.0 <= low < high:
        raise ValueError("must be two numbers of seconds, the longer one last")
    return low, high


class G2(Section):
    """How g2(τ) of every bin of a file is fitted (`hpcxpcs g2 fit`)."""

    model: Literal["auto", "single", "stretched", "double", "double_intensity"] = Field(
        default="stretched",
        description="decay: single; stretched (compressed above 1); double, whose fields add; double_intensity, whose "
        "intensities do; auto takes of the first three the one of largest evidence, the same for all bins of a file",
    )
    method: Literal["nuts", "nlsq"] = Field(
        default="nuts", description="nuts: least squares, then a posterior of every bin; nlsq: least squares alone"
    )
    baseline: Annotated[
        float | Literal["free", "power_law"],
        BeforeValidator(_read_baseline),
        WithJsonSchema({"anyOf": [{"enum": ["free", "power_law"]}, {"type": "number", "exclusiveMinimum": 0}]}),
    ] = Field(
        default="free",
        description="level of long delays: free in every bin, power_law (it changes as a power of the delay), or a "
        "number that it is held at",
    )
    contrast: Literal["free", "shared"] = Field(
        default="free", description="free in every bin, or one for all bins of a file (a global fit)"
    )
    errors: Literal["scaled", "stated"] = Field(
        default="scaled",
        description="scaled: intervals of a bin whose χ² is improbable are widened to the scatter; stated: never",
    )
    error_floor: Number = Field(
        default=0.0,
        ge=0.0,
        description="added in quadrature to every error of g2; errors from pixels alone miss slow drifts",
    )
    delays: Annotated[
        tuple[float, float] | None,
        BeforeValidator(_read_delays),
        WithJsonSchema({"type": ["array", "null"], "items": {"type": "number"}}),
    ] = Field(default=None, description="shortest and longest delay in s that are used; null: all")
    draws: Whole = Field(default=750, ge=100, le=100000, description="draws that each of the four chains keeps")
    seed: Whole = Field(default=0, ge=0, description="seed of the draws")

    @field_validator("error_floor")
    @classmethod
    def _is_small(cls, value: float) -> float:
        if value > 1.0:
            raise ValueError("must be at most 1: g2 itself is about that")
        return value
