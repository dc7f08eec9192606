"""Job scripts say what was asked, look as recorded, and carry every path to the program unchanged."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hpcxpcs.batch.jobs import Job, Resources
from hpcxpcs.batch.scripts import ShellText, pbs_name, script_text
from hpcxpcs.errors import ConfigError
from hpcxpcs.log.lines import log_task
from tests.batch.requests import DIALECTS, KINDS, expected_files, full_job, plain_job

SHELLCHECK = Path(sys.executable).with_name("shellcheck")
ODD = [
    *(
        "a b",
        "trailing ",
        "it's",
        'say "x"',
        "'",
        '"',
        "",
        "-dash",
        "--",
        "#hash",
        "~",
        "A=b",
        "ünï",
        "\U0001f52c",
    ),
    *("$HOME", "$", "`id`", "$(id)", "!x", "a;b&c|d", "*?[x]", "{a,b}", "100%j", "back\\slash", "\\"),
    *("new\nline", "tab\t", "cr\r\n", "\x01", "\x7f", "\u00a0", "\u2028", "‘curly’ “quotes”", "\udcff"),
]
letters = st.characters(codec="utf-8", exclude_characters="\0") | st.sampled_from(
    "'\"\\$`!\n\r\t #%~*;&|<>(){}[]=-\udcff"
)
texts = st.sampled_from(ODD) | st.text(letters, max_size=25)
folder_names = texts.map(lambda text: text.replace("/", "-")).filter(lambda text: text not in ("", ".", ".."))


def headers_of(script: str) -> list[str]:
    return [line.split(" ", 1)[1] for line in script.splitlines() if re.match("#(SBATCH|PBS) ", line)]


def checked(*scripts: Path) -> str:
    """What shellcheck has against some scripts."""
    command = [SHELLCHECK, "--shell=bash", "--", *scripts]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout + found.stderr


# ---- what scripts look like ----


@pytest.mark.parametrize(("path", "text"), [*expected_files()], ids=lambda value: getattr(value, "name", ""))
def test_given_a_job_then_its_script_is_the_recorded_one(path, text):
    assert path.read_text(encoding="utf-8") == text, (
        "if this change is meant: python -m tests.batch.requests, and look at the difference"
    )


def test_given_the_recorded_scripts_then_shellcheck_has_nothing_to_say():
    assert checked(*(path for path, _ in expected_files())) == ""


def test_given_the_recorded_scripts_then_there_are_no_others():
    for folder in {path.parent for path, _ in expected_files()}:
        kept = {path for path in folder.iterdir() if path.suffix in (".sbatch", ".pbs")}
        assert kept == {path for path, _ in expected_files() if path.parent == folder}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("kind", KINDS)
def test_given_any_job_then_headers_come_before_the_first_command(dialect, kind):
    lines = script_text(full_job(dialect, kind)).splitlines()
    first_command = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    assert not any(line.startswith(("#SBATCH", "#PBS")) for line in lines[first_command:])
    assert "\t" not in "".join(lines) and all(line == line.rstrip() for line in lines)


def test_given_names_of_scripts_then_they_tell_the_scheduler():
    names = [full_job(dialect, kind).script.name for dialect in DIALECTS for kind in ("array", "gather")]
    assert names == ["array.sbatch", "gather.sbatch", *("array.pbs", "gather.pbs") * 2]


# ---- what headers ask for ----


def test_given_slurm_then_all_resources_are_asked_for_and_the_log_is_named_for_the_task(tmp_path):
    resources = Resources(walltime=7200, nodes=3, processes=4, cores=2, memory=2**30 + 1)
    job = plain_job(
        "slurm", tmp_path, "x", kind="array", tasks=20, at_once=5, resources=resources, queue="q", account="a"
    )
    assert headers_of(script_text(job)) == [
        "--job-name=job",
        f"--output={tmp_path}/logs/array-%A_%a.log",
        "--open-mode=append",
        "--requeue",
        "--signal=B:USR1@120",
        "--time=02:00:00",
        "--nodes=3",
        "--ntasks-per-node=4",
        "--cpus-per-task=2",
        "--mem=1025M",
        "--partition=q",
        "--account=a",
        "--array=0-19%5",
    ]


def test_given_a_short_slurm_job_then_it_is_not_warned_as_soon_as_it_starts(tmp_path):
    job = plain_job("slurm", tmp_path, "x", resources=Resources(walltime=300))
    assert "--signal=B:USR1@60" in headers_of(script_text(job))


def test_given_pbs_then_nodes_are_a_selection_of_chunks(tmp_path):
    resources = Resources(walltime=90 * 3600, nodes=3, processes=4, cores=2, memory=2**30)
    job = plain_job(
        "pbs", tmp_path, "x", kind="array", tasks=20, at_once=5, resources=resources, queue="q", account="a"
    )
    assert headers_of(script_text(job)) == [
        "-N job",
        "-S /bin/bash",
        "-j oe",
        f"-o {tmp_path}/logs/",
        "-r y",
        "-l select=3:ncpus=8:mpiprocs=4:mem=1024mb",
        "-l walltime=90:00:00",
        "-q q",
        "-A a",
        "-J 0-19%5",
    ]


def test_given_torque_then_nodes_have_processors_and_memory_counts_for_the_whole_job(tmp_path):
    resources = Resources(walltime=60, nodes=3, processes=4, cores=2, memory=2**30)
    job = plain_job("torque", tmp_path, "x", kind="array", tasks=20, resources=resources)
    found = headers_of(script_text(job))
    assert {"-l nodes=3:ppn=8", "-l mem=3072mb", "-t 0-19"} <= set(found)


@pytest.mark.parametrize("dialect", ["pbs", "torque"])
def test_given_one_task_then_pbs_gets_a_plain_job_because_it_refuses_such_arrays(dialect, tmp_path):
    script = script_text(plain_job(dialect, tmp_path, "x", kind="array", tasks=1))
    assert not any(line.startswith(("-J", "-t")) for line in headers_of(script))


def test_given_a_directive_that_we_write_too_then_it_replaces_ours(tmp_path):
    directives = ("-l select=1:system=polaris:ncpus=4", "-l place=scatter", "-r n")
    found = headers_of(script_text(plain_job("pbs", tmp_path, "x", directives=directives)))
    assert [line for line in found if line.startswith(("-l select", "-r"))] == [directives[0], directives[2]]
    found = headers_of(script_text(plain_job("slurm", tmp_path, "x", directives=("--mem=0", "--nodes 7"))))
    assert [line for line in found if line.startswith(("--mem", "--nodes"))] == ["--mem=0", "--nodes 7"]


def test_given_any_job_name_then_pbs_gets_one_that_it_takes():
    names = [pbs_name(text) for text in ("shear series of many", "123", "-x", "ünï", "a\tb", "", "ok_1-2")]
    assert names == ["shear-series-of", "x123", "x-x", "x-n-", "a-b", "x", "ok_1-2"]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("queue", "long\n#SBATCH --uid=0"),
        ("queue", "a b"),
        ("account", "x;y"),
        ("account", "--flag"),
        ("name", "two\nlines"),
        ("name", "\udcff"),
        ("directives", ("-l a\n-l b",)),
        ("directives", ("place=scatter",)),
        ("environment", {"A B": "1"}),
        ("environment", {"1A": "1"}),
        ("environment", {"A": "zero\0byte"}),
        ("setup", ("module\r",)),
        ("command", ()),
        ("command", ("x", "zero\0byte")),
        ("tasks", 0),
        ("at_once", 0),
        ("run", Path("relative/run")),
    ],
    ids=repr,
)
def test_given_what_no_script_can_carry_then_it_is_refused_by_name(dialect, field, value, tmp_path):
    job = dataclasses.replace(plain_job(dialect, tmp_path, "x", kind="array", tasks=2), **{field: value})
    with pytest.raises(ConfigError) as problem:
        script_text(job)
    words = {"directives": "directive", "run": "run folder"}.get(field, field)
    assert words in str(problem.value) or "zero byte" in str(problem.value)


@pytest.mark.parametrize("field", ["walltime", "nodes", "processes", "cores", "memory"])
def test_given_nothing_of_a_resource_then_it_is_refused_by_name(field, tmp_path):
    resources = dataclasses.replace(Resources(walltime=60), **{field: 0})
    with pytest.raises(ConfigError, match=field):
        script_text(plain_job("slurm", tmp_path, "x", resources=resources))


# ---- odd paths ----


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a b", '"FOLDER/a b/logs/gather-%j.log"'),
        ("100%j", "FOLDER/100%%j/logs/gather-%j.log"),
        ('say "x"', r'"FOLDER/say \"x\"/logs/gather-%j.log"'),
        ("$HOME #1", '"FOLDER/$HOME #1/logs/gather-%j.log"'),
        ("new\nline", None),
        ("back\\slash", None),
        ("\udcff", None),
    ],
)
def test_given_an_odd_run_folder_then_slurms_header_names_it_only_if_slurm_can_read_that(name, written, tmp_path):
    """All tried on Slurm 22.05: double quotes and %% work, a backslash switches the %-patterns off."""
    script = script_text(plain_job("slurm", tmp_path / name, "x"))
    outputs = [line for line in headers_of(script) if line.startswith("--output")]
    assert outputs == ([f"--output={written.replace('FOLDER', str(tmp_path))}"] if written else [])
    assert ("the same file" in script) == bool(written)


@pytest.mark.parametrize("name", ["a b", "host:path", "a,b", "$x", "new\nline", "ünï"])
def test_given_an_odd_run_folder_then_pbs_keeps_its_own_output_where_it_was_submitted(name, tmp_path):
    script = script_text(plain_job("pbs", tmp_path / name, "x"))
    assert not any(line.startswith("-o") for line in headers_of(script))
    assert "where it was submitted" in script


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    """A stand-in program in a folder with an odd name: prints its arguments and a variable as JSON."""
    folder = tmp_path_factory.mktemp("it's $HOME")
    code = "import json, os, sys; print(json.dumps([*sys.argv[1:], os.environ.get('ODD', 'unset')]))"
    (folder / "shown.py").write_text(code)
    path = folder / "show it"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$(dirname "$0")/shown.py" "$@"\n')
    path.chmod(0o755)
    short = folder / "sleep"  # a stand-in too: scripts look once a second whether the program has ended
    short.write_text("#!/bin/sh\nexec /bin/sleep 0.01\n")
    short.chmod(0o755)
    return path


def shown(job: Job, folder: Path) -> list[str]:
    """Run a script for real, by bash as a scheduler does; what the program printed into the task's log."""
    script = folder / "job"
    script.write_text(script_text(job), encoding="utf-8")
    given = {
        "slurm": {"SLURM_JOB_ID": "12"},
        "pbs": {"PBS_JOBID": "12.server"},
        "torque": {"PBS_JOBID": "12.server"},
    }
    environ = {
        "PATH": f"{Path(job.command[0]).parent}:/usr/bin:/bin",
        "LC_ALL": "C.UTF-8",
        **given[job.scheduler],
    }
    ended = subprocess.run(["bash", script], env=environ, capture_output=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
    log = (job.logs / f"{job.kind}-12.log").read_text(encoding="utf-8", errors="surrogateescape")
    return json.loads(log.splitlines()[-1])


@given(folder_names, st.lists(texts, max_size=4), texts, st.sampled_from(DIALECTS))
@settings(max_examples=60)
@example("new\nline", ODD, "$x\n", "slurm")
@example("\udcff\r", ["--", "-n"], "", "pbs")
def test_given_odd_paths_then_the_program_gets_them_unchanged(
    program, tmp_path_factory, name, arguments, value, dialect
):
    folder = tmp_path_factory.mktemp("run")
    run = folder / name
    try:
        run.mkdir()
    except OSError:  # longer than file names may be
        return
    job = plain_job(dialect, run, str(program), str(run), *arguments, environment={"ODD": value})
    try:
        assert shown(job, folder) == [str(run), *arguments, value]
    finally:
        shutil.rmtree(folder)


@given(st.lists(folder_names, min_size=3, max_size=3), st.lists(texts, max_size=12), st.sampled_from(KINDS))
@settings(max_examples=8)
@example(["new\nline", "$HOME", "‘curly’"], ODD, "array")
def test_given_odd_paths_then_shellcheck_has_nothing_to_say(tmp_path_factory, names, arguments, kind):
    folder = tmp_path_factory.mktemp("scripts")
    scripts = []
    for dialect, name in zip(DIALECTS, names, strict=True):
        more = {"tasks": 4, "environment": {"ODD": name}, "launcher": ("mpiexec", "-n", "4")}
        job = plain_job(dialect, Path("/data") / name, "/opt/x y/bin/hpcxpcs", *arguments, kind=kind, **more)
        scripts.append(folder / dialect)
        scripts[-1].write_text(script_text(job), encoding="utf-8")
    assert checked(*scripts) == ""


def test_given_a_long_command_then_it_is_broken_over_lines_and_still_one_command(program, tmp_path):
    arguments = [f"--option-{number}=value {number}" for number in range(30)]
    job = plain_job("slurm", tmp_path, str(program), str(tmp_path), *arguments)
    assert max(map(len, script_text(job).splitlines())) <= 120
    assert shown(job, tmp_path) == [str(tmp_path), *arguments, "unset"]


def test_given_text_that_is_meant_for_the_shell_then_it_is_not_quoted(program, tmp_path):
    job = plain_job("pbs", tmp_path, str(program), ShellText('"$((1 + 1))"'), "$((1 + 1))")
    assert shown(job, tmp_path) == ["2", "$((1 + 1))", "unset"]


def test_given_the_id_of_a_job_then_the_log_of_a_task_is_known():
    assert log_task("12_3") == log_task("12[3].server") == "12_3"
    assert log_task("12") == log_task("12[]") == log_task("12[].server") == log_task("12.server") == "12"
    assert log_task("by-hand-7") == "by-hand-7"
