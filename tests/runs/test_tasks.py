"""Tasks have one name and one file each, and the longest come first."""

from operator import attrgetter

import pytest

from hpcxpcs.runs.plan import Task, longest_first, new_task


@pytest.mark.parametrize(
    ("kind", "index", "name", "file"),
    [
        ("shard", 12, "shard-00012", "shards/00012.h5"),
        ("exact", 2, "exact-00002", "exact/00002.h5"),
        ("check", 123456, "check-123456", "checks/123456.h5"),
    ],
)
def test_given_kind_and_index_then_name_and_file_follow(kind, index, name, file):
    task = new_task(kind, index)
    assert (task.name, task.file) == (name, file)


@pytest.mark.parametrize(
    ("name", "kind", "index"),
    [
        ("shard-00001", "shard", 2),
        ("../../x", "shard", 1),
        ("other-00001", "other", 1),
        ("shard--0001", "shard", -1),
    ],
)
def test_given_a_name_that_does_not_fit_then_it_is_refused(name, kind, index):
    with pytest.raises(ValueError, match="not a task"):
        Task(name, kind, index)


def test_given_tasks_then_the_longest_is_first_and_equal_ones_are_in_the_same_order_for_everyone():
    tasks = [new_task("shard", 1), new_task("check", 0), new_task("shard", 0), new_task("exact", 0, 9.0)]
    cost = attrgetter("cost")
    names = [task.name for task in longest_first(tasks, cost)]
    assert names == ["exact-00000", "check-00000", "shard-00000", "shard-00001"]
    assert longest_first(reversed(tasks), cost) == longest_first(tasks, cost)
