"""What an older configuration says about treating, judging and keeping the data."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from hpcxpcs.config.dialects.rules import Fate
from hpcxpcs.config.dialects.work import Work
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
        for key in section:
            if key != "enabled":
                why = "preprocessing.enabled is not true: the data are fitted as they were measured"
                work.tell((_TREATED, key), Fate.DROPPED, why=why)
        return
    stages = work.section(_TREATED, "stages")
    silent = "normalize_data" not in stages
    why = "its stages have keys of their own here"
    if silent:
        why = (
            "unless told otherwise it divided by c2(0, 0), which is shot noise; switch stages.normalize_data off "
            "(enabled: false), or name its method: mean, minmax or statistical"
        )
    work.tell(origin, Fate.DROPPED, why=why, changes_answer=silent)
    for name, stage in _STAGES.items():
        _one_stage(work, name, stage)
    for name in stages:
        if name not in (*_STAGES, *_IDLE):
            known = ", ".join(_STAGES)
            why = f"no stage; give one of {known}"
            work.tell((_TREATED, "stages", name), Fate.UNKNOWN, why=why, changes_answer=True)


def _one_stage(work: Work, name: str, stage: _Stage) -> None:
    path: KeyPath = (_TREATED, "stages", name)
    target: KeyPath = (_TREATED, stage.key)
    options = work.section(_TREATED, "stages", name)
    if work.given(*path) is None:
        if stage.on and len(stage.methods) == 1:
            ours = stage.methods[stage.usual]
            work.put(target, ours, (_TREATED, "enabled"))
            work.tell_absent(dotted(path), _said(target, ours), "homodyne's stage is on unless it is off")
        return
    if not work.switch((*path, "enabled"), stage.on):
        origin = (*path, "enabled") if "enabled" in options else path
        work.put(target, stage.off, origin)
        work.tell(origin, Fate.REPLACED, _said(target, stage.off), "the stage is off")
        for key in options if origin != path else ():
            if key != "enabled":
                work.tell((*path, key), Fate.DROPPED, why="the stage is off")
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
        work.tell(origin, Fate.DROPPED, why=_NO_COUNTERPART[method], changes_answer=True)
    else:
        work.put(target, ours, origin)
        differs = alters and stage.key == "noise_reduction"
        why = _OTHERWISE.get(ours, "") if isinstance(ours, str) else ""
        work.tell(origin, Fate.REPLACED, _said(target, ours), why, changes_answer=differs)
    if origin == path:
        return
    for key, value in options.items():
        place = (*path, key)
        if place == origin:
            continue
        if key == "enabled":
            work.tell(place, Fate.DROPPED, why=f"{dotted(target)} says it")
        elif key in _WINDOWS and ours in ("statistical", "median", "gaussian"):
            _window(work, place, value, rank=int(alters))
        else:
            work.tell(place, Fate.DROPPED, why=_NO_OPTION, changes_answer=alters)


def _window(work: Work, origin: KeyPath, value: Any, rank: int) -> None:
    """The one window of ours; that of a noise filter before that of the diagonal."""
    fits = isinstance(value, int) and not isinstance(value, bool) and value % 2 == 1 and 3 <= value <= 101
    if fits and work.put((_TREATED, "window"), value, origin, rank):
        work.tell(origin, Fate.RENAMED, f"{_TREATED}.window")
    else:
        why = (
            f"{dotted(work.origins[_TREATED, 'window'])} wins"
            if fits
            else "window is odd here, from 3 to 101"
        )
        work.tell(origin, Fate.DROPPED, why=why, changes_answer=bool(rank) and not fits)


def _quality(work: Work) -> None:
    """Level and repair, which counted only when quality control was on; heterodyne read neither."""
    section = work.section(_JUDGED)
    origin: KeyPath = (_JUDGED, "enabled")
    on = work.switch(origin, False)
    homodyne = work.dialect == "homodyne"
    if not on:
        if section.get("enabled") is False:
            work.put((_JUDGED, "level"), "none", origin)
            work.tell(origin, Fate.REPLACED, f"{_JUDGED}.level: none", "nothing is judged")
        for key in ("validation_level", "auto_repair") if homodyne else ():
            if key in section:
                work.tell((_JUDGED, key), Fate.DROPPED, why="quality_control.enabled is not true")
        return
    level = section.get("validation_level") if homodyne else None
    if level is None:
        work.put((_JUDGED, "level"), "standard", origin)
        why = "" if homodyne else "there nothing read it"
        work.tell(origin, Fate.REPLACED, f"{_JUDGED}.level: standard", why)
    else:
        work.tell(origin, Fate.DROPPED, why=f"{_JUDGED}.level says it")
        work.put((_JUDGED, "level"), _lower(level), (_JUDGED, "validation_level"))
        work.tell((_JUDGED, "validation_level"), Fate.RENAMED, f"{_JUDGED}.level")
    if homodyne:
        _repair(work, section, judged=_lower(level) != "none")


def _repair(work: Work, section: Mapping[str, Any], judged: bool) -> None:
    """What homodyne mended, and here is masked: by its words and by what they did."""
    target, negatives = (_JUDGED, "auto_repair"), (_JUDGED, "repair_negative_correlations")
    named = section.get("auto_repair")
    if not judged:
        for path in (target, negatives):
            if path[1] in section:
                work.tell(path, Fate.DROPPED, why="at level none nothing is judged or repaired")
        return
    if named is None:
        work.put(target, "conservative", (_JUDGED, "enabled"))
        work.tell_absent(
            dotted(target), f"{dotted(target)}: conservative", f"homodyne repaired by itself; {_MASKS}"
        )
    ours, why = _lower(named or "conservative"), _MASKS
    thorough = ours == "aggressive" and section.get("repair_negative_correlations") is True
    if ours == "aggressive":
        ours = "aggressive" if thorough else "conservative"
        why = "negative values are left out too, and hot frames, spikes and saturated values"
        if not thorough:
            why = "without repair_negative_correlations it did no more than conservative"
    if named is not None:
        work.put(target, ours, target)
        work.tell(target, Fate.REPLACED, _said(target, ours), "" if ours == "disabled" else why)
    if thorough:
        work.tell(negatives, Fate.REPLACED, _said(target, ours))
    elif negatives[1] in section:
        work.tell(negatives, Fate.DROPPED, why="it counted only with auto_repair: aggressive")


def _cache(work: Work) -> None:
    """A folder for the cache that is not simply that of the data, where both programs wrote it, and no cache at all."""
    target: KeyPath = ("runtime", "data_cache")
    strategy: KeyPath = ("v2_features", "cache_strategy")
    said = _lower(work.given(*strategy)) if work.dialect == "homodyne" else None
    if said == "none":
        work.put(target, None, strategy, rank=1)
        work.tell(strategy, Fate.REPLACED, f"{dotted(target)}: null", "nothing is kept")
    elif said is not None:
        work.tell(strategy, Fate.DROPPED, why="what is too large for the memory is kept, by its content")
    origin: KeyPath = ("experimental_data", "cache_file_path")
    given = work.section("experimental_data").get("cache_file_path")
    if given is None:
        return
    named = isinstance(given, str) and _is_a_file(work, given)
    folder = os.path.dirname(given) if named else given  # noqa: PTH120
    if given == "":
        work.tell(origin, Fate.DROPPED, why="is empty")
    elif named and not folder:
        work.tell(origin, Fate.DROPPED, why=f"names a file, and no folder; {_IN_RUN}")
    elif isinstance(folder, str) and os.path.normpath(folder) in _data_folders(work):
        work.tell(origin, Fate.DROPPED, why=f"beside the data; {_IN_RUN}")
    elif not work.put(target, folder, origin):
        work.tell(origin, Fate.DROPPED, why=f"{dotted(strategy)} wins")
    elif named:
        work.tell(origin, Fate.REPLACED, _said(target, folder), "named a file; its folder is meant")
    else:
        work.tell(origin, Fate.RENAMED, dotted(target))


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


def _said(target: KeyPath, value: Any) -> str:
    """A key of ours with its value, as it stands in a file."""
    return f"{dotted(target)}: {str(value).lower() if isinstance(value, bool) else value}"
