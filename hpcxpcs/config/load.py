"""From a file or a mapping to a validated Config, or to one error that lists everything that is wrong."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpcxpcs.config.campaign import Campaign, variant_settings, with_choices, with_first_set
from hpcxpcs.config.dialects.recognise import dialect_of
from hpcxpcs.config.document import Document, as_plain, parse_value, read_document
from hpcxpcs.config.parameter_sections import InitialParameters, ParameterSpace
from hpcxpcs.config.parameters import model_named, own_problem
from hpcxpcs.config.problems import KeyPath, Problem, config_error, dotted
from hpcxpcs.config.resolve import held_parameters, parameter_problems
from hpcxpcs.config.schema import Config
from hpcxpcs.config.section import read_section
from hpcxpcs.errors import ConfigError, OldConfigurationWarning


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration in a YAML or JSON file, with `key.sub=value` overrides; errors list all problems.

    A file of the homodyne or heterodyne program is translated, with an OldConfigurationWarning; overrides use our keys.
    """
    folder = path.absolute().parent
    document = _ours(read_document(path), folder)
    for override in overrides:
        apply_override(document, override)
    return validated(document).located(path.absolute(), folder)


def config_from_mapping(mapping: Mapping[str, Any], base: Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """The configuration in a mapping; relative data paths start at base (None = the working directory)."""
    document = _ours(Document(data=as_plain(mapping), name=""), base)
    for override in overrides:
        apply_override(document, override)
    return validated(document).located(None, base)


def _ours(document: Document, base: Path | None) -> Document:
    """The document itself, or the translation of an older program's, which is told in one warning."""
    dialect = dialect_of(document.data)
    if dialect is None:
        return document
    from hpcxpcs.config.dialects.translate import from_old, warning

    translation = from_old(document, base, dialect)
    warnings.warn(warning(translation, document), OldConfigurationWarning, stacklevel=3)
    return translation.document


def validated(document: Document) -> Config:
    """The Config of a document; ConfigError with every problem when there is one."""
    if isinstance(document.data, Mapping) and document.data.get("campaign") is not None:
        config, problems = _campaign(document.data)
    else:
        config, problems = _checked(document.data)
    if problems or config is None:
        name = document.name or "the configuration"
        problems = [replace(one, path=document.as_in_the_file(one.path)) for one in problems]
        raise config_error(_sorted(problems, document), document.place, name)
    return config


def _checked(data: Mapping[str, Any]) -> tuple[Config | None, list[Problem]]:
    """The Config of plain data, None if it is too wrong to make one, and all that is wrong."""
    model = _model_or_none(data)
    config, problems = read_section(Config, with_first_set(data), model)
    parts = config or _parameter_parts(data, model)
    if parts is not None:
        problems += parameter_problems(parts)
    if config is not None:
        problems += _unit_problems(config)
        problems += [] if config.joint is None else _joint_problems(config, config.joint.free, ("joint", "free"))
    return config, problems


def varied(config: Config, combinations: Sequence[tuple[str, Sequence[tuple[str, Any]]]]) -> tuple[Config, ...]:
    """A campaign's configuration with each of these models and, for dotted keys, these values."""
    document = Document(data=dict(config.written), name=str(config.source or ""))
    models = tuple(dict.fromkeys(model for model, _ in combinations))
    found = []
    for model, chosen in combinations:
        settings = with_choices(document.data, model, models, [(tuple(key.split(".")), value) for key, value in chosen])
        one, problems = _checked(settings)
        if problems or one is None:
            raise config_error(problems, document.place, document.name or "the configuration")
        found.append(one)
    return tuple(found)


def _campaign(data: Mapping[str, Any]) -> tuple[Config | None, list[Problem]]:
    """The Config of a campaign, which is that of its first item but for what items decide, and all that is wrong."""
    campaign, found = read_section(Campaign, data["campaign"])
    problems = [replace(one, path=("campaign", *one.path)) for one in found]
    configs = []
    for settings, chosen in variant_settings(data):
        config, found = _checked(settings)
        configs.append(config)
        for one in found:
            varied = next((path for path, _ in chosen if one.path[: len(path)] == path), None)
            moved = one if varied is None else replace(one, path=("campaign", "vary", dotted(varied)))
            if all((moved.path, moved.predicate) != (other.path, other.predicate) for other in problems):
                problems.append(moved)
    made = tuple(config for config in configs if config is not None)
    if campaign is None or len(made) < len(configs):
        return None, problems
    if campaign.pool_free and not campaign.pool:
        problems.append(Problem(("campaign", "pool_free"), "frees parameters per set, and campaign.pool pools nothing"))
    for name in ("q", "windows", "models", "pool") if campaign.analysis == "g2" else ():
        if getattr(campaign, name):
            text = "has no meaning with analysis: g2, which fits every bin of a file; campaign.vary varies keys of g2"
            problems.append(Problem(("campaign", name), text))
    for name in campaign.pool_free_by or ():
        if name not in campaign.pool or not campaign.pool_free:
            text = f"names {name}, over which nothing is pooled and free; campaign.pool and pool_free decide that"
            problems.append(Problem(("campaign", "pool_free_by"), text))
    if campaign.pool:
        own = campaign.pool_free
        problems += [one for config in made for one in _joint_problems(config, own, ("campaign", "pool_free"))]
    return made[0].of_campaign(campaign, made, dict(data)), problems


def _unit_problems(config: Config) -> list[Problem]:
    """A shear rate without q and gap: the data show q·L·rate/2 alone, which is no shear rate."""
    if config.analysis_mode != "laminar_flow" or config.analyzer_parameters.scattering.wavevector_q != "unknown":
        return []
    text = (
        "is unknown, and a shear rate is seen through q times the gap: give q, or fit a model without shear; or give 1 "
        "here if the file says so, and stator_rotor_gap 2000 (Å): rates are then thousandths of the phase rate"
    )
    return [Problem(("analyzer_parameters", "scattering", "wavevector_q"), text)]


def _joint_problems(config: Config, free: Mapping[str, str], path: KeyPath) -> list[Problem]:
    """What a joint fit with parameters that are free per set cannot be."""
    problems = [
        Problem((*path, name), text)
        for name in free
        if (text := own_problem(name, config.analysis_mode, held_parameters(config)))
    ]
    if free and config.conventions.integrator != "exact":
        text = "is possible with conventions.integrator: exact, whose integrals may differ from set to set"
        problems.append(Problem(path, text))
    if config.scaling.mode == "fourier":
        text = "needs the angles of one data set; a joint fit has several: individual, hierarchical or averaged"
        problems.append(Problem(("scaling", "mode"), text, "fourier"))
    sets = () if config.joint is None else config.joint.sets
    if any(one.q is not None for one in sets) and config.analyzer_parameters.scattering.wavevector_q == "unknown":
        text = "is unknown, and sets of a joint fit name theirs: a transport coefficient can't be shared without q"
        problems.append(Problem(("analyzer_parameters", "scattering", "wavevector_q"), text))
    return problems


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


def _parameter_parts(data: Mapping[str, Any], model: str | None) -> Config | None:
    """The parameter sections alone of a document that is wrong elsewhere; None when they are wrong themselves."""
    space, _ = read_section(ParameterSpace, data.get("parameter_space") or {}, model)
    initial, _ = read_section(InitialParameters, data.get("initial_parameters") or {}, model)
    if model is None or space is None or initial is None:
        return None
    return Config.model_construct(analysis_mode=model, parameter_space=space, initial_parameters=initial)


def apply_override(document: Document, override: str) -> None:
    """Put `key.sub=value` into the document; the value is read as YAML."""
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConfigError(f"--set {override}: must be KEY=VALUE, for example optimization.nlsq.multi_start=4")
    try:
        value = parse_value(text)
    except ConfigError as error:
        raise ConfigError(f"--set {override}: {error}") from None
    path: KeyPath = ()
    here = document.data
    parts = key.split(".")
    for part in parts[:-1]:
        here, path = _descend(here, part, path, override)
    _assign(here, parts[-1], value, override)
    last = int(parts[-1]) if isinstance(here, list) else parts[-1]
    for known in [known for known in document.lines if known[: len(path) + 1] == (*path, last)]:
        del document.lines[known]
    document.set_on_command_line[(*path, last)] = override


def _descend(here: Any, part: str, path: KeyPath, override: str) -> tuple[Any, KeyPath]:
    """One step down into a section (made when absent) or a list (by index from 0)."""
    if isinstance(here, list):
        index = _index(here, part, override)
        return here[index], (*path, index)
    if here.get(part) is None:
        here[part] = {}
    if not isinstance(here[part], (dict, list)):
        raise ConfigError(f"--set {override}: {dotted((*path, part))} is a value, it has no keys")
    return here[part], (*path, part)


def _assign(here: Any, part: str, value: Any, override: str) -> None:
    if isinstance(here, list):
        here[_index(here, part, override)] = value
    elif isinstance(here, dict):
        here[part] = value
    else:
        raise ConfigError(f"--set {override}: there is no section to put {part} into")


def _index(items: list[Any], part: str, override: str) -> int:
    if not part.isdecimal() or int(part) >= len(items):
        raise ConfigError(f"--set {override}: '{part}' is not an index into a list of {len(items)}")
    return int(part)
