"""The section of a configuration on how the data are judged and repaired."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, StrictBool, ValidationInfo, field_validator

from hpcxpcs.config.field_types import Section


class QualityControl(Section):
    """How the data are judged, and what repair may mask."""

    level: Literal["none", "basic", "standard", "comprehensive"] = Field(
        default="none",
        description="how closely to look: none; basic counts what is missing or impossible; standard measures signal, "
        "noise and drift too; comprehensive also what frames and angles share. Reads the data once more",
    )
    auto_repair: Literal["disabled", "conservative", "aggressive"] = Field(
        default="disabled",
        description="what may be left out of the fit, each value recorded: conservative what holds no number, "
        "aggressive also hot frames, spikes, negative and saturated values. Nothing is ever filled in",
    )
    refuse_poor: StrictBool = Field(
        default=False, description="whether data that score below 50 of 100 are refused before the fit"
    )

    @field_validator("auto_repair")
    @classmethod
    def _is_recorded(cls, value: str, info: ValidationInfo) -> str:
        if value != "disabled" and info.data.get("level") == "none":
            raise ValueError(
                "needs a level other than none, so that what it masks is recorded; set level: basic"
            )
        return value

    @field_validator("refuse_poor")
    @classmethod
    def _is_looked_at(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("level") == "none":
            raise ValueError("needs a level other than none, or nothing is judged; set level: standard")
        return value
