"""What a site file may say, and how its mistakes are told: file, line, key, value, remedy."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcxpcs.config.site import (
    Account,
    NodeType,
    Queue,
    Site,
    load_site,
    read_walltime,
    shipped_folder,
    walltime_text,
)
from hpcxpcs.errors import ConfigError

SHIPPED = sorted(path.stem for path in shipped_folder().glob("*.yaml"))
SMALLEST = "description: a cluster\nscheduler: slurm\n"  # two lines, so `more` begins at line 3

Refused = Callable[[str], str]


@pytest.fixture
def site_file(tmp_path: Path) -> Callable[[str], Path]:
    """Write a site file of this text."""

    def written(text: str, name: str = "mine.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return written


@pytest.fixture
def refused(site_file: Callable[[str], Path]) -> Refused:
    """What the error says about the smallest site plus some text."""

    def found(more: str) -> str:
        with pytest.raises(ConfigError) as caught:
            load_site(site_file(SMALLEST + more))
        return str(caught.value)

    return found


@pytest.mark.parametrize("name", SHIPPED)
def test_given_a_shipped_site_then_it_is_valid_and_its_launcher_can_be_filled_in(name: str) -> None:
    site = load_site(shipped_folder() / f"{name}.yaml")
    counts = {"ranks": 8, "ranks_per_node": 4, "cores_per_rank": 2, "cpus_per_rank": 4, "nodes": 2}
    numbers = {"mpiexec": "mpiexec", **counts}
    words = [word.format(**numbers) for word in site.launcher]
    assert words
    assert not any("{" in word for word in words)
    assert any("8" in word for word in words), "the ranks are told to the launcher"


@pytest.mark.parametrize("name", SHIPPED)
def test_given_a_shipped_site_then_it_names_its_source_and_the_day(name: str) -> None:
    site = load_site(shipped_folder() / f"{name}.yaml")
    text = (shipped_folder() / f"{name}.yaml").read_text(encoding="utf-8")
    assert "# Source: " in text or "# Looked up 20" in text
    if site.queues:
        assert all("(20" in source for source in site.sources)
        assert any(source.startswith("https://") for source in site.sources)


def test_given_the_sites_of_the_design_then_all_are_shipped() -> None:
    assert SHIPPED == [
        "alcf-aurora",
        "alcf-polaris",
        "generic-pbs",
        "generic-slurm",
        "laptop",
        "lcrc-bebop",
        "lcrc-improv",
        "nersc-perlmutter",
    ]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("queus: {}", "mine.yaml:3: queus: is not a known key; did you mean 'queues'?"),
        ("scheduler: lsf", "is given in lines 2 and 3"),
        ("queues:\n  long:\n    max_node: 3", "mine.yaml:5: queues.long.max_node: is not a known key"),
        ("queues:\n  long:\n    max_node: 3", "did you mean 'max_nodes'?"),
        ("queues: {long: {max_nodes: 0}}", "queues.long.max_nodes: 0 must be at least 1 (most nodes of one"),
        ("queues: {long: 7}", "queues.long: 7 must be a section of keys"),
        ("queues: {long: {max_walltime: 3 days}}", 'max_walltime: "3 days" is not a time limit; write hours'),
        ("queues: {long: {max_walltime: 72}}", "max_walltime: 72 is not a time limit"),
        ("queues: {long: {max_walltime: 1:60:00}}", "is not a time limit"),
        ("queues: {long: {max_walltime: 0:00:00}}", "must be longer than 0:00:00"),
        ("queues: {long: {array: maybe}}", 'queues.long.array: "maybe" must be true or false'),
        ("queues: {long: {node: fat}}", 'queues.long.node: "fat" is not among nodes; no node type is'),
        ("nodes: {fat: {cores: 8}}\nqueues:\n  a: {node: fatt}", "mine.yaml:5: queues.a.node"),
        ("nodes: {fat: {cores: 8}}\nqueues:\n  a: {node: fatt}", "did you mean 'fat'?"),
        ("queues: {a: {exclusive: true}}", "queues.a.exclusive: true needs node"),
        ("queues: {a: {min_nodes: 4, max_nodes: 2}}", "queues.a.max_nodes: 2 must be at least min_nodes (4)"),
        (
            "queues: {a: {max_walltime: 1:00:00, default_walltime: 2:00:00}}",
            'queues.a.default_walltime: "2:00:00" is more than the limit of 1:00:00',
        ),
        (
            "queues: {a: {walltime_by_nodes: [{max_nodes: 9, max_walltime: 2:00:00}, "
            "{max_nodes: 5, max_walltime: 1:00:00}]}}",
            "must go from few nodes to many",
        ),
        ("queues: {'two words': {}}", "is not a name; use letters"),
        ("queues: {$(reboot): {}}", "is not a name; use letters"),
        ("queues: {debug: {}}\ndefault_queue: debgu", "mine.yaml:4: default_queue"),
        ("queues: {debug: {}}\narray_queue: debgu", "did you mean 'debug'?"),
        ("default_queue: debug", "is not among queues; no queue is described"),
        ("nodes: {cpu: {cores: many}}", 'nodes.cpu.cores: "many" is not a whole number'),
        ("nodes: {cpu: {cores: 4, memory: 512}}", 'write the unit, for example "4 GiB"'),
        ("hostnames: ['login[']", 'hostnames[0]: "login[" is not a regular expression'),
        ("launcher: [srun, '{rank}']", 'launcher[1]: "{rank}" has the placeholder {rank}; known: {mpiexec}, {ranks}'),
        ("launcher: [srun, '{rank}']", "did you mean 'ranks'?"),
        ("launcher: [srun, '{ranks']", "has a brace without its partner"),
        ('launcher: ["a\\nb"]', "must be one line of printable text"),
        ("queue_directive: --qos=normal", "has no place for the queue; write {queue} there"),
        ("queue_directive: --qos={name}{queue}", "has the placeholder {name}; known: {queue}"),
        (
            "directives: ['#SBATCH --exclusive']",
            'directives[0]: "#SBATCH --exclusive" begins with #; leave out',
        ),
        ('directives: ["-l a\\nrm -rf x"]', "must be one line of printable text"),
        ("modules: ['gcc; reboot']", "is not the name of a module"),
        ('setup: ["a\\nb"]', "must be one line of printable text"),
        ("account: {default: 'my project'}", "is not a name"),
        ("account: {requird: true}", "account.requird: is not a known key; did you mean 'required'?"),
        ("extends: [a]", "mine.yaml:3: extends: must be the name or the file of a site"),
    ],
)
def test_given_one_mistake_then_file_line_key_and_remedy(refused: Refused, more: str, expected: str) -> None:
    assert expected in refused(more + "\n")


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n- b\n", "a: [\n"])
def test_given_no_keys_at_all_then_the_error_names_the_file(site_file: Callable[[str], Path], text: str) -> None:
    with pytest.raises(ConfigError, match=r"mine\.yaml"):
        load_site(site_file(text))


def test_given_an_empty_file_then_the_remedy_is_about_sites(site_file: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match="extends: generic-slurm"):
        load_site(site_file(""))


def test_given_many_mistakes_then_all_are_listed(refused: Refused) -> None:
    text = refused("scratsh: x\nqueues: {a: {max_nodes: -1}}\naccount: {required: 3}\n")
    assert text.splitlines()[0].startswith("3 problems in ")


def test_given_the_smallest_site_then_nothing_is_limited(site_file: Callable[[str], Path]) -> None:
    site = load_site(site_file(SMALLEST))
    assert site.name == "mine"
    assert site.queues == {}
    assert site.setup_lines == ()
    assert site.account.required is False


def test_given_modules_and_setup_then_the_modules_come_first(site_file: Callable[[str], Path]) -> None:
    site = load_site(site_file(SMALLEST + "modules: [gcc/13.2, openmpi]\nsetup: [ulimit -s unlimited]\n"))
    assert site.setup_lines[-2:] == ("module load gcc/13.2 openmpi", "ulimit -s unlimited")


def test_given_a_shell_that_knows_no_modules_then_it_learns_of_them_or_says_so(
    site_file: Callable[[str], Path],
) -> None:
    lines = load_site(site_file(SMALLEST + "modules: [gcc/13.2]\n")).setup_lines
    known = 'module() { echo loads "$@"; }\n'
    for begin, expected in (("", 127), (known, 0)):
        script = "\n".join(["set -eo pipefail", begin, *lines, "set -u", "echo done"])
        child = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
        assert child.returncode == expected, child.stderr
    assert child.stdout == "loads load gcc/13.2\ndone\n"


def test_given_scratch_then_variables_are_filled_in_or_it_is_unknown(
    site_file: Callable[[str], Path],
) -> None:
    site = load_site(site_file(SMALLEST + "scratch: ${SCRATCH}/of/$USER\n"))
    assert site.scratch_folder({"SCRATCH": "/fast", "USER": "me"}) == Path("/fast/of/me")
    assert site.scratch_folder({"USER": "me"}) is None
    assert Site(description="a", scheduler="local").scratch_folder({}) is None


def test_given_steps_then_the_limit_grows_with_the_job(site_file: Callable[[str], Path]) -> None:
    steps = "[{max_nodes: 24, max_walltime: 3:00:00}, {max_nodes: 99, max_walltime: 6:00:00}]"
    site = load_site(
        site_file(SMALLEST + f"queues: {{prod: {{max_walltime: 24:00:00, walltime_by_nodes: {steps}}}}}\n")
    )
    prod = site.queues["prod"]
    hours = [prod.longest(nodes) for nodes in (1, 24, 25, 99, 100)]
    assert [None if limit is None else limit // 3600 for limit in hours] == [3, 3, 6, 6, 24]


@given(st.integers(min_value=1, max_value=10**8))
def test_given_any_time_limit_when_written_and_read_then_it_is_the_same(seconds: int) -> None:
    assert read_walltime(walltime_text(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"), [("0:00:01", 1), ("1:30:00", 5400), ("72:00:00", 259200), ("3-00:00:00", 259200)]
)
def test_given_a_time_limit_then_its_seconds(text: str, seconds: int) -> None:
    assert read_walltime(text) == seconds


@pytest.mark.parametrize(
    "field", [*Site.model_fields, *Queue.model_fields, *NodeType.model_fields, *Account.model_fields]
)
def test_given_a_key_then_the_readme_of_the_sites_explains_it(field: str) -> None:
    readme = (Path(__file__).parents[2] / "site_configs" / "README.md").read_text(encoding="utf-8")
    assert f"`{field}`" in readme
