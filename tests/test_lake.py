"""The lake: equal things have equal addresses, a crash leaves nothing anyone reads, damage is noticed."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import durable, facts, lake
from jobs.lake import Lake, LakeError, code_sha, sha256_json, write_json


def put(where: Lake, key: str = "k1", values: tuple[int, ...] = (1, 2, 3), name: str = "things") -> lake.Dataset:
    with where.writing(name, key, {"source": "abc"}, {"n": 1}) as folder:
        pq.write_table(pa.table({"v": list(values)}), folder / "part-00000-3f2a.snappy.parquet")
    return where.get(name, key)


@pytest.fixture
def where(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


def test_what_was_written_is_found_with_its_counts(where: Lake) -> None:
    made = put(where)
    found = where.get("things", "k1")
    assert found == made
    assert found.table().to_pydict() == {"v": [1, 2, 3]}
    assert (found.rows, found.bytes) == (3, Path(found.files[0]).stat().st_size)
    assert (found.manifest["inputs"], found.manifest["params"]) == ({"source": "abc"}, {"n": 1})
    found.verify()


def test_key_depends_on_name_code_inputs_params_and_schema(where: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    base = where.key("a", "jobs.facts", {"x": "1", "y": "2"}, {"p": 1, "q": 2})
    assert where.key("a", "jobs.facts", {"y": "2", "x": "1"}, {"q": 2, "p": 1}) == base
    others = [
        where.key("b", "jobs.facts", {"x": "1", "y": "2"}, {"p": 1, "q": 2}),
        where.key("a", "jobs.durable", {"x": "1", "y": "2"}, {"p": 1, "q": 2}),
        where.key("a", "jobs.facts", {"x": "1", "y": "3"}, {"p": 1, "q": 2}),
        where.key("a", "jobs.facts", {"x": "1", "y": "2"}, {"p": 1, "q": 3}),
    ]
    monkeypatch.setattr(facts, "SCHEMA_VERSION", facts.SCHEMA_VERSION + 1)
    others.append(where.key("a", "jobs.facts", {"x": "1", "y": "2"}, {"p": 1, "q": 2}))
    assert len({base, *others}) == 6


def test_content_is_that_of_the_files_not_of_the_address(where: Lake) -> None:
    assert put(where, "k1").content == put(where, "k2").content == put(where, "k1", name="others").content
    assert put(where, "k3", (1, 2, 4)).content != put(where, "k1").content


def test_files_get_stable_names_and_cannot_be_written(where: Lake) -> None:
    with where.writing("things", "k") as folder:
        for part in ("split=test", "split=train"):
            (folder / part).mkdir()
            for number, uuid in ((1, "a"), (0, "z")):
                pq.write_table(pa.table({"v": [number]}), folder / part / f"part-{number:05d}-{uuid}.c000.parquet")
                (folder / part / f".part-{number:05d}-{uuid}.c000.parquet.crc").write_text("x")
        (folder / "_SUCCESS").touch()
    found = where.get("things", "k")
    names = [entry["path"] for entry in found.manifest["files"]]
    assert names == [f"split={part}/part-0000{n}.parquet" for part in ("test", "train") for n in (0, 1)]
    assert [Path(path).stat().st_mode & 0o777 for path in found.files] == [0o444] * 4
    root = found.root
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()) == names
    assert found.under("split=train") == found.files[2:]
    assert pq.ParquetFile(found.under("split=train")[1]).read().to_pydict() == {"v": [1]}
    assert found.under("split=valid") == []


def test_a_crash_while_writing_leaves_nothing(where: Lake) -> None:
    def crash() -> None:
        with where.writing("things", "k1") as folder:
            pq.write_table(pa.table({"v": [1]}), folder / "part-0.parquet")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        crash()
    assert where.find("things", "k1") is None
    assert list((where.root / "things").rglob("*.parquet")) == []
    assert put(where).rows == 3


def test_an_interrupt_leaves_nothing_either(where: Lake) -> None:
    with pytest.raises(KeyboardInterrupt), where.writing("things", "k1"):
        raise KeyboardInterrupt
    assert where.find("things", "k1") is None


def test_a_file_that_is_not_parquet_is_never_committed(where: Lake) -> None:
    with pytest.raises(pa.ArrowInvalid, match="Parquet"), where.writing("things", "k1") as folder:
        (folder / "part-0.parquet").write_bytes(b"not parquet at all")
    assert where.find("things", "k1") is None


def test_what_a_killed_run_left_is_swept_by_the_next(where: Lake) -> None:
    left = where.root / "things" / "k1" / "20200101T000000-dead00"
    left.mkdir(parents=True)
    (left / "part-0.parquet").write_bytes(b"half a fi")
    assert where.find("things", "k1") is None
    made = put(where)
    assert [path.name for path in made.folder.iterdir() if path.is_dir()] == [made.manifest["run"]]


def test_a_changed_byte_is_found_by_verify(where: Lake) -> None:
    made = put(where)
    path = Path(made.files[0])
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert where.find("things", "k1") is not None  # its size is right, and finding must be cheap
    with pytest.raises(LakeError, match=r"things k1: file part-00000\.parquet is missing or was changed after writing"):
        made.verify()


@pytest.mark.parametrize("damage", ["truncated", "removed", "no manifest", "half a manifest", "other version"])
def test_a_damaged_data_set_is_absent_and_can_be_made_again(where: Lake, damage: str) -> None:
    made = put(where)
    path, manifest = Path(made.files[0]), made.folder / "manifest.json"
    if damage == "truncated":
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "removed":
        path.unlink()
    elif damage == "no manifest":
        manifest.unlink()
    elif damage == "half a manifest":
        manifest.write_text(manifest.read_text()[:50])
    else:
        write_json(manifest, made.manifest | {"schema_version": facts.SCHEMA_VERSION + 1})
    assert where.find("things", "k1") is None
    with pytest.raises(LakeError, match="data set things k1 is not in "):
        where.get("things", "k1")
    if damage in ("truncated", "removed"):
        with pytest.raises(LakeError, match="missing or was changed"):
            made.verify()
    again = put(where)
    again.verify()
    assert again.content == made.content


def test_two_writers_of_one_key_leave_one_whole_data_set(where: Lake) -> None:
    entered, results = threading.Barrier(4, timeout=20), []

    def write(number: int) -> None:
        entered.wait()
        made = put(where, values=tuple(range(number * 10, number * 10 + 10)))
        results.append(made.table()["v"].to_pylist()[0])  # a writer can read what it is given

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = where.get("things", "k1")
    found.verify()
    assert results == [found.table()["v"].to_pylist()[0]] * 4  # the first one stays
    assert [path.name for path in found.folder.iterdir() if path.is_dir()] == [found.manifest["run"]]


def test_a_second_writer_does_not_sweep_away_the_first(where: Lake) -> None:
    second = threading.Thread(target=put, args=(where, "k1", (9,)))
    with where.writing("things", "k1") as folder:
        second.start()
        second.join(0.3)  # it waits; before there was a lock it finished here and removed this folder
        pq.write_table(pa.table({"v": [1]}), folder / "part-0.parquet")
    second.join()
    assert where.get("things", "k1").table()["v"].to_pylist() == [1]


def test_a_fact_is_written_with_its_schema(where: Lake) -> None:
    made = where.write_fact("entities", "k", [{"entity_id": "7", "match_id": "3", "candidates": 4}])
    assert made.table().schema == facts.FACTS["entities"]
    with pytest.raises(ValueError, match=r"fact entities: missing columns \['candidates', 'match_id'\]"):
        where.write_fact("entities", "k2", [{"entity_id": "7"}])
    assert where.find("entities", "k2") is None


def test_write_json_replaces_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.json"
    write_json(path, {"b": 1, "a": 2})
    write_json(path, {"c": 3})
    assert json.loads(path.read_text()) == {"c": 3}
    assert [entry.name for entry in path.parent.iterdir()] == ["file.json"]


def test_a_value_that_is_not_json_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError, match="keys must be"):
        write_json(path, {(1, 2): "tuple key"})
    assert json.loads(path.read_text()) == {"a": 1}


def test_sha256_json_ignores_the_order_of_keys_only() -> None:
    assert sha256_json({"a": 1, "b": [1, 2]}) == sha256_json({"b": [1, 2], "a": 1})
    assert sha256_json({"a": 1, "b": [1, 2]}) != sha256_json({"a": 1, "b": [2, 1]})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small project: jobs.a imports ffm_udf (its __init__ imports ffm_udf.deep) and jobs.b in a function."""
    sources = {
        "jobs/__init__.py": "",
        "jobs/a.py": "import numpy\nfrom ffm_udf import FFM\n\ndef late():\n    from jobs import b\n",
        "jobs/b.py": "from jobs import a  # a circle\n",
        "jobs/other.py": "",
        "ffm_udf/__init__.py": "from ffm_udf.deep import FFM\n",
        "ffm_udf/deep.py": "FFM = 1\n",
    }
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(lake, "PROJECT", tmp_path)
    code_sha.cache_clear()
    yield tmp_path
    code_sha.cache_clear()


@pytest.mark.parametrize(
    "changed", ["jobs/a.py", "jobs/b.py", "ffm_udf/__init__.py", "ffm_udf/deep.py", "jobs/__init__.py"]
)
def test_code_sha_follows_what_a_module_imports(project: Path, changed: str) -> None:
    before = code_sha("jobs.a")
    (project / changed).write_text((project / changed).read_text() + "# changed\n")
    code_sha.cache_clear()
    assert code_sha("jobs.a") != before


def test_code_sha_ignores_what_a_module_does_not_import(project: Path) -> None:
    before = code_sha("jobs.a")
    (project / "jobs/other.py").write_text("changed = 1\n")
    code_sha.cache_clear()
    assert code_sha("jobs.a") == before


def test_code_sha_ignores_what_only_the_program_imports(project: Path) -> None:
    path = project / "jobs" / "a.py"
    path.write_text(path.read_text() + '\n\nif __name__ == "__main__":\n    from jobs import unrelated\n')
    (project / "jobs" / "unrelated.py").write_text("x = 1\n")
    code_sha.cache_clear()
    before = code_sha("jobs.a")
    (project / "jobs" / "unrelated.py").write_text("x = 2\n")
    code_sha.cache_clear()
    assert code_sha("jobs.a") == before


def test_files_and_their_names_are_on_the_disk_before_the_manifest_appears(
    where: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a power cut leaves is a prefix of this order: a manifest is never left without the files that it names."""
    order: list[str] = []
    real, replaced = durable.sync, lake.write_json
    monkeypatch.setattr(durable, "sync", lambda path: (order.append(path.name), real(path))[1])
    monkeypatch.setattr(lake, "write_json", lambda path, value: (order.append(path.name), replaced(path, value))[1])
    made = put(where)
    run, key = made.manifest["run"], made.key
    assert order == ["part-00000.parquet", run, "manifest.json", key]


def test_a_manifest_that_cannot_be_written_leaves_no_half_of_itself(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="keys must be"):
        write_json(tmp_path / "file.json", {(1, 2): "tuple key"})
    assert list(tmp_path.iterdir()) == []
