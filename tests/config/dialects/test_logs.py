"""What homodyne and heterodyne said about their logs, and what of it is meant here."""

from __future__ import annotations

from typing import Any

import pytest

from hpcxpcs.config.dialects.work import Fate, Record
from tests.config.dialects.old_files import read, records_of, refused, with_changes

BOTH = pytest.mark.parametrize("name", ["homodyne_static", "heterodyne_grouped"])


def told(logging: Any, name: str = "homodyne_static") -> dict[str, Record]:
    """What becomes of every key, by its name."""
    return records_of(with_changes(name, {"logging": logging}))


@BOTH
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("DEBUG", "debug"),
        ("trace", "debug"),
        ("INFO", "info"),
        ("Warning", "warning"),
        ("warn", "warning"),
        ("ERROR", "error"),
        ("CRITICAL", "error"),
    ],
)
def test_given_a_level_when_read_then_the_terminal_shows_as_much(name: str, theirs: str, ours: str) -> None:
    assert read(name, logging={"level": theirs}).logging.level == ours
    assert read(name, logging={"console": {"level": theirs}}).logging.level == ours
    assert told({"level": theirs}, name)["logging.level"].fate is Fate.REPLACED


@pytest.mark.parametrize(
    ("level", "console", "ours", "loser"),
    [
        ("INFO", "INFO", "info", "logging.console.level"),
        ("INFO", "WARNING", "warning", "logging.level"),
        ("ERROR", "DEBUG", "error", "logging.console.level"),
    ],
)
def test_given_two_levels_when_read_then_the_one_that_shows_less_wins(
    level: str, console: str, ours: str, loser: str
) -> None:
    section = {"level": level, "console": {"level": console}}
    assert read("homodyne_static", logging=section).logging.level == ours
    dropped = [record.key for record in told(section).values() if record.key.startswith("logging")]
    assert sorted(dropped) == ["logging.console.level", "logging.level"]
    assert told(section)[loser].fate is Fate.DROPPED and "shows less" in told(section)[loser].why


@BOTH
@pytest.mark.parametrize("off", [{"enabled": False}, {"console": {"enabled": False}}])
def test_given_a_log_that_is_off_when_read_then_the_terminal_shows_errors_alone(name: str, off: dict[str, Any]) -> None:
    section = {"level": "DEBUG", **off}
    assert read(name, logging=section).logging.level == "error"
    assert told(section, name)["logging.level"].why.endswith("enabled is false")


def test_given_a_log_that_is_on_when_read_then_its_level_counts() -> None:
    section = {"enabled": True, "level": "WARNING", "console": {"enabled": True}}
    assert read("homodyne_static", logging=section).logging.level == "warning"


@BOTH
def test_given_the_size_of_files_when_read_then_it_is_ours(name: str) -> None:
    found = read(name, logging={"file": {"max_size_mb": 3, "backup_count": 7}}).logging
    assert (found.max_size_mb, found.backup_count, found.level) == (3, 7, "info")


def test_given_files_without_end_when_read_then_ours_are_of_the_usual_size_and_it_is_told() -> None:
    section = {"file": {"max_size_mb": 0, "backup_count": 0}}
    found = read("homodyne_static", logging=section).logging
    assert (found.max_size_mb, found.backup_count) == (10, 5)
    for key in ("max_size_mb", "backup_count"):
        assert "one file without end" in told(section)[f"logging.file.{key}"].why


@pytest.mark.parametrize(
    ("section", "key", "why"),
    [
        ({"file": {"enabled": False}}, "logging.file.enabled", "RUN/logs"),
        ({"file": {"path": "./logs/"}}, "logging.file.path", "RUN/logs"),
        ({"file": {"level": "DEBUG"}}, "logging.file.level", "debug where logging.level is debug"),
        ({"console": {"colors": True}}, "logging.console.colors", "no colours"),
        ({"modules": {"homodyne.core": "INFO"}}, "logging.modules.homodyne.core", "one level"),
        ({"modules": {}}, "logging.modules", "one level"),
    ],
)
def test_given_what_a_log_has_no_choice_of_when_read_then_it_is_dropped_with_the_reason(
    section: dict[str, Any], key: str, why: str
) -> None:
    record = told(section)[key]
    assert record.fate is Fate.DROPPED and why in record.why and not record.changes_answer


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"level": "loud"}, "is not a level; give one of debug, info, warning, error"),
        ({"console": {"level": 10}}, "is not a level"),
        ({"enabled": "perhaps"}, "must be true or false"),
        ({"file": {"max_size_mb": "large"}}, "is not a number"),
        ({"file": {"backup_count": -1}}, "must be at least 0"),
        ({"console": "a.log"}, "must be a section of keys"),
        ("all", "must be a section of keys"),
    ],
)
def test_given_a_log_setting_of_no_meaning_when_read_then_it_is_refused_under_its_old_key(
    section: Any, said: str
) -> None:
    message = refused("homodyne_static", logging=section)
    assert said in message and message.startswith("logging") and "\n" not in message
