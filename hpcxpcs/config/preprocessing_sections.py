"""The section of a configuration on what is done to the data before they are fitted or drawn."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, StrictBool, field_validator

from hpcxpcs.config.field_types import Section, Whole


class Preprocessing(Section):
    """What is done to the data before they are fitted or drawn; every output says what was."""

    diagonal: Literal["basic", "statistical", "interpolation"] = Field(
        default="basic",
        description="diagonal in pictures and fitted_data (fits never use it): basic averages both neighbours, "
        "statistical takes the median within window lags, interpolation continues lags 2 and 1",
    )
    normalization: Literal["none", "baseline", "mean", "min_max", "z_score"] = Field(
        default="none",
        description="divide by the level of long lags or the mean, or shift and scale to 0 … 1 (min_max) or to "
        "mean 0 and deviation 1; contrast and offset change with it",
    )
    noise_reduction: Literal["none", "median", "gaussian"] = Field(
        default="none",
        description="filter along lines of equal lag; error bars become too small, because points then share noise",
    )
    window: Whole = Field(
        default=3, ge=3, le=101, description="frames of the filters, odd; also lags of diagonal statistical"
    )
    standard: Literal["as_stored", "float64"] = Field(
        default="as_stored", description="number type that matrices are turned into"
    )
    validate_result: StrictBool = Field(
        default=False, description="whether each matrix is checked for finite values and symmetry afterwards"
    )

    @field_validator("window")
    @classmethod
    def _has_a_middle(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"must be odd, such as {value + 1}")
        return value
