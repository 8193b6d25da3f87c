"""The log of operations: what was appended is there, in order, whatever a crash or a second process does."""

from __future__ import annotations

import datetime as dt
import threading
from pathlib import Path

import pytest

from jobs import operations_log
from jobs.operations_log import append, entries


def test_what_was_appended_is_read_back_in_order(tmp_path: Path) -> None:
    assert entries(tmp_path) == []
    at = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    first = append(tmp_path, "drill", ok=True, seconds=1.5, bytes=7, rpo_s=0.25, detail="two\n lines", at=at)
    second = append(tmp_path, "probe", ok=False)
    assert entries(tmp_path) == [first, second]
    assert first.at == "2026-01-02T01:04:05.000000+00:00"
    assert (first.seconds, first.bytes, first.rpo_s, first.detail) == (1.5, 7, 0.25, "two lines")
    assert (second.seconds, second.bytes, second.rpo_s, second.detail) == (None, None, None, "")


def test_a_torn_last_line_does_not_count_and_is_written_over(tmp_path: Path) -> None:
    append(tmp_path, "backup", ok=True)
    path = operations_log.path_of(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"at": "2026')
    assert len(entries(tmp_path)) == 1
    append(tmp_path, "gc", ok=True)
    assert [event.kind for event in entries(tmp_path)] == ["backup", "gc"]
    assert path.read_bytes().startswith(whole)
    assert path.read_bytes().count(b"\n") == 2


def test_a_line_that_is_no_event_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    append(tmp_path, "backup", ok=True)
    with operations_log.path_of(tmp_path).open("a") as stream:
        stream.write("not JSON\n")
    append(tmp_path, "gc", ok=True)
    assert [event.kind for event in entries(tmp_path)] == ["backup", "gc"]
    assert "operations.jsonl, line 2: is not an event, passed over" in caplog.text


def test_several_writers_lose_nothing(tmp_path: Path) -> None:
    def write(number: int) -> None:
        append(tmp_path, "probe", ok=True, bytes=number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(event.bytes or 0 for event in entries(tmp_path)) == list(range(8))


def test_what_cannot_be_counted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"kind must be one of backup, restore, drill, .*, got 'lunch'"):
        append(tmp_path, "lunch", ok=True)
    with pytest.raises(ValueError, match="rpo_s must be finite, got inf"):
        append(tmp_path, "drill", ok=True, rpo_s=float("inf"))
    assert entries(tmp_path) == []
