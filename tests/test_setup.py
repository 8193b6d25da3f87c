"""scripts/setup.sh in a small checkout, with a stand-in for uv that writes down how it was called."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Answers as uv would; `fail` and `no-python` beside it make it refuse.
UV = """\
#!/bin/sh
here=$(dirname "$0")
case "$*" in
"pip sync --help") echo --build-constraints ;;
"python find "*) [ -e "$here/no-python" ] && exit 2; echo "{python}" ;;
*) echo "$1 $2" >>"$here/calls"
   case "$1 $2" in
   "python install") exit 1 ;;
   "venv --quiet") for target do :; done; "{python}" -m venv --without-pip "$target" ;;
   "pip sync") [ -e "$here/fail" ] && echo "error: no route" >&2 && exit 1 ;;
   esac ;;
esac
exit 0
"""


class Checkout:
    """A folder that setup.sh takes for the project, and the calls it made."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.tools = folder / "checkout", folder / "tools"
        (self.folder / "scripts").mkdir(parents=True)
        (self.folder / "jobs").mkdir()
        self.tools.mkdir()
        shutil.copy(ROOT / "scripts" / "setup.sh", self.folder / "scripts")
        for name in ("pyproject.toml", "bootstrap.lock", "requirements.lock", "jobs/__init__.py", "jobs/java.py"):
            (self.folder / name).write_text("", encoding="utf-8")
        (self.folder / "requirements.lock").write_text("numpy==2.5.5\n", encoding="utf-8")
        uv = self.tools / "uv"
        uv.write_text(UV.replace("{python}", str(Path(sys.executable).resolve())), encoding="utf-8")
        uv.chmod(0o755)

    def setup(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        (self.tools / "calls").write_text("", encoding="utf-8")
        told = {"PATH": f"{self.tools}:/usr/bin:/bin", "HOME": str(self.folder)}
        asked = ["sh", "scripts/setup.sh", *arguments]
        return subprocess.run(asked, cwd=self.folder, env=told, capture_output=True, text=True, check=False)

    def calls(self) -> list[str]:
        return (self.tools / "calls").read_text(encoding="utf-8").splitlines()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


FROM_NOTHING = ["venv --quiet", "pip sync", "pip install"]


def test_the_second_call_finds_the_environment_ready(checkout: Checkout):
    assert checkout.setup().returncode == 0
    assert checkout.calls() == FROM_NOTHING
    again = checkout.setup()
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert checkout.calls() == []


@pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml", "bootstrap.lock", "scripts/setup.sh"])
def test_a_change_to_what_it_is_made_from_syncs_again(checkout: Checkout, name: str):
    checkout.setup()
    with (checkout.folder / name).open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    assert checkout.setup().returncode == 0
    assert checkout.calls() == ["pip sync", "pip install"]


def test_a_failed_install_is_not_taken_for_ready(checkout: Checkout):
    (checkout.tools / "fail").touch()
    failed = checkout.setup()
    assert failed.returncode != 0
    assert "error: no route" in failed.stderr
    (checkout.tools / "fail").unlink()
    assert checkout.setup().returncode == 0
    assert checkout.calls() == ["pip sync", "pip install"]


def test_an_environment_whose_python_is_gone_is_made_anew(checkout: Checkout):
    checkout.setup()
    for link in (checkout.folder / ".venv" / "bin").glob("python*"):
        link.unlink()
    assert checkout.setup().returncode == 0
    assert checkout.calls() == FROM_NOTHING


def test_a_checkout_that_moved_gets_a_new_environment(checkout: Checkout):
    checkout.setup()
    checkout.folder = checkout.folder.rename(checkout.folder.with_name("moved"))
    assert checkout.setup().returncode == 0
    assert checkout.calls() == FROM_NOTHING


def test_without_a_python_one_line_says_what_to_install(checkout: Checkout):
    (checkout.tools / "no-python").touch()
    failed = checkout.setup()
    assert failed.returncode == 1
    assert checkout.calls() == ["python install"]
    assert failed.stderr.splitlines()[-1].startswith(
        "fieldmart setup: no Python 3.12 or 3.13 is installed, and uv could"
    )


def test_what_to_set_up_must_be_known(checkout: Checkout):
    failed = checkout.setup("spark")
    assert failed.returncode == 1
    assert failed.stderr == "fieldmart setup: what must be project, airflow or uv, got spark\n"
