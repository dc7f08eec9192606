"""What a configuration leads to: the data used, the curve of the model, a fit, a posterior, its files and its log."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

import hpcxpcs
from hpcxpcs.answer.posterior import Mixing
from hpcxpcs.answer.posterior_verdict import judge
from hpcxpcs.config import Config, config_from_mapping, resolved_parameters
from hpcxpcs.config.parameters import parameters_of
from hpcxpcs.data.simulate import NoiseSpec
from hpcxpcs.errors import HpcxpcsError
from hpcxpcs.inference.target import PriorTerms
from hpcxpcs.physics.model import TimeGrid
from hpcxpcs.pipeline import settings as pipeline_settings
from hpcxpcs.pipeline.compile_cache import compile_cache
from hpcxpcs.pipeline.fit import FitRun, continued
from hpcxpcs.pipeline.items import items_of
from hpcxpcs.pipeline.loading import load_for_run, quality_report, refuse_poor
from hpcxpcs.pipeline.plan import scale_of
from hpcxpcs.pipeline.prepare import model_of
from hpcxpcs.pipeline.reporter import Silent
from hpcxpcs.pipeline.sample import task_function, thresholds_of
from hpcxpcs.runs.events import read_events
from hpcxpcs.workers.local import InProcess
from hpcxpcs.workers.mpi import Executor
from hpcxpcs.workers.preemption import StopRequest
from hpcxpcs.workers.work import lazily
from tests.data.stacks import edited

Settings = Mapping[str, Any]
"""Values by dotted key; {name} in a text stands for a file or folder of the laboratory."""

FIRST_MATRIX = "xpcs/twotime/correlation_map/c2_00001"
NUMBERS_ONLY = {"output.plots": False, "output.report": False, "output.fitted_data": False}
USUAL: Settings = {
    "analysis_mode": "static",
    "experimental_data.file_path": "{static}",
    "analyzer_parameters.scattering.wavevector_q": 0.0054,
    "initial_parameters.fixed_parameters": {"D_offset": 0.0},
    "optimization.method": "nlsq",
    "optimization.nlsq.multi_start": 2,
    "runtime.workers": 1,
    **NUMBERS_ONLY,
}
"""A static suspension at three angles, of which D0 and alpha are fitted."""

POSTERIOR: Settings = {
    "optimization.method": "cmc",
    "optimization.cmc.sharding.num_shards": 2,
    "optimization.cmc.per_shard_mcmc.num_warmup": 50,
    "optimization.cmc.per_shard_mcmc.num_samples": 200,
    "optimization.cmc.per_shard_mcmc.num_chains": 2,
    "optimization.cmc.validation.max_r_hat": 1.2,
    "optimization.cmc.validation.min_ess": 50,
    "optimization.cmc.certificate.on_reject": "report",
}
"""Its posterior, judged so leniently that few draws of each shard pass."""


def nested(settings: Settings) -> dict[str, Any]:
    """The mapping that a file with these keys holds."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        *sections, last = key.split(".")
        here = found
        for section in sections:
            here = here.setdefault(section, {})
        here[last] = value
    return found


@dataclass
class Laboratory:
    """Small measurements in a folder, and what configurations have led to so far, each computed once."""

    folder: Path
    places: dict[str, str] = field(default_factory=dict)
    known: dict[str, tuple[Path, FitRun | str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Simulate the measurements, and spoil those that are to be spoilt."""
        self.places["folder"] = str(self.folder)
        for name, frames, angles, seed in (
            ("static", 40, 3, 3),
            ("other", 40, 3, 4),
            ("holes", 40, 3, 3),
            ("poor", 40, 3, 3),
            ("many", 40, 6, 3),
            ("large", 40, 3, 3),
            ("faint", 40, 3, 3),
            ("photons", 60, 3, 3),
        ):
            path = self.folder / f"{name}.hdf"
            spec = {"angles": angles, "frames": frames, "contrast": 0.3, "seed": seed, "extra_q": name == "other"}
            spec |= {"noise": NoiseSpec("iid", sd=0.1)} if name == "faint" else {}
            spec |= {"noise": NoiseSpec("photon", photons=5.0, pixels=1000)} if name == "photons" else {}
            hpcxpcs.simulate(hpcxpcs.SimulationSpec("static", output=path, **spec))
            self.places[name] = str(path)
        with edited(Path(self.places["holes"])) as file:
            file[FIRST_MATRIX][4, 10:14] = np.nan
        with edited(Path(self.places["poor"])) as file:
            file[FIRST_MATRIX][...] = 0.02
            file[FIRST_MATRIX][4, 10:14] = 0.03
        with edited(Path(self.places["large"])) as file:
            matrices = file[FIRST_MATRIX].parent
            for name in list(matrices):
                del matrices[name]
                matrices.create_dataset(name, (3000, 3000), "f4", chunks=(100, 100))  # nothing of it is stored

    def config(self, settings: Settings) -> Config:
        """The configuration with these settings, the usual ones elsewhere."""
        placed = json.loads(json.dumps({**USUAL, **settings}))
        return config_from_mapping(nested({key: self._placed(value) for key, value in placed.items()}))

    def _placed(self, value: Any) -> Any:
        """A value with files and folders in the place of their names."""
        if isinstance(value, str) and value.startswith("{"):
            return value.format_map(self.places)
        if isinstance(value, list):
            return [self._placed(one) for one in value]
        return {key: self._placed(one) for key, one in value.items()} if isinstance(value, dict) else value

    def run(self, settings: Settings, executor: Executor | None = None) -> tuple[Path, FitRun | str]:
        """The run folder of a fit with these settings, and what it found or why it was refused."""
        key = json.dumps(settings, sort_keys=True)
        if key not in self.known:
            folder = self.folder / f"run-{len(self.known)}"
            try:
                found: FitRun | str = hpcxpcs.fit(self.config(settings), run=folder, executor=executor)
            except HpcxpcsError as error:
                found = str(error)
            self.known[key] = (folder, found)
        return self.known[key]


Look = Callable[[Laboratory, Settings], object]
"""Something that can be compared, of what settings lead to."""


def digest(*parts: object) -> str:
    """A hash of arrays and of what JSON can write."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            found.update(f"{part.dtype} {part.shape}".encode() + np.ascontiguousarray(part).tobytes())
        else:
            found.update(repr(part).encode())
    return found.hexdigest()


def data(lab: Laboratory, settings: Settings) -> object:
    """The data that are fitted, or why they are refused."""
    try:
        found = hpcxpcs.load(lab.config(settings))
        angles = [found.angle(k) for k in range(found.n_phi)]
    except HpcxpcsError as error:
        return str(error)
    parts = [part for angle in angles for part in (angle.c2, angle.frame_ok, angle.pair_ok, angle.sigma)]
    return digest(found.phi, found.q, found.t, *parts)


def items(lab: Laboratory, settings: Settings) -> object:
    """The items of a campaign, what each would fit, and how they are arranged."""
    settled, found = items_of(lab.config(settings))
    assert settled.campaign is not None
    fitted = [(item.name, item.analysis, item.configure(settled.variants).to_mapping()) for item in found]
    return fitted, settled.campaign.group_by


def multi_tau(lab: Laboratory, settings: Settings) -> object:
    """The answer of every bin of a small multi-tau file that the model does not quite describe, and the draws."""
    from hpcxpcs.g2.fit import fit_correlation
    from hpcxpcs.g2.record import Stored, cleaned
    from hpcxpcs.g2.simulate import G2Simulation, simulated_table

    truth = {"exponent": 0.7, "tau": 0.03, "n": 1.0}
    table = simulated_table(G2Simulation("stretched", Path("unwritten"), truth, bins=4, delays=30, dt=1e-3))
    bins = (table.q, table.phi, np.arange(1, 5))
    data = cleaned(Stored(table.tau, table.g2, table.error / 3.0, *bins, "simulated"))
    fit = fit_correlation(data, lab.config(settings).g2)
    draws = None if fit.draws is None else digest(fit.draws.values)
    return digest(fit.point.value), digest(fit.point.sd), fit.shape.form, draws


def stages(lab: Laboratory, settings: Settings) -> object:
    """What is stated to have been done to the data."""
    return [record["stage"] for record in hpcxpcs.load(lab.config(settings)).provenance.get("preprocessing", ())]


def picture(lab: Laboratory, settings: Settings) -> object:
    """The matrix that is drawn."""
    return digest(hpcxpcs.load(lab.config(settings)).picture(0))


def judged(lab: Laboratory, settings: Settings) -> object:
    """What is written about the quality of the data."""
    config = lab.config(settings)
    return quality_report(config, hpcxpcs.load(config), Silent())


def taken(lab: Laboratory, settings: Settings) -> object:
    """Whether a fit takes the data."""
    config = lab.config(settings)
    try:
        refuse_poor(config, hpcxpcs.load(config), Silent())
    except HpcxpcsError as error:
        return str(error)
    return True


def kept(lab: Laboratory, settings: Settings) -> object:
    """Where prepared matrices are kept, and what is said about it."""
    said: list[str] = []
    found = load_for_run(lab.config(settings), lab.folder / "run", said.append)
    return found.kept is not None and str(found.kept.store.folder), said


TYPICAL = {"diffusion": 2e3, "reference_transport": 2e3, "sample_transport": 4e3, "shear_rate": 0.1, "velocity": 1e3}
TYPICAL |= {"exponent": 0.1, "offset": 0.01, "fraction": 0.4, "growth": 0.1, "instant": 1.0, "angle": 5.0}
"""Values of parameters by the rate of an amplitude, or by their kind."""


def curve(lab: Laboratory, settings: Settings) -> object:
    """The model at typical parameters, to six digits."""
    config = lab.config({**settings, "initial_parameters.fixed_parameters": {}})
    model = model_of(config, 0.0054, TimeGrid(0.0, 0.1, 40))
    theta = np.array([TYPICAL[one.rate if one.kind == "amplitude" else one.kind] for one in parameters_of(model.name)])
    t = np.arange(1, 40) * 0.1
    return digest(np.round(np.asarray(model.shape(theta, t[:, None], t[None, :], 30.0)), 6))


def prior(lab: Laboratory, settings: Settings) -> object:
    """The log prior density of D0 at a few values, up to a constant, and where it has mass."""
    config = lab.config(settings)
    resolved = resolved_parameters(config, scale_of(config, hpcxpcs.load(config)))
    terms = PriorTerms.of([item for item in resolved if item.parameter.name == "D0"])
    found = [float(terms.log_density(np.array([value]))) for value in (2e3, 1e4, 5e4)]
    return [round(value - found[0], 9) for value in found], (terms.terms[0].lower, terms.terms[0].upper)


def point(lab: Laboratory, settings: Settings) -> object:
    """Values, error bars and verdict of the point fit."""
    _, found = lab.run(settings)
    if isinstance(found, str):
        return found
    fit, scaling = found.point, found.point.scaling
    errors = fit.uncertainty if fit.robust_uncertainty is None else fit.robust_uncertainty
    return digest(fit.values, errors, fit.status, scaling.contrast, scaling.offset, scaling.contrast_uncertainty)


def search(lab: Laboratory, settings: Settings) -> object:
    """Where the starts of the point fit ended, and how much work it was."""
    _, found = lab.run(settings)
    assert isinstance(found, FitRun), found
    return [start.values.tolist() for start in found.point.starts], found.point.evaluations


def representation(lab: Laboratory, settings: Settings) -> object:
    """How the pairs are represented."""
    _, found = lab.run(settings)
    assert isinstance(found, FitRun), found
    compression = found.point.compression
    return compression.provider, compression.cells, compression.nodes, compression.error


def draws(lab: Laboratory, settings: Settings) -> object:
    """The draws of the posterior."""
    folder, found = lab.run(settings)
    assert isinstance(found, FitRun), found
    with np.load(folder / "results" / "cmc" / "samples.npz") as archive:
        return digest(archive["posterior_samples"], archive["contrast"])


def verdict(lab: Laboratory, settings: Settings) -> object:
    """What is concluded about the posterior."""
    _, found = lab.run(settings)
    assert isinstance(found, FitRun) and found.posterior is not None, found
    return found.posterior.route, found.posterior.verdict


def certificate(lab: Laboratory, settings: Settings) -> object:
    """How the check against all data came out."""
    folder, _ = lab.run(settings)
    found = json.loads((folder / "results" / "cmc" / "diagnostics.json").read_text())["certificate"]
    return found["k_hat"], found["ess"]


def judgement(lab: Laboratory, settings: Settings) -> object:
    """Whether chains pass whose R-hat is 1.05, with 300 effective draws, 3 % divergences and a BFMI of 0.3."""
    one = np.ones(1)
    found = Mixing(1.05 * one, 300.0 * one, 300.0 * one, one, one)
    lenient = {f"optimization.cmc.validation.{key}": value for key, value in LENIENT.items()}
    thresholds = thresholds_of(lab.config({**lenient, **settings}))
    return judge(["D0"], found, divergences=3, draws=100, bfmi=0.3, thresholds=thresholds).passed


LENIENT = {"max_r_hat": 1.1, "min_ess": 200, "min_bfmi": 0.2, "max_divergence_rate": 0.05}


def without_a_shard(lab: Laboratory, settings: Settings) -> object:
    """What is concluded when one of two shards is missing."""
    whole, _ = lab.run(settings)
    folder = Path(shutil.copytree(whole, whole.with_name(f"{whole.name}-partial")))
    for path in (*folder.glob("shards/*00001*"), folder / "complete.json"):
        path.unlink()
    with StopRequest() as stop:
        executor = InProcess(lazily(task_function), stop)
        found = continued(folder, executor=executor, reporter=Silent(), gather_only=True, partial=True)
    assert found.posterior is not None
    return found.posterior.words


def processes(lab: Laboratory, settings: Settings) -> object:
    """How many workers were started; the draws are those of the usual posterior."""
    folder, found = lab.run(settings)
    assert isinstance(found, FitRun), found
    assert draws(lab, settings) == draws(lab, POSTERIOR)
    return sum(event["event"] == "worker" for event in read_events(folder / "events.jsonl"))


def workers_on_four_cores(lab: Laboratory, settings: Settings) -> object:
    """How many workers are started on a machine with four cores."""
    before = pipeline_settings.usable_cores
    pipeline_settings.usable_cores = lambda: 4  # type: ignore[assignment]
    try:
        return pipeline_settings.worker_count(lab.config({**settings, "runtime.workers": "auto"}))
    finally:
        pipeline_settings.usable_cores = before  # type: ignore[assignment]


def checkpoints(lab: Laboratory, settings: Settings) -> object:
    """Which files of shards there are, former checkpoints among them; the draws are those of the usual posterior."""
    folder, _ = lab.run(settings)
    assert draws(lab, settings) == draws(lab, POSTERIOR)
    return sorted(path.name for path in folder.glob("shards/*.h5"))


def compiled(lab: Laboratory, settings: Settings) -> object:
    """Whether code that is compiled after a fit has begun goes to the laboratory's own folder."""
    compile_cache(lab.config(settings).runtime.compilation_cache_dir)
    factor = len(list(lab.folder.iterdir())) + len(settings) / 7.0  # code that was never compiled before
    jax.jit(lambda x: factor * x)(np.ones(3)).block_until_ready()
    return any(path.is_file() for path in (lab.folder / "compiled").rglob("*"))


def place(lab: Laboratory, settings: Settings) -> object:
    """The folder of a run that is not told one."""
    return pipeline_settings.run_folder(lab.config(settings))


def files(lab: Laboratory, settings: Settings) -> object:
    """The names of what is written, logs aside."""
    _, found = lab.run(settings)
    assert isinstance(found, FitRun), found
    return sorted(str(path.relative_to(found.results)) for path in found.results.rglob("*"))


def logs(lab: Laboratory, settings: Settings) -> object:
    """The files of the log, and the levels of their lines."""
    folder, _ = lab.run(settings)
    paths = sorted((folder / "logs").iterdir())
    lines = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    return [path.name.partition(".")[2] for path in paths], sorted({line["level"] for line in lines})
