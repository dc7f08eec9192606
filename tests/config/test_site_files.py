"""Which site is meant: by flag, variable, environment, host name or program; the user's files before those shipped."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcxpcs.config.site import find_site, load_site, shipped_folder, site_files, user_folder
from hpcxpcs.errors import ConfigError

Write = Callable[[str, str], Path]
PERLMUTTER = {"NERSC_HOST": "perlmutter"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment whose user has no sites yet and whose machine is not known."""
    monkeypatch.delenv("HPCXPCS_SITE", raising=False)
    return {"XDG_CONFIG_HOME": str(tmp_path / "config")}


@pytest.fixture
def mine(home: dict[str, str]) -> Write:
    """Write a site file of the user's own."""

    def written(name: str, text: str) -> Path:
        folder = user_folder(home)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return written


def no_program(name: str) -> str | None:
    return None


def chosen(environ: dict[str, str], *hostnames: str, given: str | None = None, program=no_program):
    found = find_site(given, environ, hostnames, program)
    return found.site.name, found.why


# --- choosing -------------------------------------------------------------------------------------------------------


def test_given_the_flag_then_it_wins_over_everything(home):
    environ = {**home, **PERLMUTTER, "HPCXPCS_SITE": "lcrc-bebop"}
    assert chosen(environ, "ilogin1", given="laptop") == ("laptop", "asked for by --site")


def test_given_the_variable_then_it_wins_over_what_is_recognised(home):
    name, why = chosen({**home, **PERLMUTTER, "HPCXPCS_SITE": "lcrc-bebop"}, "ilogin1")
    assert (name, why) == ("lcrc-bebop", "asked for by HPCXPCS_SITE=lcrc-bebop")


def test_given_the_environment_of_a_centre_then_it_is_recognised(home):
    name, why = chosen({**home, **PERLMUTTER}, "login07")
    assert (name, why) == ("nersc-perlmutter", "recognised by NERSC_HOST=perlmutter")


def test_given_another_value_of_that_variable_then_it_is_not(home):
    assert chosen({**home, "NERSC_HOST": "cori"}, "login07")[0] == "laptop"


@pytest.mark.parametrize(
    ("hostname", "name"),
    [
        ("polaris-login-02", "alcf-polaris"),
        ("x3002c0s7b1n0", "alcf-polaris"),
        ("x3002c0s7b1n0.hsn.cm.polaris.alcf.anl.gov", "alcf-polaris"),
        ("aurora-uan-0010", "alcf-aurora"),
        ("x4407c6s2b0n0", "alcf-aurora"),
        ("beboplogin3.lcrc.anl.gov", "lcrc-bebop"),
        ("bdwd-0017", "lcrc-bebop"),
        ("ilogin1", "lcrc-improv"),
        ("i475.lcrc.anl.gov", "lcrc-improv"),
        ("i475", "laptop"),
        ("my-polaris-login-02-copy.example", "laptop"),
    ],
)
def test_given_a_host_name_then_its_site(home, hostname, name):
    assert chosen(home, hostname)[0] == name


def test_given_a_short_name_that_nothing_knows_then_the_full_one_is_tried(home):
    name, why = chosen(home, "i475", "i475.lcrc.anl.gov")
    assert name == "lcrc-improv"
    assert "i475.lcrc.anl.gov" in why


@pytest.mark.parametrize(
    ("programs", "name"),
    [({"sbatch", "qsub"}, "generic-slurm"), ({"qsub"}, "generic-pbs"), (set(), "laptop")],
)
def test_given_an_unknown_machine_then_its_programs_decide(home, programs, name):
    found, why = chosen(home, "node1", program=lambda word: f"/bin/{word}" if word in programs else None)
    assert found == name
    assert "PATH" in why


def test_given_no_names_then_this_machine_is_asked_for_its_own(home):
    assert find_site(None, home, program=no_program).site.name in site_files(home)


# --- the user's own files ---------------------------------------------------------------------------------------------


def test_given_a_file_of_ones_own_with_a_shipped_name_then_it_hides_the_shipped_one(home, mine):
    mine("laptop", "description: mine\nscheduler: local\n")
    assert load_site("laptop", home).description == "mine"


def test_given_extends_of_the_same_name_then_it_changes_the_shipped_one(home, mine):
    path = mine(
        "alcf-polaris",
        "extends: alcf-polaris\naccount: {default: XPCS}\nqueues: {debug: {notes: quick}, demand: null}\n"
        "modules: [a]\n",
    )
    site, shipped = (
        load_site("alcf-polaris", home),
        load_site("alcf-polaris", {"XDG_CONFIG_HOME": "/nowhere"}),
    )
    assert site.source == path
    assert (site.account.required, site.account.default) == (True, "XPCS")
    assert site.queues["debug"].notes == "quick"
    assert site.queues["debug"].max_nodes == shipped.queues["debug"].max_nodes
    assert set(shipped.queues) - set(site.queues) == {"demand"}
    assert site.modules == ("a",)
    assert site.launcher == shipped.launcher


def test_given_extends_then_lists_are_replaced(home, mine):
    mine("mine", "extends: lcrc-improv\nmodules: [mpich]\n")
    assert load_site("mine", home).modules == ("mpich",)


def test_given_one_that_extends_a_recognised_site_then_it_is_recognised_first(home, mine):
    mine("mine", "extends: nersc-perlmutter\ndescription: mine\n")
    assert chosen({**home, **PERLMUTTER})[0] == "mine"


def test_given_a_chain_then_the_nearest_word_counts(home, mine):
    mine("base", "description: base\nscheduler: pbs\narray_throttle: 3\nscratch: /base\n")
    mine("middle", "extends: base\nscratch: /middle\n")
    mine("top", "extends: middle\ndescription: top\n")
    site = load_site("top", home)
    assert (site.description, site.scratch, site.array_throttle) == ("top", "/middle", 3)


def test_given_a_loop_then_it_is_refused_with_its_files(home, mine):
    mine("one", "extends: two\ndescription: a\nscheduler: pbs\n")
    mine("two", "extends: one\n")
    with pytest.raises(ConfigError, match="cannot extend itself") as caught:
        load_site("one", home)
    assert "two.yaml extends" in str(caught.value)


def test_given_a_file_that_extends_a_file_beside_it_then_the_path_starts_there(home, tmp_path):
    (tmp_path / "base.yaml").write_text("description: base\nscheduler: torque\n", encoding="utf-8")
    (tmp_path / "top.yaml").write_text("extends: ./base.yaml\ndescription: top\n", encoding="utf-8")
    assert load_site(tmp_path / "top.yaml", home).scheduler == "torque"


def test_given_a_mistake_in_the_extended_file_then_that_file_and_line_are_named(home, mine):
    mine("base", "description: base\nscheduler: pbs\nqueues:\n  a:\n    max_nodes: many\n")
    mine("top", "extends: base\nqueues: {b: {max_nodes: few}}\n")
    with pytest.raises(ConfigError) as caught:
        load_site("top", home)
    assert "base.yaml:5: queues.a.max_nodes" in str(caught.value)
    assert "top.yaml:2: queues.b.max_nodes" in str(caught.value)


def test_given_an_unknown_base_then_the_line_and_the_nearest_name(home, mine):
    mine("top", "# mine\nextends: alcf-polariss\n")
    with pytest.raises(ConfigError, match=r"top\.yaml:2: extends: there is no site") as caught:
        load_site("top", home)
    assert "did you mean 'alcf-polaris'?" in str(caught.value)


# --- names that are not there -----------------------------------------------------------------------------------------


def test_given_a_misspelt_name_then_the_nearest(home):
    with pytest.raises(ConfigError, match="did you mean 'nersc-perlmutter'"):
        load_site("nersc-perlmuter", home)


def test_given_a_strange_name_then_all_there_are_and_where_ones_own_go(home, mine):
    mine("our-cluster", "description: ours\nscheduler: pbs\n")
    with pytest.raises(ConfigError, match="there is no site 'zzzz'") as caught:
        load_site("zzzz", home)
    assert "our-cluster" in str(caught.value)
    assert "laptop" in str(caught.value)
    assert str(user_folder(home)) in str(caught.value)


def test_given_a_wrong_name_in_the_variable_then_the_variable_is_named(home):
    with pytest.raises(ConfigError, match="HPCXPCS_SITE=zzzz: there is no site"):
        find_site(None, {**home, "HPCXPCS_SITE": "zzzz"}, ())


def test_given_a_path_to_nothing_then_the_path_is_named(home, tmp_path):
    with pytest.raises(ConfigError, match="there is no such site file"):
        load_site(tmp_path / "absent.yaml", home)


def test_given_an_odd_path_then_it_is_read(home, tmp_path):
    path = tmp_path / "it's a $site.yaml"
    path.write_text("description: odd\nscheduler: pbs\n", encoding="utf-8")
    assert load_site(path, home).description == "odd"


# --- what the documentation shows -------------------------------------------------------------------------------------


def test_given_the_examples_of_the_readme_then_they_are_valid(home, mine):
    readme = (shipped_folder() / "README.md").read_text(encoding="utf-8")
    examples = re.findall(r"```yaml\n# ~/\.config/hpcxpcs/sites/([\w-]+)\.yaml(.*?)```", readme, re.DOTALL)
    assert [name for name, _ in examples] == ["alcf-polaris", "our-cluster"]
    for name, rest in examples:
        mine(name, f"#{rest}")
        assert load_site(name, home).name == name
    assert chosen(home, "login1.our.cluster")[0] == "our-cluster"
    assert load_site("alcf-polaris", home).account.default == "MyProject"
    assert load_site("our-cluster", home).queues["long"].max_walltime == 7 * 86400


def test_given_a_shipped_site_then_the_readme_lists_it():
    readme = (shipped_folder() / "README.md").read_text(encoding="utf-8")
    for path in shipped_folder().glob("*.yaml"):
        assert f"[{path.stem}]({path.name})" in readme


def test_given_a_broken_file_of_ones_own_then_it_is_named_where_sites_are_searched_and_harmless_elsewhere(home, mine):
    path = mine("broken", "description: mine\nscheduler: psb\n")
    with pytest.raises(ConfigError, match=re.escape(f"{path}:2: scheduler")):
        chosen(home, "node1")
    assert chosen(home, "node1", given="laptop")[0] == "laptop"
