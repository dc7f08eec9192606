"""The scale of the data of a run, and its parameters as every process of the run has them."""

from __future__ import annotations

from hpcxpcs.config import Config, DataScale, ResolvedParameter
from hpcxpcs.config.resolve import from_record
from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.errors import PlanMismatch
from hpcxpcs.runtime.plan import Plan

RECORD = "parameters"
"""Key of a plan's `extra` under which its parameters are recorded."""


def scale_of(config: Config, data: TwoTime) -> DataScale:
    """The scale of loaded data, from their q and times alone: no matrix is read for it."""
    used = data.t[data.t != 0.0]
    gap = config.analyzer_parameters.geometry.stator_rotor_gap
    return DataScale(float(data.q), float(gap), float(data.dt), float(used[0]), float(used[-1]))


def parameters_of(plan: Plan) -> tuple[ResolvedParameter, ...]:
    """The parameters of a run as its plan has recorded them: the same in every process, and after every stop."""
    record = plan.extra.get(RECORD)
    if record is None:
        raise PlanMismatch(
            f"this run was begun by hpcxpcs {plan.hpcxpcs_version}, whose plans do not record bounds and priors: "
            "finish it with that version, or start it again with --fresh"
        )
    return from_record(plan.extra["config"]["analysis_mode"], record)
