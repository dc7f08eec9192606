"""The root of the configuration."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, WithJsonSchema

from hpcxpcs.config import sections
from hpcxpcs.config.campaign import EXAMPLE, JOINT_EXAMPLE, Campaign, Joint, JointSet
from hpcxpcs.config.g2 import G2
from hpcxpcs.config.parameter_sections import InitialParameters, ParameterSpace
from hpcxpcs.config.parameters import ALIASES, MODEL_NAMES, model_named
from hpcxpcs.config.resolve import ParameterChoice, parameter_choices
from hpcxpcs.config.section import Section
from hpcxpcs.config.values import read_whole
from hpcxpcs.errors import ConfigError

SCHEMA_VERSION = 1
_NOT_PART_OF_THE_ANSWER = frozenset(
    {"campaign", "g2", "output", "runtime", "logging", "quality_control", "preprocessing"}
)
_FINGERPRINTED_AS_RESOLVED = frozenset({"parameter_space", "initial_parameters", "experimental_data"})


def _read_version(value: object) -> int:
    if read_whole(value) != SCHEMA_VERSION:
        raise ValueError(f"is not a schema version this program reads; it reads {SCHEMA_VERSION}")
    return SCHEMA_VERSION


ModelName = Annotated[
    Literal["static", "laminar_flow", "two_component", "static_ref", "static_both"],
    BeforeValidator(model_named),
    WithJsonSchema({"enum": [*MODEL_NAMES, *ALIASES]}),
]


class Config(Section):
    """A complete, validated configuration; attributes mirror the keys of the file."""

    schema_version: Annotated[Literal[1], BeforeValidator(_read_version)] = Field(
        default=1, description="version of these keys"
    )
    analysis_mode: ModelName = Field(
        description="model: static (diffusion), laminar_flow (diffusion and shear), two_component "
        "(14 parameters), static_ref and static_both (its reduced forms)",
        examples=["laminar_flow"],
    )
    experimental_data: sections.ExperimentalData = Field(description="the result file to analyse")
    analyzer_parameters: sections.AnalyzerParameters = Field(description="time, frames and geometry of the measurement")
    data_filtering: sections.DataFiltering = Field(
        default_factory=sections.DataFiltering, description="what to use of the file"
    )
    preprocessing: sections.Preprocessing = Field(
        default_factory=sections.Preprocessing,
        description="what is done to the data before they are fitted or drawn",
    )
    quality_control: sections.QualityControl = Field(
        default_factory=sections.QualityControl,
        description="how the data are judged, and what repair may mask",
    )
    conventions: sections.Conventions = Field(
        default_factory=sections.Conventions, description="which form of the formulas is meant"
    )
    scaling: sections.Scaling = Field(
        default_factory=sections.Scaling, description="how contrast and offset may vary between angles"
    )
    noise: sections.Noise = Field(default_factory=sections.Noise, description="the noise of a matrix element")
    parameter_space: ParameterSpace = Field(
        default_factory=ParameterSpace, description="where the parameters may lie, and their priors"
    )
    initial_parameters: InitialParameters = Field(
        default_factory=InitialParameters, description="start values, and which parameters vary"
    )
    optimization: sections.Optimization = Field(default_factory=sections.Optimization, description="what to compute")
    likelihood: sections.Likelihood = Field(
        default_factory=sections.Likelihood, description="the compression of the data"
    )
    runtime: sections.Runtime = Field(
        default_factory=sections.Runtime, description="use of the machine; never changes the answer"
    )
    output: sections.Output = Field(
        default_factory=sections.Output, description="what to write; never changes the answer"
    )
    logging: sections.Logging = Field(
        default_factory=sections.Logging, description="the log of a run; never changes the answer"
    )
    g2: G2 = Field(default_factory=G2, description="how g2 of multi-tau results is fitted, which `g2 fit` alone does")
    campaign: Campaign | None = Field(
        default=None,
        description="many fits in one run instead of one: every file, q, window of frames, model and value that varies "
        "(docs/campaigns.md)",
        json_schema_extra=EXAMPLE,
    )

    joint: Joint | None = Field(
        default=None,
        description="several data sets in one fit instead of one file (docs/campaigns.md)",
        json_schema_extra=JOINT_EXAMPLE,
    )

    _source: Path | None = PrivateAttr(default=None)
    _base: Path | None = PrivateAttr(default=None)
    _variants: tuple[Config, ...] = PrivateAttr(default=())
    _written: dict[str, Any] = PrivateAttr(default_factory=dict)

    def located(self, source: Path | None, base: Path | None) -> Config:
        """The same configuration, knowing its file and the folder that relative data paths start from."""
        copy = self.model_copy()
        copy._source, copy._base = source, base
        copy._variants = tuple(one.located(source, base) for one in self._variants)
        return copy

    def of_campaign(self, campaign: Campaign, variants: tuple[Config, ...], written: dict[str, Any]) -> Config:
        """This configuration as the first of a campaign's, with all of them, and with its text as plain data."""
        copy = self.model_copy(update={"campaign": campaign})
        copy._variants, copy._written = variants, written
        return copy

    def refuse_campaign(self) -> None:
        """Raise ConfigError where one file is needed and there are many."""
        if self.campaign is not None:
            raise ConfigError(
                f"{self.source or 'the configuration'}: is a campaign, whose items have a file each: 'hpcxpcs fit' "
                "does all of them, and 'hpcxpcs campaign config RUN ITEM' prints the configuration of one"
            )

    @property
    def variants(self) -> tuple[Config, ...]:
        """Of a campaign, one configuration for every model and value that varies; empty without a campaign."""
        return self._variants

    @property
    def written(self) -> dict[str, Any]:
        """Of a campaign, what `config_from_mapping` makes it of again."""
        return self._written

    @property
    def base(self) -> Path:
        """The folder that relative paths start at."""
        return self._base or Path.cwd()

    @property
    def source(self) -> Path | None:
        """The file this configuration was read from, or None."""
        return self._source

    @property
    def data_file(self) -> Path:
        """The absolute path of the data file; a relative one starts at the folder of this configuration."""
        written = self.experimental_data.file_as_written()
        return (self.base / written.expanduser()).absolute()

    def of_set(self, chosen: JointSet) -> Config:
        """The configuration that reads one of the data sets of a joint fit."""
        place = {"file_path": chosen.file, "data_folder_path": None, "data_file_name": None}
        analyzer = self.analyzer_parameters
        if chosen.q is not None:
            scattering = analyzer.scattering.model_copy(update={"wavevector_q": chosen.q})
            analyzer = analyzer.model_copy(update={"scattering": scattering})
        data = self.experimental_data.model_copy(update=place)
        update = {"experimental_data": data, "analyzer_parameters": analyzer, "joint": None}
        return self.model_copy(update=update)

    def to_mapping(self) -> dict[str, Any]:
        """All settings, defaults included, as plain JSON-able data that `config_from_mapping` reads back."""
        return self.model_dump(mode="json")

    def fingerprint(self) -> str:
        """SHA-256 (hex) of every setting that can change the answer, however it was spelled."""
        settings = self.model_dump(mode="json", exclude={*_NOT_PART_OF_THE_ANSWER, *_FINGERPRINTED_AS_RESOLVED})
        if self.joint is None:
            del settings["joint"]
        settings["parameters"] = [_as_mapping(item) for item in parameter_choices(self)]
        settings["data_file"] = self.experimental_data.file_as_written().as_posix()
        settings["format"] = self.experimental_data.format
        if self.preprocessing != sections.Preprocessing():
            settings["preprocessing"] = self.preprocessing.model_dump(mode="json")
        if self.quality_control.auto_repair != "disabled":
            settings["auto_repair"] = self.quality_control.auto_repair
        canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()


def _as_mapping(item: ParameterChoice) -> dict[str, Any]:
    """What the configuration says of a parameter; null is what the data decide."""
    return {
        "name": item.parameter.name,
        "bounds": [item.lower, item.upper],
        "prior": None if item.prior is None else item.prior.to_mapping(),
        "start": item.start,
        "fixed": item.fixed,
    }
