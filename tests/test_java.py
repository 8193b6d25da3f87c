"""Where Spark's Java comes from. The Javas here are scripts that say what a Java says of itself."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import java


def fake_java(home: Path, feature: str) -> Path:
    """A `bin/java` in `home` that calls itself version `feature`, in the form of -XshowSettings."""
    program = home / "bin" / "java"
    program.parent.mkdir(parents=True)
    said = f"Property settings:\n    java.home = {home}\n    java.specification.version = {feature}\n"
    program.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{said}END\n", encoding="utf-8")
    program.chmod(0o755)
    return home


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """No JAVA_HOME, and a PATH with a shell's tools but no Java."""
    monkeypatch.setenv("JAVA_HOME", "")  # set, so that what java_home() writes there is undone
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("cat", "sh"):
        found = next(Path(folder) / tool for folder in ("/bin", "/usr/bin") if (Path(folder) / tool).exists())
        (tools / tool).symlink_to(found)
    monkeypatch.setenv("PATH", str(tools))
    return monkeypatch


def test_java_home_is_taken_first_and_told_to_the_process(bare, tmp_path: Path):
    wanted = fake_java(tmp_path / "wanted", "17")
    other = fake_java(tmp_path / "other", "21")
    bare.setenv("JAVA_HOME", str(wanted))
    bare.setenv("PATH", f"{other / 'bin'}:{os.environ['PATH']}")
    assert java.java_home() == str(wanted)
    assert os.environ["JAVA_HOME"] == str(wanted)


def test_a_java_that_is_too_old_is_passed_over(bare, tmp_path: Path):
    bare.setenv("JAVA_HOME", str(fake_java(tmp_path / "old", "11")))
    bare.setenv("PATH", f"{fake_java(tmp_path / 'new', '25') / 'bin'}:{os.environ['PATH']}")
    assert java.java_home() == str(tmp_path / "new")


def test_a_shim_on_the_path_leads_to_the_java_behind_it(bare, tmp_path: Path):
    real = fake_java(tmp_path / "real", "17")
    shims = tmp_path / "shims"
    shims.mkdir()
    (shims / "java").symlink_to(real / "bin" / "java")
    bare.setenv("PATH", f"{shims}:{os.environ['PATH']}")
    assert java.java_home() == str(real)


@pytest.mark.parametrize(("said", "feature"), [("1.8", 8), ("17", 17), ("25", 25)])
def test_version_is_what_the_program_says(bare, tmp_path: Path, said: str, feature: int):
    home = fake_java(tmp_path / "home", said)
    assert java.version(str(home / "bin" / "java")) == (feature, str(home))


def test_a_program_that_fails_or_is_missing_has_no_version(bare, tmp_path: Path):
    stub = tmp_path / "java"
    stub.write_text("#!/bin/sh\necho 'Unable to locate a Java Runtime.' >&2\nexit 1\n", encoding="utf-8")
    stub.chmod(0o755)
    assert java.version(str(stub)) is None
    assert java.version(str(tmp_path / "none")) is None


def test_without_any_java_the_wheel_s_own_starts_and_stays_as_it_is(bare, tmp_path: Path):
    bare.setattr(java, "_installed", lambda: iter(()))
    bare.setattr(sys, "prefix", str(tmp_path / "it's here"))
    home = java.java_home()
    shim = Path(home) / "bin" / "java"
    written = shim.stat().st_mtime_ns
    # Spark asks for a module that this Java lacks; other arguments pass through, spaces and all.
    asked = [str(shim), "--add-modules=jdk.incubator.vector", "-Dtold=a b", "-XshowSettings:properties", "-version"]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert "told = a b" in done.stderr
    assert java.java_home() == home
    assert shim.stat().st_mtime_ns == written
    assert [path.name for path in shim.parent.iterdir()] == ["java"]


def test_the_wheel_s_java_follows_a_wheel_that_moved(bare, tmp_path: Path):
    bare.setattr(sys, "prefix", str(tmp_path))
    shim = java.wheel_java_home() / "bin" / "java"
    right = shim.read_text(encoding="utf-8")
    shim.write_text("#!/bin/sh\nexec /gone/java\n", encoding="utf-8")
    java.wheel_java_home()
    assert shim.read_text(encoding="utf-8") == right


def test_with_neither_one_line_says_what_to_do(bare):
    bare.setattr(java, "_installed", lambda: iter(()))
    bare.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match=r"no Java 17 or newer: .* set JAVA_HOME") as caught:
        java.java_home()
    assert "\n" not in str(caught.value)
