"""From a file or a mapping to a validated Config, or to one error that lists everything that is wrong."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hpcxpcs.config.dialects import from_old, warning
from hpcxpcs.config.document import Document, as_plain, read_document
from hpcxpcs.config.explain import explained
from hpcxpcs.config.overrides import apply_override
from hpcxpcs.config.parameter_sections import InitialParameters, ParameterSpace
from hpcxpcs.config.parameters import model_named
from hpcxpcs.config.problems import Problem, config_error
from hpcxpcs.config.resolve import parameter_problems
from hpcxpcs.config.schema import Config
from hpcxpcs.errors import OldConfigurationWarning


@dataclass(frozen=True)
class _ParameterParts:
    """The parts of a configuration that decide about parameters, when other parts are in error."""

    analysis_mode: str
    parameter_space: ParameterSpace
    initial_parameters: InitialParameters


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration in a YAML or JSON file, with `key.sub=value` overrides; errors list all problems.

    A file of the homodyne or heterodyne program is translated, with an OldConfigurationWarning; overrides use our keys.
    """
    folder = path.absolute().parent
    document = _ours(read_document(path), folder)
    for override in overrides:
        apply_override(document, override)
    return validated(document).located(path.absolute(), folder)


def config_from_mapping(
    mapping: Mapping[str, Any], base: Path | None = None, overrides: Sequence[str] = ()
) -> Config:
    """The configuration in a mapping; relative data paths start at base (None = the working directory)."""
    document = _ours(Document(data=as_plain(mapping), name=""), base)
    for override in overrides:
        apply_override(document, override)
    return validated(document).located(None, base)


def _ours(document: Document, base: Path | None) -> Document:
    """The document itself, or the translation of an older program's, which is told in one warning."""
    translation = from_old(document, base)
    if translation is None:
        return document
    warnings.warn(warning(translation, document), OldConfigurationWarning, stacklevel=3)
    return translation.document


def validated(document: Document) -> Config:
    """The Config of a document; ConfigError with every problem when there is one."""
    model = _model_or_none(document.data)
    context = {"model": model}
    problems: list[Problem] = []
    config: Config | None = None
    try:
        config = Config.model_validate(document.data, context=context)
    except ValidationError as error:
        problems = [explained(detail, document.data) for detail in error.errors(include_url=False)]
    parts = config or _parameter_parts(document.data, model)
    if parts is not None:
        problems += parameter_problems(parts)
    if config is not None:
        problems += _unit_problems(config)
    if problems or config is None:
        name = document.name or "the configuration"
        problems = [replace(one, path=document.as_in_the_file(one.path)) for one in problems]
        raise config_error(_sorted(problems, document), document.place, name)
    return config


def _unit_problems(config: Config) -> list[Problem]:
    """A shear rate without q and gap: the data show q·L·rate/2 alone, which is no shear rate."""
    if config.analysis_mode != "laminar_flow" or config.analyzer_parameters.scattering.wavevector_q != "unknown":
        return []
    text = (
        "is unknown, and a shear rate is seen through q times the gap: give q, or fit a model without shear; or give 1 "
        "here if the file says so, and stator_rotor_gap 2000 (Å): rates are then thousandths of the phase rate"
    )
    return [Problem(("analyzer_parameters", "scattering", "wavevector_q"), text)]


def _sorted(problems: Sequence[Problem], document: Document) -> list[Problem]:
    """Problems in the order of the file's lines."""

    def line(problem: Problem) -> int:
        for length in range(len(problem.path), -1, -1):
            if problem.path[:length] in document.lines:
                return document.lines[problem.path[:length]]
        return 0

    return sorted(problems, key=line)


def _model_or_none(data: Mapping[str, Any]) -> str | None:
    try:
        return model_named(data.get("analysis_mode"))
    except ValueError:
        return None


def _parameter_parts(data: Mapping[str, Any], model: str | None) -> _ParameterParts | None:
    """The parameter sections of a document that is wrong elsewhere; None when they are wrong themselves."""
    if model is None:
        return None
    context = {"model": model}
    try:
        return _ParameterParts(
            model,
            ParameterSpace.model_validate(data.get("parameter_space") or {}, context=context),
            InitialParameters.model_validate(data.get("initial_parameters") or {}, context=context),
        )
    except ValidationError:
        return None
