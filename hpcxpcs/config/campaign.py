"""A campaign: many fits from one configuration, told by files, q, windows of frames, models and keys that vary; and a
joint fit: several data sets with one set of physical parameters."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator

from hpcxpcs.config.parameters import MODEL_NAMES, find_parameter, model_named
from hpcxpcs.config.problems import KeyPath
from hpcxpcs.config.section import Section, commented
from hpcxpcs.config.values import Number, PathText, read_number, read_whole

MANIFEST = "manifest"
"""Key under `campaign.files` that names a table with one row per item instead of patterns."""


def _texts(value: object, what: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not value or not all(isinstance(one, str) and one for one in value):
        raise ValueError(f"must be a list of {what}")
    return tuple(value)


def _read_files(value: object) -> Any:
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, Mapping):
        if set(value) != {MANIFEST} or not isinstance(value[MANIFEST], str):
            raise ValueError("must be a pattern, a list of paths, or {manifest: FILE.csv}")
        return dict(value)
    return _texts(value, 'paths, a pattern such as "data/*_T{temperature:g}K.hdf", or {manifest: FILE.csv}')


def _read_q(value: object) -> Any:
    if value is None or value == "all":
        return value
    if isinstance(value, Mapping):
        if not value or set(value) - {"min", "max"}:
            raise ValueError("must be all, a list of q in 1/Å, or {min: ..., max: ...}")
        return {side: read_number(value[side]) for side in ("min", "max") if side in value}
    values = value if isinstance(value, list | tuple) else [value]
    found = tuple(read_number(one) for one in values)
    if not found or min(found) <= 0.0:
        raise ValueError("must be all, a list of positive q in 1/Å, or {min: ..., max: ...}")
    if len(set(found)) < len(found):
        raise ValueError("names a q more than once")
    return found


def _read_windows(value: object) -> Any:
    if value is None:
        return None
    if isinstance(value, Mapping):
        if "frames" not in value or set(value) - {"frames", "step"}:
            raise ValueError("must be {frames: N, step: M} or a list of [first, last] frames")
        frames = read_whole(value["frames"])
        step = read_whole(value.get("step", frames))
        if frames < 2 or step < 1:
            raise ValueError("must have frames of at least 2 and a step of at least 1")
        return {"frames": frames, "step": step}
    if not isinstance(value, list | tuple) or not value:
        raise ValueError("must be {frames: N, step: M} or a list of [first, last] frames")
    return tuple(_window(one) for one in value)


def _window(value: object) -> tuple[int, int]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError("must be {frames: N, step: M} or a list of [first, last] frames")
    first, last = read_whole(value[0]), read_whole(value[1])
    if not 1 <= first < last:
        raise ValueError(f"has a window [{first}, {last}]; frames count from 1, and the last one comes after the first")
    return first, last


def _read_models(value: object) -> tuple[str, ...]:
    found = tuple(model_named(name) for name in _texts(value, f"models ({', '.join(MODEL_NAMES)})"))
    if len(set(found)) < len(found):
        raise ValueError("names a model more than once")
    return found


def _read_free(value: object) -> Any:
    if isinstance(value, Mapping):
        for name, how in value.items():
            if how not in ("own", "hierarchical"):
                raise ValueError(f"says {how} of {name}; own or hierarchical is needed")
        return {str(name): how for name, how in value.items()}
    names = (value,) if isinstance(value, str) else () if value is None else value
    if not isinstance(names, list | tuple) or not all(isinstance(one, str) for one in names):
        raise ValueError("must be a list of parameters, or {parameter: own or hierarchical}")
    return dict.fromkeys(names, "own")


FreePerSet = Annotated[
    dict[str, Literal["own", "hierarchical"]],
    BeforeValidator(_read_free),
    WithJsonSchema({"type": ["array", "object", "string", "null"]}),
]
FREE_PER_SET = (
    "parameters that every data set has of its own: a list, or {D0: hierarchical} where their values are also drawn "
    "towards each other as far as they scatter; the amplitude of a rate scales it with its constant part"
)
Files = Annotated[
    Any,
    BeforeValidator(_read_files),
    WithJsonSchema({"type": ["string", "array", "object"]}),
]
ChosenQ = Annotated[
    Any, BeforeValidator(_read_q), WithJsonSchema({"type": ["string", "array", "object", "number", "null"]})
]
Windows = Annotated[Any, BeforeValidator(_read_windows), WithJsonSchema({"type": ["array", "object", "null"]})]
Models = Annotated[tuple[str, ...], BeforeValidator(_read_models)]


class JointSet(Section):
    """One of the data sets of a joint fit."""

    file: PathText = Field(description="result file", examples=["data/A_r1.hdf"])
    q: Number | None = Field(default=None, gt=0.0, description="its q in 1/Å; null: that of analyzer_parameters")
    label: str | None = Field(
        default=None,
        description="what results call it (null: the name of its file, and its q); sets of one label have free "
        "parameters in common",
    )


class Joint(Section):
    """Several data sets fitted together: physical parameters are shared, contrast, offset and noise are not."""

    sets: tuple[JointSet, ...] = Field(min_length=2, description="two data sets or more, of frames at equal times")
    free: FreePerSet = Field(default_factory=dict, description=FREE_PER_SET)

    @property
    def count(self) -> int:
        """How many data sets differ in what is free: those of one label count once."""
        labels = [one.label for one in self.sets]
        return labels.count(None) + len({label for label in labels if label is not None})


class Campaign(Section):
    """Many fits in one run: every combination of a file, a q, a window of frames, a model and what varies."""

    files: Files = Field(
        description="pattern with * and named parts such as {temperature:g} (g number, d whole number, none: text), "
        "which become columns; or a list of files; or {manifest: FILE.csv} with a row per item",
        examples=["data/*_T{temperature:g}K_r{repeat:d}.hdf"],
    )
    analysis: Literal["twotime", "g2"] = Field(
        default="twotime",
        description="twotime: matrices, with the models of analysis_mode; g2: every bin of multi-tau files, as section "
        "g2 says, an item per file",
    )
    q: ChosenQ = Field(
        default=None,
        description="all: every q of a file; a list in 1/Å; or {min: ..., max: ...}; null: that of "
        "analyzer_parameters.scattering",
    )
    windows: Windows = Field(
        default=None,
        description="{frames: N, step: M} or a list of [first, last] frames; null: those of analyzer_parameters",
    )
    models: Models | None = Field(default=None, description="models to fit, each to everything; null: analysis_mode")
    vary: dict[str, tuple[Any, ...]] = Field(
        default_factory=dict,
        description="any keys and the values they take, for example {scaling.mode: [individual, hierarchical]}",
    )
    pool: tuple[str, ...] = Field(
        default=(),
        description="labels, such as [repeat] or [q], over which items are fitted jointly: with the same physical "
        "parameters, and contrast, offset and noise of their own",
    )
    pool_free: FreePerSet = Field(default_factory=dict, description=f"of what is pooled, {FREE_PER_SET}")
    pool_free_by: tuple[str, ...] | None = Field(
        default=None,
        description="which of the labels in pool tell data sets apart for what is free: [q] for values per q that "
        "repeats share; null: all of them",
    )
    group_by: tuple[str, ...] = Field(
        default=(), description="labels by which the table is arranged, such as [temperature]"
    )

    @field_validator("vary")
    @classmethod
    def _varies_what_items_do_not(cls, value: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        for key, values in value.items():
            if not values:
                raise ValueError(f"gives no value for {key}")
            if key.split(".")[0] in ("campaign", "runtime", "output", "logging"):
                raise ValueError(f"varies {key}, which never changes an answer")
            if key in ("analysis_mode", "experimental_data.file_path"):
                raise ValueError(f"varies {key}; that is what campaign.models and campaign.files are for")
        return value

    @property
    def manifest(self) -> str | None:
        """The table that lists the items, if one does."""
        return self.files[MANIFEST] if isinstance(self.files, Mapping) else None


JOINT_EXAMPLE = commented({"sets": [{"file": "data/A_r1.hdf"}, {"file": "data/A_r2.hdf"}]})
EXAMPLE = commented({"files": "data/*_T{temperature:g}K.hdf", "q": "all"})
"""What the template shows of a campaign, and of a joint fit."""


def variant_settings(data: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], tuple[tuple[KeyPath, Any], ...]]]:
    """The configuration of a campaign once for every model and value that varies, as (data, keys that were set).

    What an item decides, its file and perhaps its q, is filled in where the configuration leaves it open; bounds and
    start values of parameters that only other models of the campaign have are left out.
    """
    campaign = _campaign_of(data)
    models = _models_of(data, campaign)
    vary = campaign.get("vary") if isinstance(campaign.get("vary"), Mapping) else {}
    keys = [tuple(str(key).split(".")) for key in vary or {}]
    choices = [values if isinstance(values, list | tuple) else [values] for values in (vary or {}).values()]
    for model in models:
        for values in itertools.product(*choices):
            chosen = tuple(zip(keys, values, strict=True))
            yield with_choices(data, model, models, chosen), chosen


def with_choices(
    data: Mapping[str, Any], model: str | None, models: Sequence[str | None], chosen: Sequence[tuple[KeyPath, Any]]
) -> dict[str, Any]:
    """The configuration of a campaign without it: with one of its models, and values under the keys that are chosen."""
    one = {key: copy.deepcopy(value) for key, value in data.items() if key != "campaign"}
    campaign = _campaign_of(data)
    files, q = campaign.get("files"), campaign.get("q")
    named = files if isinstance(files, str) else files[0] if isinstance(files, list) and files else "campaign"
    of_g2 = campaign.get("analysis") == "g2"
    if of_g2:
        one.setdefault("analysis_mode", "static")
    _fill(one, str(named), _some_q(q) if of_g2 or q is not None or isinstance(files, dict) else None)
    if model is not None:
        one["analysis_mode"] = model
        _drop_others(one, model, models)
    for path, value in chosen:
        _set(one, path, value)
    return one


def _campaign_of(data: Mapping[str, Any]) -> Mapping[str, Any]:
    return data["campaign"] if isinstance(data.get("campaign"), Mapping) else {}


def _models_of(data: Mapping[str, Any], campaign: Mapping[str, Any]) -> Sequence[str | None]:
    """The models in the order they are asked for; None leaves the analysis_mode as it is written, right or wrong."""
    try:
        return _read_models(campaign["models"]) if campaign.get("models") else [None]
    except ValueError:
        return [None]


def with_first_set(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The data of a configuration with a joint fit, where it names no file or q of its own with those of a set."""
    joint = data.get("joint")
    sets = joint.get("sets") if isinstance(joint, Mapping) else None
    if not isinstance(sets, list | tuple) or not sets or not all(isinstance(one, Mapping) for one in sets):
        return data
    filled = copy.deepcopy(dict(data))
    q = [one["q"] for one in sets if isinstance(one.get("q"), int | float)]
    _fill(filled, str(sets[0].get("file")), float(q[0]) if q else None)
    return filled


def _fill(data: dict[str, Any], file: str, q: float | None) -> None:
    """Put a file, and a q, in the place of what every item or set decides for itself, so that the rest is checked."""
    place = _section_of(data, "experimental_data")
    if place is not None and not (place.get("data_file_name") or place.get("data_folder_path")):
        place.setdefault("file_path", file)
    scattering = _section_of(data, "analyzer_parameters", "scattering")
    if scattering is not None and q is not None:
        scattering.setdefault("wavevector_q", q)


def _some_q(q: object) -> float:
    """A q of the right size, or any."""
    numbers = list(q.values()) if isinstance(q, Mapping) else q if isinstance(q, list | tuple) else [q]
    return next((float(one) for one in numbers if isinstance(one, int | float) and one > 0), 0.01)


def _section_of(data: dict[str, Any], *names: str) -> dict[str, Any] | None:
    """The section under these names, made where it is missing; None where something else stands there."""
    here: Any = data
    for name in names:
        if here.get(name) is None:
            here[name] = {}
        here = here[name]
        if not isinstance(here, dict):
            return None
    return here


def _drop_others(data: dict[str, Any], model: str, models: Sequence[str | None]) -> None:
    """Leave out what is said of parameters that this model lacks and another model of the campaign has."""

    def foreign(name: object) -> bool:
        known = [one for one in models if one is not None and find_parameter(str(name), one) is not None]
        return bool(known) and model not in known

    space, initial = data.get("parameter_space"), data.get("initial_parameters")
    if isinstance(space, dict) and isinstance(space.get("bounds"), list):
        space["bounds"] = [one for one in space["bounds"] if not (isinstance(one, dict) and foreign(one.get("name")))]
    if not isinstance(initial, dict):
        return
    if isinstance(initial.get("fixed_parameters"), dict):
        kept = {name: value for name, value in initial["fixed_parameters"].items() if not foreign(name)}
        initial["fixed_parameters"] = kept
    if isinstance(initial.get("active_parameters"), list):
        initial["active_parameters"] = [name for name in initial["active_parameters"] if not foreign(name)]
    names, values = initial.get("parameter_names"), initial.get("values")
    if isinstance(names, list):
        kept_at = [k for k, name in enumerate(names) if not foreign(name)]
        initial["parameter_names"] = [names[k] for k in kept_at]
        if isinstance(values, list) and len(values) == len(names):
            initial["values"] = [values[k] for k in kept_at]


def _set(data: dict[str, Any], path: KeyPath, value: Any) -> None:
    """Put a value under a dotted key; what is in its way is replaced, and refused with the rest if it is wrong."""
    here = data
    for name in path[:-1]:
        if not isinstance(here.get(str(name)), dict):
            here[str(name)] = {}
        here = here[str(name)]
    here[str(path[-1])] = value
