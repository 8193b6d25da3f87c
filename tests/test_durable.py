"""Locks say who holds them, and links are made where something else stood."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs import durable


def refused(lock: Path) -> str:
    with pytest.raises(durable.BusyError) as found, durable.held(lock):
        pass
    return str(found.value)


def test_whoever_is_refused_hears_of_those_who_share_the_lock_now(tmp_path: Path) -> None:
    lock = tmp_path / ".use.lock"
    with durable.held(lock, shared=True, note="a night"):
        with durable.held(lock, shared=True, note="a backup"):
            assert refused(lock) == "a backup; a night"
        (tmp_path / ".use.lock.0").write_text("one that was killed")  # its lock died with it
        assert refused(lock) == "a night"
    assert [path.name for path in tmp_path.iterdir()] == [".use.lock"]
    with durable.held(lock, note="a clean-up"):
        assert refused(lock) == "a clean-up"


def folder(path: Path, text: str) -> Path:
    path.mkdir(parents=True)
    (path / "part-0.parquet").write_text(text)
    return path


def test_a_folder_in_the_place_of_a_link_is_put_aside_where_no_reader_looks(tmp_path: Path) -> None:
    link, target = folder(tmp_path / "scores" / "day", "copied"), folder(tmp_path / "lake" / "run", "new")
    durable.point(link, target)
    assert link.resolve() == target
    assert [path.read_text() for path in link.parent.glob("*/*.parquet")] == ["new"]
    assert [path.read_text() for path in link.parent.glob(".aside/day.*/*")] == ["copied"]
    durable.unpoint(link)
    durable.unpoint(folder(link, "copied again"))
    assert [path.name for path in link.parent.iterdir()] == [".aside"]
    assert {path.read_text() for path in link.parent.glob(".aside/day.*/*")} == {"copied", "copied again"}
