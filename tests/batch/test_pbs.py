"""Jobs of PBS are submitted, looked at, signalled and cancelled, through a transport that is not a PBS (fake_pbs)."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from hpcxpcs.batch.jobs import Scheduler
from hpcxpcs.batch.pbs import Pbs
from hpcxpcs.errors import SchedulerProblem
from tests.batch.pbs_fixture import FakePbs
from tests.batch.recorded_answers import recorded_calls

ARRAY = "#!/bin/bash\n#PBS -N shards\n#PBS -J 0-3%2\n"


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a name that shells would take apart; PBS leaves the output of jobs where they are submitted."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "a folder; echo 'x'"
    folder.mkdir()
    return folder


def script(folder: Path, text: str, name: str = "job.pbs") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def pretend(folder: Path, monkeypatch: pytest.MonkeyPatch, program: str, text: str) -> None:
    """Put a program first on PATH that only does what `text` (Python) says."""
    place = folder / "pretended"
    place.mkdir(exist_ok=True)
    (place / program).write_text(f"#!{sys.executable} -S\nimport sys\n{text}\n")
    (place / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(place), prepend=":")


def test_given_a_script_then_it_runs_and_its_end_is_seen(fake_pbs: FakePbs, scripts: Path) -> None:
    pbs: Scheduler = Pbs()
    job = pbs.submit(script(scripts, "#!/bin/bash\n#PBS -N hello\nexit 3\n"))
    fake_pbs.wait(job)
    (look,) = pbs.look([job])
    assert (job, look.job, look.index, look.state, look.exit_code) == ("1.vm", "1.vm", None, "failed", 3)


def test_given_an_array_then_its_id_keeps_the_brackets_and_every_task_is_seen(fake_pbs: FakePbs, scripts: Path) -> None:
    fake_pbs.hold()
    pbs = Pbs()
    job = pbs.submit(script(scripts, ARRAY + "exit $PBS_ARRAY_INDEX\n"))
    assert job == "1[].vm"
    assert [look.state for look in pbs.look([job])] == ["waiting"] * 4
    fake_pbs.release()
    fake_pbs.wait(job)
    assert [(look.index, look.state) for look in pbs.look([job])] == [
        (0, "done"),
        (1, "failed"),
        (2, "failed"),
        (3, "failed"),
    ]


def test_given_a_job_after_an_array_then_it_starts_when_all_tasks_have_ended_in_any_way(
    fake_pbs: FakePbs, scripts: Path
) -> None:
    fake_pbs.hold()
    folder = shlex.quote(str(scripts))
    pbs = Pbs()
    array = pbs.submit(script(scripts, ARRAY + f"echo $PBS_ARRAY_INDEX >> {folder}/done; exit 1\n"))
    gather = pbs.submit(script(scripts, f"cp {folder}/done {folder}/seen\n", "gather"), after=array)
    assert pbs.look([gather])[0].word == "H"
    fake_pbs.release()
    fake_pbs.wait(gather)
    assert sorted((scripts / "seen").read_text().split()) == ["0", "1", "2", "3"]


@pytest.mark.parametrize("kind", ["array", "gather", "mpi"])
def test_given_the_recorded_scripts_of_runs_then_they_are_accepted(fake_pbs: FakePbs, kind: str) -> None:
    fake_pbs.set(queues=["long"], slots=0)
    file = Path(__file__).parent / "scripts" / f"pbs-{kind}.pbs"
    assert Pbs().submit(file) == ("1[].vm" if kind == "array" else "1.vm")


def test_given_a_job_to_wait_for_then_the_line_to_copy_is_what_submit_runs(scripts: Path) -> None:
    file = scripts / "job.pbs"
    line = Pbs().submit_line(file, after="1234[].server")
    assert shlex.split(line) == ["qsub", "-W", "depend=afterany:1234[].server", str(file)]
    assert "'depend=afterany:1234[].server'" in line
    assert shlex.split(Pbs().submit_line(file)) == ["qsub", str(file)]


def test_given_torque_then_waiting_for_an_array_has_a_word_of_its_own(scripts: Path) -> None:
    torque = Pbs("torque")
    assert "depend=afteranyarray:12[].s" in torque.submit_line(scripts / "a", after="12[].s")
    assert "depend=afterany:12.s" in torque.submit_line(scripts / "a", after="12.s")
    assert (torque.name, Pbs().name) == ("torque", "pbs")


def test_given_several_jobs_then_one_request_asks_for_all(
    fake_pbs: FakePbs, scripts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pbs = Pbs()
    jobs = [pbs.submit(script(scripts, "sleep 60\n")), pbs.submit(script(scripts, ARRAY + "sleep 60\n"))]
    asked = scripts / "asked"
    pretend(
        scripts,
        monkeypatch,
        "qstat",
        f"open({str(asked)!r}, 'a').write(repr(sys.argv[1:]) + chr(10))\n"
        f"import os; os.execv({str(fake_pbs.folder / 'bin' / 'qstat')!r}, sys.argv)",
    )
    looks = pbs.look([*jobs, "2[1].vm"])
    assert len(looks) == 1 + 4 + 1
    assert asked.read_text() == "['-xf', '-F', 'json', '-t', '1.vm', '2[].vm']\n"
    assert pbs.look([]) == ()


def test_given_a_job_that_has_been_forgotten_then_it_is_gone_and_the_others_are_seen(
    fake_pbs: FakePbs, scripts: Path
) -> None:
    pbs = Pbs()
    first, second = (pbs.submit(script(scripts, "exit 0\n")) for _ in range(2))
    fake_pbs.settle()
    fake_pbs.forget(first)
    assert [look.state for look in pbs.look([first, second])] == ["gone", "done"]


def test_given_a_server_without_history_then_ended_jobs_are_gone_and_running_ones_are_seen(
    fake_pbs: FakePbs, scripts: Path
) -> None:
    fake_pbs.set(history=False)
    pbs = Pbs()
    ended = pbs.submit(script(scripts, "exit 0\n"))
    fake_pbs.settle()
    running = pbs.submit(script(scripts, "sleep 60\n"))
    array = pbs.submit(script(scripts, ARRAY + "[ $PBS_ARRAY_INDEX != 0 ] && sleep 60; exit 3\n"))
    fake_pbs.wait("3[0].vm")
    fake_pbs.wait("3[2].vm", "R")
    looks = pbs.look([ended, running, array])
    assert [look.state for look in looks] == ["gone", "running", "gone", "running", "running", "waiting"]


def test_given_a_server_without_history_then_cancelling_ends_what_runs_and_waits(
    fake_pbs: FakePbs, scripts: Path
) -> None:
    fake_pbs.set(history=False)
    pbs = Pbs()
    array = pbs.submit(script(scripts, ARRAY + "sleep 60\n"))
    fake_pbs.wait("1[1].vm", "R")
    pbs.cancel([array])
    fake_pbs.settle()
    assert {look.state for look in pbs.look([array])} == {"gone"}


def test_given_waiting_tasks_that_one_qdel_skips_then_they_are_deleted_all_the_same(
    fake_pbs: FakePbs, scripts: Path
) -> None:
    fake_pbs.hold()
    pbs = Pbs()
    pbs.submit(script(scripts, ARRAY + "exit 0\n"))
    pbs.cancel([f"1[{index}].vm" for index in (1, 2, 3)])
    states = [look.state for look in pbs.look(["1[].vm"])]
    assert states == ["waiting", "cancelled", "cancelled", "cancelled"]


def test_given_tasks_that_no_qdel_deletes_then_it_is_said(
    fake_pbs: FakePbs, scripts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_pbs.hold()
    pbs = Pbs()
    job = pbs.submit(script(scripts, ARRAY + "exit 0\n"))
    pretend(scripts, monkeypatch, "qdel", "pass")
    with pytest.raises(SchedulerProblem, match=r"1\[0\]\.vm .*still wait"):
        pbs.cancel([job])


def test_given_json_with_broken_quotes_then_the_text_answer_is_read(
    fake_pbs: FakePbs, scripts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pbs = Pbs()
    job = pbs.submit(script(scripts, ARRAY + "exit 0\n"))
    fake_pbs.wait(job)
    real = fake_pbs.folder / "bin" / "qstat"
    pretend(
        scripts,
        monkeypatch,
        "qstat",
        f'import os\nif \'json\' in sys.argv: print(\'{{"Jobs": "a" "b"}}\')\nelse: os.execv({str(real)!r}, sys.argv)',
    )
    assert [look.state for look in pbs.look([job])] == ["done"] * 4


def test_given_running_waiting_ended_and_unknown_jobs_then_cancelling_them_is_no_error(
    fake_pbs: FakePbs, scripts: Path
) -> None:
    pbs = Pbs()
    ended = pbs.submit(script(scripts, "exit 0\n"))
    fake_pbs.settle()
    array = pbs.submit(script(scripts, ARRAY + "sleep 60\n"))
    fake_pbs.wait("2[0].vm", "R")
    pbs.cancel([array, ended, "99.vm"])
    fake_pbs.settle()
    looks = pbs.look([array])
    assert {look.state for look in looks} == {"cancelled"}
    assert [look.exit_code for look in looks] == [271, 271, None, None]
    assert looks[3].reason == "deleted; there is no record of its start"
    pbs.cancel([])


def test_given_one_task_then_only_that_is_cancelled(fake_pbs: FakePbs, scripts: Path) -> None:
    pbs = Pbs()
    pbs.submit(script(scripts, ARRAY + "[ $PBS_ARRAY_INDEX != 1 ] || sleep 60\n"))
    pbs.cancel(["1[1].vm"])
    fake_pbs.settle()
    assert [look.state for look in pbs.look(["1[].vm"])] == ["done", "cancelled", "done", "done"]


def test_given_a_refusal_then_the_problem_names_command_code_complaint_and_remedy(
    fake_pbs: FakePbs, scripts: Path
) -> None:
    with pytest.raises(SchedulerProblem) as caught:
        Pbs().submit(script(scripts, "#PBS -J 0-0\n"))
    for part in ("qsub", "exit code 2", "illegal -J value", "correct the script"):
        assert part in str(caught.value)


def test_given_a_server_that_does_not_answer_then_looking_and_cancelling_say_so(
    scripts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for call in recorded_calls("server_down.txt"):
        text = f"sys.stdout.write({call.printed!r}); sys.stderr.write({call.complaint!r}); sys.exit({call.code})"
        pretend(scripts, monkeypatch, call.words[0], text)
    refused = r"Connection refused.*server is not reached: try again later"
    for ask in (Pbs().look, Pbs().cancel):
        with pytest.raises(SchedulerProblem, match=f"(?s){refused}"):
            ask(["1.vm"])
    complaint = "Connection refused" + chr(10) + "qsub: cannot connect to server vm (errno=15010)"
    pretend(scripts, monkeypatch, "qsub", f"sys.exit({complaint!r})")
    with pytest.raises(SchedulerProblem, match=f"(?s){refused}") as caught:
        Pbs().submit(scripts / "job")
    assert "correct the script" not in str(caught.value)


def test_given_a_program_that_hangs_then_patience_ends(scripts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(scripts, monkeypatch, "qstat", "import time; time.sleep(60)")
    with pytest.raises(SchedulerProblem, match=r"no answer within 0\.2 s"):
        Pbs(patience=0.2).look(["1.vm"])


def test_given_no_pbs_then_the_problem_says_where_to_log_in(
    scripts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SchedulerProblem, match="qsub: cannot be started"):
        Pbs().submit(script(scripts, "exit 0\n"))


def test_given_an_answer_of_something_else_then_it_is_not_taken_for_an_empty_queue(
    scripts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(scripts, monkeypatch, "qstat", "print('job-ID  prior  name')")
    with pytest.raises(SchedulerProblem, match="what no PBS is known to"):
        Pbs().look(["1.vm"])


def test_given_an_id_that_is_none_then_no_program_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SchedulerProblem, match="no job id of PBS"):
        Pbs().cancel(["1.vm; rm -r /"])


def test_given_torques_text_then_it_is_asked_for_and_read(scripts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parent / "recorded" / "torque.txt").read_text()
    pretend(
        scripts,
        monkeypatch,
        "qstat",
        f"assert sys.argv[1:] == ['-f', '-1', '-t', '1234[].server.example.org', '9.x'], sys.argv\nprint({text!r})\n"
        "sys.stderr.write('qstat: Unknown Job Id Error 9.x' + chr(10)); sys.exit(153)",
    )
    looks = Pbs("torque").look(["1234[].server.example.org", "9.x"])
    assert [look.state for look in looks] == ["done", "cancelled", "running", "waiting", "gone"]
