"""What a campaign fits: from patterns, q, windows, models and keys to a list of items, or to one clear error."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from hpcxpcs.config import Config, load_config
from hpcxpcs.data import formats
from hpcxpcs.data.formats import Stack
from hpcxpcs.errors import ConfigError
from hpcxpcs.pipeline.items import (
    Item,
    digest_of,
    item_from_record,
    items_of,
    manifest_text,
    recorded_item,
    single_items,
)

FRAMES = 12


def stored(path: Path, q: tuple[float, ...] = (0.005, 0.01), frames: int = FRAMES) -> Path:
    """A file with a matrix at two angles for every q."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 2 * len(q)
    c2 = np.ones((count, frames, frames))
    stack = Stack(c2=c2, q=np.repeat(q, 2), phi=np.tile([0.0, 90.0], len(q)), dt=0.1)
    formats.write("nexus", path, stack)
    return path


def campaign(folder: Path, settings: dict[str, Any], **more: Any) -> Config:
    """The configuration campaign.yaml with a section campaign and what else is given."""
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump({"campaign": settings, "analyzer_parameters": {"dt": 0.1}, **more}, sort_keys=False))
    return load_config(path)


def items(folder: Path, settings: dict[str, Any], **more: Any) -> list[Item]:
    more = {"analysis_mode": "static", **more}
    return items_of(campaign(folder, settings, **more))[1]


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    for temperature in (290, 300.5):
        for repeat in (1, 2):
            stored(tmp_path / f"data/A_T{temperature}K_r{repeat}.hdf")
    return tmp_path


PATTERN = "data/A_T{temperature:g}K_r{repeat:d}.hdf"


def test_given_a_pattern_then_its_parts_are_labels_and_every_combination_is_an_item(measured):
    settings = {"files": PATTERN, "q": "all", "windows": {"frames": 6, "step": 3}, "models": ["static", "laminar_flow"]}
    config, found = items_of(campaign(measured, {**settings, "vary": {"scaling.mode": ["individual", "averaged"]}}))
    assert len(found) == 4 * 2 * 3 * 2 * 2
    assert len({item.name for item in found}) == len(found)
    last = found[-1]
    assert last.labels == {
        "temperature": 300.5,
        "repeat": 2,
        "q": 0.01,
        "first_frame": 7,
        "last_frame": 12,
        "model": "laminar_flow",
        "scaling.mode": "averaged",
    }
    single = last.configure(config.variants)
    assert single.campaign is None and single.analysis_mode == "laminar_flow" and single.scaling.mode == "averaged"
    assert single.analyzer_parameters.scattering.wavevector_q == 0.01
    assert (single.analyzer_parameters.start_frame, single.analyzer_parameters.end_frame) == (7, 12)
    assert single.data_file == measured / "data/A_T300.5K_r2.hdf"
    assert last.cost == 2 * 0.5 * 6 * 5


def test_given_folders_that_tell_files_apart_then_names_do_too(tmp_path):
    for place in ("cold/run.hdf", "warm/run.hdf", "warm/deeper/run.hdf"):
        stored(tmp_path / place)
    assert [item.name for item in items(tmp_path, {"files": "*/run.hdf", "q": [0.01]})] == [
        "cold_run_q0.01",
        "warm_run_q0.01",
    ]
    found = items(tmp_path, {"files": "{kind}/**/run.hdf", "q": [0.01]})
    assert {item.labels["kind"] for item in found} == {"cold", "warm"}
    assert len(found) == 3


def test_given_a_range_of_q_then_rings_inside_are_taken(measured):
    found = items(measured, {"files": PATTERN, "q": {"min": 0.007}})
    assert {item.q for item in found} == {0.01}


def test_given_parameters_of_one_model_only_then_the_other_model_does_without(measured):
    space = {"bounds": [{"name": "D0", "min": 1.0, "max": 1e6}, {"name": "gamma_dot_t0", "min": 1e-6, "max": 1.0}]}
    config = campaign(
        measured,
        {"files": PATTERN, "q": [0.01], "models": ["static", "laminar_flow"]},
        parameter_space=space,
        initial_parameters={"fixed_parameters": {"phi0": 0.0, "D_offset": 0.0}},
    )
    static, flow = config.variants
    assert [entry.name for entry in static.parameter_space.bounds] == ["D0"]
    assert static.initial_parameters.fixed_parameters == {"D_offset": 0.0}
    assert flow.initial_parameters.fixed_parameters == {"phi0": 0.0, "D_offset": 0.0}


def test_given_a_file_that_cannot_be_read_then_it_is_an_item_all_the_same(measured):
    (measured / "data/A_T310K_r1.hdf").write_text("spoiled")
    found = items(measured, {"files": PATTERN, "q": "all", "windows": {"frames": 6}})
    spoiled = [item for item in found if item.labels["temperature"] == 310.0]
    assert [(item.q, item.frames, item.cost) for item in spoiled] == [(None, None, 0.0)]


WRONG = {
    "a pattern without files": (
        {"files": "data/B*.hdf"},
        ["campaign.yaml:4: campaign.files", "matches no file", "A_T290K_r1.hdf"],
    ),
    "a folder that is not there": ({"files": "nowhere/*.hdf"}, ["nowhere", "does not exist"]),
    "a part of no kind": ({"files": "data/A_T{temperature:x}K*.hdf"}, ["{temperature:x}", "{name:g}"]),
    "a part twice": ({"files": "data/{a}_{a}.hdf"}, ["{a} occurs twice"]),
    "a part that every item has": ({"files": "data/{q}.hdf"}, ["{q} is a label that every item has"]),
    "a list with a file that is not there": ({"files": ["data/B.hdf"]}, ["B.hdf does not exist"]),
    "a q in no file": ({"files": PATTERN, "q": [0.01, 0.03]}, ["campaign.q", "0.03 1/Å is in no file", "0.005, 0.01"]),
    "a range without q": (
        {"files": PATTERN, "q": {"min": 0.02, "max": 0.03}},
        ["no file has a q between 0.02 and 0.03"],
    ),
    "windows longer than a file": ({"files": PATTERN, "windows": {"frames": 13}}, ["windows of 13 frames", "has 12"]),
    "a window past the end": (
        {"files": PATTERN, "windows": [[1, 6], [7, 13]]},
        ["ends with frame 13", "has 12 frames"],
    ),
    "a group of no label": (
        {"files": PATTERN, "group_by": ["temprature"]},
        ["no label", "did you mean 'temperature'?"],
    ),
    "a window backwards": ({"files": PATTERN, "windows": [[6, 1]]}, ["campaign.windows", "[6, 1]"]),
    "an unknown model": ({"files": PATTERN, "models": ["statik"]}, ["campaign.models", "did you mean 'static'?"]),
    "an unknown key that varies": (
        {"files": PATTERN, "vary": {"scaling.mod": [1]}},
        ["campaign.vary.scaling.mod", "did you mean 'mode'?"],
    ),
    "a wrong value that varies": (
        {"files": PATTERN, "vary": {"scaling.mode": ["no"]}},
        ["campaign.vary.scaling.mode", '"no"'],
    ),
    "output that varies": ({"files": PATTERN, "vary": {"output.plots": [True]}}, ["never changes an answer"]),
    "a manifest that is not there": ({"files": {"manifest": "m.csv"}, "q": None}, ["m.csv", "cannot be read"]),
}


@pytest.mark.parametrize(("settings", "words"), WRONG.values(), ids=WRONG.keys())
def test_given_what_no_campaign_can_mean_then_one_error_says_where_and_what(measured, settings, words):
    with pytest.raises(ConfigError) as error:
        items(measured, {"q": [0.01], **settings})
    for word in words:
        assert word in str(error.value), str(error.value)


def test_given_two_files_of_one_name_in_a_list_then_a_manifest_is_what_helps(tmp_path):
    for place in ("a/run.hdf", "b/run.hdf"):
        stored(tmp_path / place)
    with pytest.raises(ConfigError, match=r"two items are called run_q0.01 .*manifest"):
        items(tmp_path, {"files": ["a/run.hdf", "b/run.hdf"], "q": [0.01]})


def test_given_a_manifest_of_a_campaign_then_it_means_the_same_items(measured):
    config, found = items_of(
        campaign(
            measured,
            {
                "files": PATTERN,
                "q": "all",
                "windows": {"frames": 6},
                "models": ["static", "laminar_flow"],
                "vary": {"scaling.mode": ["individual", "averaged"]},
            },
        )
    )
    (measured / "m.csv").write_text(manifest_text(config, found))
    listed, same = items_of(campaign(measured, {"files": {"manifest": "m.csv"}}, analysis_mode="static"))
    assert [item.name for item in same] == [item.name for item in found]
    for ours, theirs in zip(found, same, strict=True):
        assert ours.configure(config.variants).to_mapping() == theirs.configure(listed.variants).to_mapping()
        assert {**ours.labels} == {**theirs.labels}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tempo": "3"}, ['m.csv:1: "tempo" is no column']),
        ({"use": "perhaps"}, ['m.csv:2: use is "perhaps"']),
        ({"q": "much"}, ['m.csv:2: q is "much"']),
        ({"first_frame": "3"}, ["m.csv:2: first_frame and last_frame go together"]),
        ({"first_frame": "3", "last_frame": "40"}, ["m.csv:2: frames 3 to 40 are not in", "which has 12"]),
        ({"model": "statik"}, ['m.csv:2: model: "statik"', "did you mean 'static'?"]),
        ({"set:scaling.mod": "averaged"}, ["scaling.mod", "did you mean 'mode'?"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_given_a_wrong_manifest_then_its_line_is_named(measured, change, words):
    row = {"use": "yes", "name": "one", "file": "data/A_T290K_r1.hdf", "q": "0.01", **change}
    stream = io.StringIO()
    writer = csv.DictWriter(stream, row)
    writer.writeheader()
    writer.writerow(row)
    (measured / "m.csv").write_text(stream.getvalue())
    with pytest.raises(ConfigError) as error:
        items(measured, {"files": {"manifest": "m.csv"}})
    for word in words:
        assert word in str(error.value), str(error.value)


def test_given_rows_that_are_not_to_be_used_then_they_are_left_out(measured):
    text = "use,name,file,q\nno,one,data/A_T290K_r1.hdf,0.01\nyes,two,data/A_T290K_r2.hdf,0.005\n"
    (measured / "m.csv").write_text(text)
    assert [item.name for item in items(measured, {"files": {"manifest": "m.csv"}})] == ["two"]
    (measured / "m.csv").write_text(text.replace("yes", "no"))
    with pytest.raises(ConfigError, match="no row has yes"):
        items(measured, {"files": {"manifest": "m.csv"}})


def test_given_a_record_of_an_item_then_it_comes_back_and_its_digest_tells_what_decides_the_answer(measured):
    (item, *_) = items(measured, {"files": PATTERN, "q": "all", "windows": {"frames": 6}})
    assert item_from_record(recorded_item(item, "d")) == item
    digest = digest_of(item, {"a": 1})
    assert digest_of(replace(item, labels={"other": 1}), {"a": 1}) == digest
    for other in (
        replace(item, q=0.02),
        replace(item, frames=(2, 7)),
        replace(item, stamp=(1, 2)),
        replace(item, file=item.file.with_name("other.hdf")),
    ):
        assert digest_of(other, {"a": 1}) != digest
    assert digest_of(item, {"a": 2}) != digest


def test_given_labels_to_pool_then_items_that_differ_in_them_alone_are_one_joint_fit(measured):
    settings = {"files": PATTERN, "q": "all", "models": ["static", "laminar_flow"], "pool": ["repeat"]}
    config, found = items_of(campaign(measured, settings))
    assert [item.name for item in found][:2] == ["temperature290_q0.005_static", "temperature290_q0.005_laminar_flow"]
    assert len(found) == 2 * 2 * 2 and all(item.labels["sets"] == 2 for item in found)
    single = found[0].configure(config.variants)
    assert single.joint is not None and [one.label for one in single.joint.sets] == ["repeat 1", "repeat 2"]
    assert single.analyzer_parameters.scattering.wavevector_q == 0.005 and single.campaign is None
    assert item_from_record(recorded_item(found[0], "")) == found[0]
    assert len(list(csv.DictReader(io.StringIO(manifest_text(*single_items(config)))))) == 4 * 2 * 2


def test_given_q_and_repeats_to_pool_then_free_parameters_are_told_apart_by_the_labels_that_are_named(measured):
    settings = {"files": PATTERN, "q": "all", "pool": ["repeat", "q"], "pool_free": {"D0": "hierarchical"}}
    config, found = items_of(campaign(measured, settings, analysis_mode="static"))
    assert [item.labels for item in found] == [{"temperature": 290.0, "sets": 4}, {"temperature": 300.5, "sets": 4}]
    joint = found[0].configure(config.variants).joint
    assert joint.count == 4 and joint.free == {"D0": "hierarchical"}
    assert [one.q for one in joint.sets] == [0.005, 0.005, 0.01, 0.01]
    grouped = {**settings, "pool_free_by": ["q"]}
    config, found = items_of(campaign(measured, grouped, analysis_mode="static"))
    joint = found[0].configure(config.variants).joint
    assert joint.count == 2 and {one.label for one in joint.sets} == {"q 0.005", "q 0.01"}


def test_given_a_file_that_cannot_be_read_then_the_others_are_pooled_without_it(measured):
    (measured / "data/A_T290K_r3.hdf").write_text("spoiled")
    found = items(measured, {"files": PATTERN, "q": "all", "pool": ["repeat"]})
    assert [item.labels.get("sets") for item in found] == [2, 2, None, 2, 2]
    assert found[2].name == "A_T290K_r3" and not found[2].members


def test_given_one_more_repeat_then_the_pooled_item_is_another_fit_of_the_same_name(measured):
    settings = {"files": PATTERN, "q": [0.005], "pool": ["repeat"]}
    before = items(measured, settings)[0]
    stored(measured / "data/A_T290K_r3.hdf")
    after = items(measured, settings)[0]
    assert before.name == after.name and digest_of(before, {}) != digest_of(after, {})


POOLED_WRONG = {
    "no such label": ({"pool": ["repeats"]}, "campaign.pool: \"repeats\" is no label.*did you mean 'repeat'"),
    "windows": ({"pool": ["first_frame"], "windows": {"frames": 6}}, 'campaign.pool: "first_frame" cannot be pooled'),
    "free without a pool": ({"pool_free": ["D0"]}, "campaign.pool_free.*pools nothing"),
    "free of another model": ({"pool": ["repeat"], "pool_free": ["v0"]}, "campaign.pool_free.v0"),
    "by what is not pooled": ({"pool": ["repeat"], "pool_free": ["D0"], "pool_free_by": ["q"]}, "pool_free_by"),
}


@pytest.mark.parametrize("wrong", POOLED_WRONG)
def test_given_a_pool_that_cannot_be_then_key_and_line_are_named(wrong, measured):
    more, words = POOLED_WRONG[wrong]
    with pytest.raises(ConfigError, match=words) as raised:
        items(measured, {"files": PATTERN, "q": "all", **more})
    assert "campaign.yaml:" in str(raised.value)
