"""What an older configuration says about treating, judging and keeping the data."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from hpcxpcs.config.dialects.work import Fate, Work, said
from hpcxpcs.config.problems import KeyPath, dotted

_CACHE_SUFFIXES = (".npz", ".npy", ".h5", ".hdf", ".hdf5")
_TREATED, _JUDGED = "preprocessing", "quality_control"
_IN_RUN = "runtime.data_cache keeps prepared matrices in RUN, and only when they are large"
_WINDOWS = ("window", "window_size", "kernel_size")
_NO_OPTION = "this program has no such option"
_MASKS = "what holds no number is left out of the fit; there the median of the matrix was put in its place"


@dataclass(frozen=True)
class _Stage:
    """A stage of homodyne: our key, its value when off, our name of each method (None: we have no such thing).

    `usual` is the method when none is named, `on` whether the stage is on when nothing is said.
    """

    key: str
    off: Any
    methods: Mapping[str, Any]
    usual: str
    on: bool = True


_STAGES: Mapping[str, _Stage] = {
    "correct_diagonal": _Stage(
        "diagonal",
        "basic",
        {"basic": "basic", "statistical": "statistical", "interpolation": "basic"},
        "statistical",
    ),
    "normalize_data": _Stage(
        "normalization",
        "none",
        {
            **{"none": "none", "mean": "mean", "minmax": "min_max", "min_max": "min_max"},
            **{"statistical": "z_score", "z_score": "z_score"},
            **dict.fromkeys(("baseline", "robust", "physics_based")),
        },
        "baseline",
    ),
    "reduce_noise": _Stage(
        "noise_reduction",
        "none",
        {
            **{"none": "none", "median": "median", "median_filter": "median"},
            **{"gaussian": "gaussian", "gaussian_filter": "gaussian"},
            **dict.fromkeys(("wiener", "savgol")),
        },
        "none",
        on=False,
    ),
    "standardize_format": _Stage("standard", "as_stored", {"float64": "float64"}, "float64"),
    "validate_output": _Stage("validate_result", False, {"all": True}, "all"),
}
_IDLE = ("load_raw", "apply_filtering")
_NO_COUNTERPART = {
    "baseline": "it divided by c2(0, 0), which is shot noise; baseline here divides by the level of long lags",
    "robust": "median and quartiles are no scale here; normalization can be mean, min_max or z_score",
    "physics_based": "it divided by the largest value and by c2(0, 0); normalization can be mean, min_max or z_score",
    "wiener": "noise_reduction can be median or gaussian, and makes error bars too small",
    "savgol": "noise_reduction can be median or gaussian, and makes error bars too small",
}
_OTHERWISE = {
    "median": "here the filter runs along lines of equal lag, there over neighbours in both times",
    "gaussian": "here the filter runs along lines of equal lag, there over neighbours in both times",
    "basic": "the mean of both neighbours, for pictures; no fit uses the diagonal",
    "statistical": "for pictures; no fit uses the diagonal",
}


def translate_preparation(work: Work) -> None:
    """Stages of preprocessing, which only homodyne had, quality control, and where matrices are kept."""
    if work.dialect == "homodyne":
        _preprocessing(work)
    _quality(work)
    _cache(work)


def _preprocessing(work: Work) -> None:
    """The stages, which counted only when preprocessing was on, and most of which were on then."""
    section = work.section(_TREATED)
    origin: KeyPath = (_TREATED, "enabled")
    if not work.switch(origin, False):
        for key in [key for key in section if key != "enabled"]:
            work.drop(
                (_TREATED, key),
                "preprocessing.enabled is not true: the data are fitted as they were measured",
            )
        return
    stages = work.section(_TREATED, "stages")
    silent = "normalize_data" not in stages
    why = "its stages have keys of their own here"
    if silent:
        why = (
            "unless told otherwise it divided by c2(0, 0), which is shot noise; switch stages.normalize_data off "
            "(enabled: false), or name its method: mean, minmax or statistical"
        )
    work.drop(origin, why, changes_answer=silent)
    for name, stage in _STAGES.items():
        _one_stage(work, name, stage)
    for name in stages:
        if name not in (*_STAGES, *_IDLE):
            work.disown((_TREATED, "stages", name), f"no stage; give one of {', '.join(_STAGES)}")


def _one_stage(work: Work, name: str, stage: _Stage) -> None:
    path: KeyPath = (_TREATED, "stages", name)
    target: KeyPath = (_TREATED, stage.key)
    options = work.section(_TREATED, "stages", name)
    if work.given(*path) is None:
        if stage.on and len(stage.methods) == 1:
            why = "homodyne's stage is on unless it is off"
            work.assume(dotted(path), target, stage.methods[stage.usual], why, (_TREATED, "enabled"))
        return
    if not work.switch((*path, "enabled"), stage.on):
        origin = (*path, "enabled") if "enabled" in options else path
        work.replace(origin, target, stage.off, "the stage is off")
        for key in options if origin != path else ():
            if key != "enabled":
                work.drop((*path, key), "the stage is off")
        return
    _method(work, path, stage, options)


def _method(work: Work, path: KeyPath, stage: _Stage, options: Mapping[str, Any]) -> None:
    """A stage that is on: its method, its window, and options that nothing here has."""
    target: KeyPath = (_TREATED, stage.key)
    named = options.get("method")
    method = str(stage.usual if named is None or len(stage.methods) == 1 else named).lower()
    origin = next(((*path, key) for key in ("method", "enabled") if options.get(key) is not None), path)
    if method not in stage.methods:
        work.refuse(origin, f"is no method; give one of {', '.join(stage.methods)}")
        return
    ours = stage.methods[method]
    alters = stage.key in ("normalization", "noise_reduction") and ours != "none"
    if ours is None:
        work.drop(origin, _NO_COUNTERPART[method], changes_answer=True)
    else:
        differs = alters and stage.key == "noise_reduction"
        work.replace(origin, target, ours, _OTHERWISE.get(ours, ""), changes_answer=differs)
    if origin == path:
        return
    for key, value in options.items():
        place = (*path, key)
        if place == origin:
            continue
        if key == "enabled":
            work.drop(place, f"{dotted(target)} says it")
        elif key in _WINDOWS and ours in ("statistical", "median", "gaussian"):
            _window(work, place, value, rank=int(alters))
        else:
            work.drop(place, _NO_OPTION, changes_answer=alters)


def _window(work: Work, origin: KeyPath, value: Any, rank: int) -> None:
    """The one window of ours; that of a noise filter before that of the diagonal."""
    fits = isinstance(value, int) and not isinstance(value, bool) and value % 2 == 1 and 3 <= value <= 101
    if fits:
        work.rename(origin, (_TREATED, "window"), value, rank=rank)
    else:
        work.drop(origin, "window is odd here, from 3 to 101", changes_answer=bool(rank))


def _quality(work: Work) -> None:
    """Level and repair, which counted only when quality control was on; heterodyne read neither."""
    section = work.section(_JUDGED)
    origin: KeyPath = (_JUDGED, "enabled")
    on = work.switch(origin, False)
    homodyne = work.dialect == "homodyne"
    if not on:
        if section.get("enabled") is False:
            work.replace(origin, (_JUDGED, "level"), "none", "nothing is judged")
        for key in ("validation_level", "auto_repair") if homodyne else ():
            if key in section:
                work.drop((_JUDGED, key), "quality_control.enabled is not true")
        return
    level = section.get("validation_level") if homodyne else None
    if level is None:
        work.replace(origin, (_JUDGED, "level"), "standard", "" if homodyne else "there nothing read it")
    else:
        work.drop(origin, f"{_JUDGED}.level says it")
        work.rename((_JUDGED, "validation_level"), (_JUDGED, "level"), _lower(level))
    if homodyne:
        _repair(work, section, judged=_lower(level) != "none")


def _repair(work: Work, section: Mapping[str, Any], judged: bool) -> None:
    """What homodyne mended, and here is masked: by its words and by what they did."""
    target, negatives = (_JUDGED, "auto_repair"), (_JUDGED, "repair_negative_correlations")
    named = section.get("auto_repair")
    if not judged:
        for path in (target, negatives):
            if path[1] in section:
                work.drop(path, "at level none nothing is judged or repaired")
        return
    if named is None:
        why = f"homodyne repaired by itself; {_MASKS}"
        work.assume(dotted(target), target, "conservative", why, (_JUDGED, "enabled"))
    ours, why = _lower(named or "conservative"), _MASKS
    thorough = ours == "aggressive" and section.get("repair_negative_correlations") is True
    if ours == "aggressive":
        ours = "aggressive" if thorough else "conservative"
        why = "negative values are left out too, and hot frames, spikes and saturated values"
        if not thorough:
            why = "without repair_negative_correlations it did no more than conservative"
    if named is not None:
        work.replace(target, target, ours, "" if ours == "disabled" else why)
    if thorough:
        work.tell(negatives, Fate.REPLACED, said(target, ours))
    elif negatives[1] in section:
        work.drop(negatives, "it counted only with auto_repair: aggressive")


def _cache(work: Work) -> None:
    """A folder for the cache that is not simply that of the data, where both programs wrote it, and no cache at all."""
    target: KeyPath = ("runtime", "data_cache")
    strategy: KeyPath = ("v2_features", "cache_strategy")
    named = _lower(work.given(*strategy)) if work.dialect == "homodyne" else None
    if named == "none":
        work.replace(strategy, target, None, "nothing is kept", rank=1)
    elif named is not None:
        work.drop(strategy, "what is too large for the memory is kept, by its content")
    origin: KeyPath = ("experimental_data", "cache_file_path")
    given = work.section("experimental_data").get("cache_file_path")
    if given is None:
        return
    is_file = isinstance(given, str) and _is_a_file(work, given)
    folder = os.path.dirname(given) if is_file else given  # noqa: PTH120
    if given == "":
        work.drop(origin, "is empty")
    elif is_file and not folder:
        work.drop(origin, f"names a file, and no folder; {_IN_RUN}")
    elif isinstance(folder, str) and os.path.normpath(folder) in _data_folders(work):
        work.drop(origin, f"beside the data; {_IN_RUN}")
    elif is_file:
        work.replace(origin, target, folder, "named a file; its folder is meant")
    else:
        work.rename(origin, target, folder)


def _is_a_file(work: Work, path: str) -> bool:
    """Whether a path of the cache names a file, as homodyne's document has it, and not the folder of such files."""
    known = PurePath(path).suffix.lower() in _CACHE_SUFFIXES
    folders = [Path.cwd(), *([work.base] if work.base else [])]
    # unlike Path's methods these answer False to names that no file can have
    there = [os.path.join(folder, os.path.expanduser(path)) for folder in folders]  # noqa: PTH111, PTH118
    return not any(map(os.path.isdir, there)) and (known or any(map(os.path.isfile, there)))


def _data_folders(work: Work) -> set[str]:
    """The folders in which an older configuration says that its data are."""
    section = work.section("experimental_data")
    given = [section.get("data_folder_path"), os.path.dirname(str(section.get("file_path") or ""))]  # noqa: PTH120
    return {os.path.normpath(value) for value in given if isinstance(value, str) and value}


def _lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value
