"""What a run leaves in RUN/logs, what the summary says of it, `hpcxpcs logs`, and `--log-level`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from hpcxpcs.cli import main
from tests.cli.fitting import QUICK, fit, read_json, simulated
from tests.small_problem import small_problem

SHARDS = 2


@pytest.fixture(scope="module", autouse=True)
def no_level_of_the_user():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HPCXPCS_LOG_LEVEL", raising=False)
        yield


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulated(tmp_path_factory.mktemp("measured"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run of two shards in two worker processes."""
    folder = tmp_path_factory.mktemp("posterior")
    settings = small_problem(folder, SHARDS, workers=2)
    assert main(["fit", str(settings), "--run", str(folder / "run")]) in (0, 3)
    return folder / "run"


def lines_of(run: Path, role: str = "") -> list[dict]:
    """Every line of the logs of a role, each of which is strict JSON."""
    found = []
    for path in sorted((run / "logs").glob(f"{role}*.jsonl")):
        for text in path.read_text("utf-8").splitlines():
            (run.parent / "line.json").write_text(text, "utf-8")
            found.append(read_json(run.parent / "line.json"))
    return found


def call(capture: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `hpcxpcs ARGUMENTS` in this process."""
    capture.readouterr()
    code = main([str(argument) for argument in arguments])
    return code, *capture.readouterr()


def test_given_a_run_then_its_leader_and_each_worker_have_a_log_of_their_own(finished: Path) -> None:
    names = [path.name for path in (finished / "logs").glob("*.jsonl")]
    assert sorted(name.partition("-")[0] for name in names) == ["lead", "worker", "worker"]
    run_id = json.loads((finished / "plan.json").read_text())["run_id"]
    assert {line["run"] for line in lines_of(finished)} == {run_id}
    for name in names:
        (run_folder_line, *_, last) = (json.loads(text) for text in (finished / "logs" / name).read_text().splitlines())
        assert run_folder_line["event"] == "begin" and last["event"] == "process"
        assert f"-{last['host']}-{last['pid']}.jsonl" in name


def test_given_a_worker_then_its_lines_know_their_shard_and_how_the_chains_did(finished: Path) -> None:
    chains = {line["shard"]: line for line in lines_of(finished, "worker") if line.get("event") == "chains"}
    assert set(chains) == set(range(SHARDS))
    for shard, line in chains.items():
        assert line["task"] == f"shard-{shard:05}" and line["rank"] in (1, 2)
        assert line["divergences"] >= 0 and len(line["r_hat"]) == len(line["ess_bulk"]) > 0
    done = [line for line in lines_of(finished, "worker") if line.get("event") == "task"]
    assert {line["shard"] for line in done} == set(range(SHARDS))
    assert all(line["peak_memory_bytes"] >= line["memory_bytes"] / 2 > 0 for line in done)


def test_given_the_leader_then_its_log_has_every_phase_and_every_start(finished: Path) -> None:
    lines = lines_of(finished, "lead")
    phases = [line["of"] for line in lines if line.get("event") == "phase"]
    assert phases[0].startswith("reading") and phases[-1].startswith("drawing")
    assert f"sampling {SHARDS} shards with 2 workers" in phases
    costs = [line["cost"] for line in lines if line.get("event") == "start"]
    assert len(costs) >= 3 and all(cost > 0.0 for cost in costs)
    assert [line["outcome"] for line in lines if line.get("event") == "fit"][-1] == "converged"
    assert [line["k_hat"] for line in lines if line.get("event") == "certificate"]


def test_given_a_run_then_the_summary_counts_phases_processes_and_messages_of_all(finished: Path) -> None:
    summary = read_json(finished / "results" / "summary.json")
    phases = {phase["phase"]: phase for phase in summary["phases"]}
    assert phases["shard"]["times"] == SHARDS and phases["shard"]["peak_memory_bytes"] > 10_000_000
    assert all(phase["seconds"] >= 0.0 and phase["peak_of"] in ("phase", "process") for phase in phases.values())
    assert next(iter(phases)).startswith("reading")
    processes = summary["processes"]
    assert processes["count"] == len(processes["listed"]) == 3
    assert {one["role"] for one in processes["listed"]} == {"lead", "worker"}
    assert processes["peak_memory_bytes"] == max(one["peak_memory_bytes"] for one in processes["listed"])
    assert sum(one["tasks"] for one in processes["listed"] if one["role"] == "worker") == SHARDS
    grave = [line for line in lines_of(finished) if line["level"] in ("warning", "error")]
    messages = summary["messages"]
    assert messages["warnings"] + messages["errors"] == len(grave) and messages["complete"]
    assert summary["metrics"]["num_shards"] == SHARDS and summary["metrics"]["reduced_chi_squared"] > 0.0
    assert summary["run_id"] == lines_of(finished)[0]["run"]
    assert read_json(finished / "results" / "provenance.json")["phases"] == summary["phases"]


def test_given_warnings_of_processes_that_died_when_gathered_then_the_summary_has_them(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stamp = {
        "time": "2030-01-01T00:00:00.000+00:00",
        "logger": "hpcxpcs.workers.work",
        "host": "node7",
        "pid": 7,
    }
    run_id = json.loads((finished / "plan.json").read_text())["run_id"]
    grave = [
        {**stamp, "level": level, "message": f"{level} of a dead worker", "run": run, "role": "array"}
        for level in ("warning", "error", "error")
        for run in (run_id, "another run")
    ]
    log = finished / "logs" / "array-node7-7.jsonl"
    log.write_text("".join(f"{json.dumps(line)}\n" for line in grave) + '{"torn')
    log.write_text(log.read_text().replace('", "', '","').replace('": "', '":"'))
    code, _, _ = call(capsys, "gather", finished)
    log.unlink()
    assert code in (0, 3)
    summary = read_json(finished / "results" / "summary.json")
    dead = [one for one in summary["processes"]["listed"] if one["host"] == "node7"]
    assert [(one["warnings"], one["errors"]) for one in dead] == [(1, 2)]
    assert "error of a dead worker" in [text["message"] for text in summary["messages"]["texts"]]
    assert summary["phases"][0]["phase"].startswith("reading"), "phases of earlier processes are still known"
    assert [path.name.partition("-")[0] for path in (finished / "logs").glob("gather*")] == ["gather"]


def test_given_logs_then_each_line_is_shown_as_people_read_it(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = call(capsys, "logs", finished, "--lines", 3)
    assert code == 0 and out.count("==> ") >= 5
    assert re.search(r"^\d\d:\d\d:\d\d\.\d{3} info    \[run=\w{8} rank=\d shard=\d\] shard-0000\d", out, re.MULTILINE)
    assert '{"time"' not in out


def test_given_logs_of_a_shard_then_other_shards_are_left_out(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = call(capsys, "logs", finished, "--shard", 1)
    assert "shard=1]" in out and "shard=0]" not in out and "R-hat" in out


def test_given_logs_of_a_level_then_lighter_lines_are_left_out(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = call(capsys, "logs", finished, "--level", "error")
    assert "no line of level error or above" in out
    _, out, _ = call(capsys, "logs", finished, "--level", "info")
    assert "R-hat" in out and "tasks are done" not in out


def test_given_a_point_fit_then_it_has_a_log_too(
    config: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert fit(capfd, config, tmp_path / "run", *QUICK).code == 0
    assert fit(capfd, config, tmp_path / "run", *QUICK).code == 0
    (log,) = (tmp_path / "run" / "logs").iterdir()
    lines = lines_of(tmp_path / "run")
    assert log.name.startswith("lead-") and len({line["run"] for line in lines}) == 2
    summary = read_json(tmp_path / "run" / "results" / "summary.json")
    assert summary["run_id"] == lines[-1]["run"]
    assert summary["processes"]["count"] == 1 and summary["messages"]["errors"] == 0
    assert len([phase for phase in summary["phases"] if phase["phase"].startswith("reading")]) == 1
    assert "the process ends" in call(capfd, "logs", tmp_path / "run")[1]


def test_given_data_that_are_refused_then_no_run_folder_is_made(
    config: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    outcome = fit(capfd, config, tmp_path / "run", "analyzer_parameters.end_frame=4000")
    assert outcome.code == 1 and not (tmp_path / "run").exists()


def test_given_a_log_that_cannot_be_written_then_it_is_said_once_and_the_answer_is_there(
    config: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "logs").write_text("in the way")
    outcome = fit(capfd, config, tmp_path / "run", *QUICK)
    assert outcome.code == 0 and "verdict" in outcome.out
    assert outcome.err.count("the run goes on without this log") == 1
    summary = read_json(tmp_path / "run" / "results" / "summary.json")
    assert summary["phases"][0]["phase"].startswith("reading")
    assert summary["messages"]["complete"] is False


@pytest.mark.parametrize(
    ("given", "phases", "lines"),
    [
        (("--log-level", "info"), True, False),
        (("--log-level", "DEBUG"), True, True),
        (("--log-level", "warning"), False, False),
        (("--log-level", "error"), False, False),
        (("--set", "logging.level=warning"), False, False),
        (("--set", "logging.level=warning", "--log-level", "info"), True, False),
    ],
)
def test_given_a_level_then_the_terminal_shows_as_much(
    given: tuple[str, ...],
    phases: bool,
    lines: bool,
    config: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    outcome = fit(capfd, config, tmp_path / "run", *QUICK, options=given)
    assert outcome.code == 0 and "verdict" in outcome.out
    assert ("] reading flow.hdf" in outcome.err) is phases
    assert ("hpcxpcs.inference.scout: start 1" in outcome.err) is lines
    assert [line for line in lines_of(tmp_path / "run") if line["message"] == "reading flow.hdf"]


def test_given_error_then_warnings_are_for_the_log_alone(
    config: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert fit(capfd, config, tmp_path / "run", *QUICK).code == 0
    another = (*QUICK, "analyzer_parameters.end_frame=39")
    outcome = fit(capfd, config, tmp_path / "run", *another, options=("--log-level", "error"))
    assert outcome.code == 0 and "another configuration" not in outcome.err
    assert [line["level"] for line in lines_of(tmp_path / "run") if "another configuration" in line["message"]] == [
        "warning"
    ]


@pytest.mark.parametrize("command", ["fit", "resume", "work", "gather", "submit"])
def test_given_a_bad_level_then_the_levels_are_named(
    command: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = call(capsys, command, config, "--log-level", "loud")
    assert code == 2 and "'loud' is not one of 'debug', 'info', 'warning', 'error'" in err


def test_given_a_bad_level_in_environment_or_configuration_then_the_levels_are_named(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    outcome = fit(capfd, config, tmp_path / "run", "logging.level=loud")
    assert outcome.code == 2 and "logging.level" in outcome.err and "debug, info, warning" in outcome.err
    monkeypatch.setenv("HPCXPCS_LOG_LEVEL", "loud")
    outcome = fit(capfd, config, tmp_path / "run")
    assert outcome.code == 2 and "HPCXPCS_LOG_LEVEL='loud'" in outcome.err and "warning or error" in outcome.err


def test_given_another_section_logging_then_a_run_goes_on(
    finished: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    settings = yaml.safe_load((finished.parent / "flow.yaml").read_text())
    settings["logging"] = {"level": "warning", "max_size_mb": 1, "backup_count": 1}
    (tmp_path / "flow.yaml").write_text(yaml.safe_dump(settings))
    _, out, err = call(capsys, "fit", tmp_path / "flow.yaml", "--run", finished)
    assert "complete" in out and "cannot be continued" not in err


def test_given_submit_then_its_jobs_get_the_level(
    finished: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("submit", finished.parent / "flow.yaml", "--run", tmp_path / "run", "--dry-run", "--site")
    for site in ("generic-pbs", "laptop"):
        _, out, _ = call(capsys, *asked, site, "--log-level", "debug")
        scripts = out.count("#!/")
        assert scripts and out.count("export HPCXPCS_LOG_LEVEL=debug") == scripts
        assert "HPCXPCS_LOG_LEVEL" not in call(capsys, *asked, site)[1]
    monkeypatch.setenv("HPCXPCS_LOG_LEVEL", "warning")
    assert "export HPCXPCS_LOG_LEVEL=warning" in call(capsys, *asked, "generic-pbs")[1]
