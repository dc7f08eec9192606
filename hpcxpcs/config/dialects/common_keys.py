"""The keys that the homodyne and the heterodyne program share, and what becomes of each."""

from __future__ import annotations

from collections.abc import Mapping

from hpcxpcs.config.dialects.rules import KEPT, Rule, among, dropped, each, renamed, replaced

_LABEL = dropped("a label that says nothing to a program")
_MACHINE = dropped("how the machine is used is found out, or said in runtime; it never changes the answer")
_PLOTS = dropped("the pictures have one style; output.plots turns them on and off")
_FILES = dropped("results always go to RUN/results as JSON, NPZ, pictures and a report")
_CHECKS = dropped("every key, file and range is always checked")
_CACHE = dropped("prepared matrices are named by what they were made from, and kept as they are")
_NOTHING_READ_IT = dropped("nothing read it")
_GOES_THROUGH = dropped("how data are gone through: here every pair counts once, in one pass")
_SEARCH = dropped("how the optimum is searched for, not where it is")

SPELT_ALIKE = (
    "analyzer_parameters.dt",
    "analyzer_parameters.start_frame",
    "analyzer_parameters.scattering.wavevector_q",
    "analyzer_parameters.geometry.stator_rotor_gap",
)
"""Keys whose name and meaning are ours: seconds, 1-based frames, 1/Å and Å."""

_PARAMETERS: Mapping[str, Rule] = {
    "initial_parameters.parameter_names": KEPT,
    "initial_parameters.values": KEPT,
    "initial_parameters.active_parameters": KEPT,
    "initial_parameters.fixed_parameters": KEPT,
    "initial_parameters.per_angle_scaling.*": dropped(
        "contrast and offset follow from the data in closed form; they need no start"
    ),
    "initial_parameters.per_angle_scaling": dropped(
        "contrast and offset follow from the data in closed form; they need no start"
    ),
    "initial_parameters.units": dropped("a label: lengths are in Å, times in s, angles in degrees"),
    "parameter_space.model": dropped("a label; analysis_mode decides"),
    "parameter_space.bounds": replaced(
        "parameter_space.bounds", "type, prior_mu and prior_sigma become prior; unit and log_space are labels"
    ),
    "parameter_space.priors.*": dropped("nothing read it; priors stand beside the bounds"),
    "parameter_space.priors": dropped("nothing read it; priors stand beside the bounds"),
}

_ANGLES: Mapping[str, Rule] = {
    "phi_filtering.enabled": dropped("the ranges are here, or, when it is false, left out"),
    "phi_filtering.target_ranges": replaced(
        "data_filtering.phi_ranges", "a range means what it says: min > max wraps, a full one takes all"
    ),
    "phi_filtering.include_angles": replaced(
        "data_filtering.phi_ranges", "each angle within tolerance, or 0.05 degrees; not beside target_ranges"
    ),
    "phi_filtering.exclude_angles": replaced(
        "data_filtering.phi_ranges",
        "what is left of all else that selects angles, tolerance degrees around each",
    ),
    "phi_filtering.tolerance": replaced(
        "data_filtering.phi_ranges", "around include_angles and exclude_angles; without them nothing read it"
    ),
    "phi_filtering.fallback_to_all_angles": dropped(
        "ranges without any angle are an error, never all angles"
    ),
    "phi_filtering.algorithm": _NOTHING_READ_IT,
    "phi_filtering.quality_control.*": _NOTHING_READ_IT,
}

_DATA: Mapping[str, Rule] = {
    "experimental_data.file_path": KEPT,
    "experimental_data.data_folder_path": KEPT,
    "experimental_data.data_file_name": KEPT,
    "experimental_data.phi_angles_path": dropped("angles come from the data file"),
    "experimental_data.phi_angles_file": dropped("angles come from the data file"),
    "experimental_data.cache_file_path": renamed(
        "runtime.data_cache", "unless it is the folder of the data; of a file, the folder it is in"
    ),
    **each("experimental_data", ("cache_filename_template", "cache_compression"), _CACHE),
    "experimental_data.data_type": dropped("what is stored is read, and computed with in float64"),
    "experimental_data.file_format": dropped(
        "the layout is recognised by the content; MATLAB files are not read, save the arrays as HDF5",
        among("hdf5", "h5", "hdf", "npz", "auto"),
    ),
    "experimental_data.exchange_key": dropped("the group is exchange", among("exchange")),
    "experimental_data.geometry.stator_rotor_gap": renamed(
        "analyzer_parameters.geometry.stator_rotor_gap", rank=-1
    ),
    "experimental_data.geometry.sample_detector_distance": dropped(
        "q is given, and no distance is needed; homodyne took it for the gap when none was given"
    ),
    "experimental_data.apply_diagonal_correction": dropped("the diagonal is never part of a fit"),
    "experimental_data.dt": renamed("analyzer_parameters.dt", rank=-1),
    **dict.fromkeys(SPELT_ALIKE, KEPT),
    "analyzer_parameters.wavevector_q": renamed("analyzer_parameters.scattering.wavevector_q", rank=-1),
    "analyzer_parameters.stator_rotor_gap": renamed(
        "analyzer_parameters.geometry.stator_rotor_gap", "in Å, as its default is", rank=-1
    ),
    "analyzer_parameters.end_frame": replaced(
        "analyzer_parameters.end_frame", "every negative number meant the last frame; here -1 does"
    ),
}

_LOGS: Mapping[str, Rule] = {
    **each(
        "logging",
        ("enabled", "console.enabled"),
        replaced("logging.level", "false shows nothing but errors; a run always keeps its log"),
    ),
    **each(
        "logging",
        ("level", "console.level"),
        replaced("logging.level", "how much the terminal shows; the one that shows less wins"),
    ),
    "logging.console.format": dropped("lines on the terminal have one form, those of files another"),
    "logging.console.colors": dropped("lines have no colours"),
    "logging.console.show_progress": dropped("progress is shown wherever there is a screen"),
    "logging.file.enabled": dropped("a run always keeps its log, in RUN/logs"),
    "logging.file.level": dropped("files have info in any case, and debug where logging.level is debug"),
    **each("logging.file", ("path", "filename"), dropped("logs are in RUN/logs, a file for each process")),
    "logging.file": dropped("the name of a file: logs are in RUN/logs, a file for each process"),
    "logging.structured": dropped("files hold a JSON object per line, the terminal plain text"),
    "logging.log_convergence": dropped("how fits and chains converge is in the log in any case"),
    "logging.file.max_size_mb": renamed("logging.max_size_mb"),
    "logging.file.backup_count": renamed("logging.backup_count"),
    "logging.modules.*": dropped("one level holds for all parts; libraries are heard from warnings on"),
    "logging.modules": dropped("one level holds for all parts; libraries are heard from warnings on"),
}

COMMON: Mapping[str, Rule] = {
    **each(
        "metadata",
        (
            *("config_version", "description", "analysis_mode", "parameter_count", "physics_model"),
            *("shear_model", "template_type", "complexity", "generated_at", "generated_by"),
            "nlsq_cmc_physics_match",
            *("experiment_id", "operator", "beamline", "sample_name", "notes"),
        ),
        _LABEL,
    ),
    "metadata.physics_model.*": _LABEL,
    "metadata.integration_method": dropped("a label; conventions.integrator says how rates are integrated"),
    "metadata.diagonal_correction": dropped("the diagonal is never part of a fit"),
    **_DATA,
    **_ANGLES,
    **_PARAMETERS,
    "optimization.method": replaced(
        "optimization.method", "both is cmc here, which begins with the point fit"
    ),
    "noise_estimation.*": dropped("no program implements it; the noise is estimated without a model"),
    "performance.*": _MACHINE,
    **_LOGS,
    "quality_control.enabled": replaced("quality_control.level", "true is standard, false is none"),
    "quality_control.angle_quality.*": _NOTHING_READ_IT,
    "quality_control.multi_angle_validation.*": _NOTHING_READ_IT,
    "plotting.save_plots": renamed("output.plots"),
    "plotting.*": _PLOTS,
    "output.directory": KEPT,
    "output.*": _FILES,
    "validation.*": _CHECKS,
}

GOES_THROUGH, SEARCH, MACHINE, LABEL = _GOES_THROUGH, _SEARCH, _MACHINE, _LABEL
NOTHING_READ_IT = _NOTHING_READ_IT
