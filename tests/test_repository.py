"""What must hold for the files of the repository as a whole: locks, layers, telemetry, documentation."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ["bootstrap.lock", "requirements.lock", "airflow_dags/requirements.lock"]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

# Written as patterns so that this file does not hold what it looks for.
REGISTRY = re.compile(r"(pypi|pythonhosted|npmjs|debian|anaconda)\.(org|com)\b|--(extra-)?index-url[ =]")
MACHINE_PATH = re.compile(r"(?<![\w.~$}/-])/(work|root|home|Users|tmp)/[\w.]")


def repository_files() -> list[Path]:
    """What a clone has, and what would be added to it; without git, everything outside of dot-folders and warehouse."""
    asked = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
        found = [ROOT / name for name in listed if name]
    except (OSError, subprocess.CalledProcessError):
        inside = (path.relative_to(ROOT) for path in ROOT.rglob("*"))
        skipped = ("warehouse", "dist", "build")
        found = [ROOT / path for path in inside if not path.parts[0].startswith(".") and path.parts[0] not in skipped]
    return sorted(path for path in found if path.is_file())


def texts() -> dict[str, str]:
    """Path in the repository -> content, for every file that is text."""
    found = {}
    for path in repository_files():
        content = path.read_bytes()
        if b"\0" not in content:
            found[str(path.relative_to(ROOT))] = content.decode("utf-8")
    return found


def locked(lock: str) -> dict[str, tuple[Requirement, list[str]]]:
    """Name -> (requirement, its hashes) for every entry of a lock."""
    joined = (ROOT / lock).read_text(encoding="utf-8").replace("\\\n", " ")
    entries = {}
    for line in joined.splitlines():
        requirement, *hashes = line.split(" --hash=")
        parsed = Requirement(requirement.strip())
        assert canonicalize_name(parsed.name) not in entries, f"{lock} has two entries for {parsed.name}"
        entries[canonicalize_name(parsed.name)] = (parsed, [found.strip() for found in hashes])
    return entries


def lines_that_match(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()}"
        for name, text in texts().items()
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]


# --- locks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_one_version_hashes_and_no_address(lock: str):
    for name, (requirement, hashes) in locked(lock).items():
        assert [pin.operator for pin in requirement.specifier] == ["=="], f"{lock}: {name} is not pinned"
        assert hashes, f"{lock}: {name} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", found) for found in hashes), f"{lock}: {name}"
        assert requirement.url is None, f"{lock}: {name} has an address"
    assert "://" not in (ROOT / lock).read_text(encoding="utf-8")


def test_the_locks_have_what_the_project_asks_for():
    groups = PYPROJECT["dependency-groups"]
    optional = PYPROJECT["project"]["optional-dependencies"]
    asked = [*PYPROJECT["project"]["dependencies"], *optional["jobs"], *optional["spark"], *optional["dashboard"]]
    in_airflow = (ROOT / "airflow_dags" / "requirements.in").read_text(encoding="utf-8").splitlines()
    wanted = {
        "requirements.lock": [*asked, *groups["dev"], *groups["bench"], *PYPROJECT["build-system"]["requires"]],
        "bootstrap.lock": groups["bootstrap"],
        "airflow_dags/requirements.lock": [line for line in in_airflow if line and not line.startswith("#")],
    }
    for lock, requirements in wanted.items():
        pins = locked(lock)
        for requirement in map(Requirement, requirements):
            name = canonicalize_name(requirement.name)
            if name == "fieldmart":
                continue
            assert name in pins, f"{lock} lacks {name}: run `make lock`"
            version = Version(str(next(iter(pins[name][0].specifier)).version))
            assert requirement.specifier.contains(version, prereleases=True), f"{lock}: {name} {version}: `make lock`"


def test_no_file_names_a_package_registry():
    assert lines_that_match(REGISTRY) == []


def test_no_file_names_a_path_of_somebody_s_machine():
    assert lines_that_match(MACHINE_PATH) == []


# --- layers -----------------------------------------------------------------------------------------------------------


def imported(path: Path) -> set[str]:
    """The top-level packages that a Python file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def test_the_base_install_needs_numpy_and_numba_only():
    names = {canonicalize_name(Requirement(line).name) for line in PYPROJECT["project"]["dependencies"]}
    assert names == {"numpy", "numba"}


def test_the_library_imports_its_base_dependencies_only_and_spark_in_one_file():
    # llvmlite is a part of numba and comes with it.
    allowed = {"ffm_udf", "numpy", "numba", "llvmlite"} | set(sys.stdlib_module_names)
    more = {
        "spark.py": allowed | {"pyspark", "pandas", "pyarrow"},
        # What reads keys and vocabularies as Parquet has them.
        **{f"{name}.py": allowed | {"pyarrow"} for name in ("judged_rows", "vocabulary")},
        # What reads and writes the Parquet files of scoring.
        **{
            f"{name}.py": allowed | {"pyarrow"} for name in ("block_inputs", "score_blocks", "score_columns", "vectors")
        },
        "logistic.py": allowed | {"scipy", "sklearn"},
        "crossed_logistic.py": allowed | {"scipy", "sklearn"},
        "boosted_trees.py": allowed | {"lightgbm"},
    }
    for path in sorted((ROOT / "ffm_udf").rglob("*.py")):
        # What needs more than the base imports it when it does, not before: a task that reads Parquet, a baseline.
        extra = imported(path) - more.get(path.name, allowed)
        assert not extra, f"{path.relative_to(ROOT)} imports {sorted(extra)}"


def test_the_dashboard_computes_nothing_with_spark_or_the_models():
    for path in sorted((ROOT / "dashboard").rglob("*.py")):
        extra = imported(path) & {"pyspark", "ffm_udf", "numba"}
        assert not extra, f"{path.relative_to(ROOT)} imports {sorted(extra)}"


def test_no_job_hides_a_module_of_the_standard_library():
    """spark-submit and `python jobs/x.py` put the folder of the job first on the path."""
    assert not {path.stem for path in (ROOT / "jobs").glob("*.py")} & set(sys.stdlib_module_names)


def test_the_dbt_folder_is_not_a_package():
    """It would hide the dbt that is installed."""
    assert not list((ROOT / "dbt").rglob("__init__.py"))


@pytest.mark.slow
def test_the_wheel_carries_the_library_and_the_jobs_only(tmp_path: Path):
    asked = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(asked, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("/METADATA"))).decode("utf-8")
    about = f"fieldmart-{PYPROJECT['project']['version']}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"ffm_udf", "jobs", about}
    assert {"ffm_udf/__init__.py", "jobs/__init__.py", f"{about}/licenses/LICENSE"} <= set(names)
    required = [Requirement(line[15:]) for line in metadata.splitlines() if line.startswith("Requires-Dist: ")]
    base = {canonicalize_name(found.name) for found in required if "extra" not in str(found.marker)}
    assert base == {"numpy", "numba"}


# --- telemetry --------------------------------------------------------------------------------------------------------


def test_streamlit_is_told_not_to_report():
    told = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))
    assert told["browser"]["gatherUsageStats"] is False


def test_dbt_is_told_not_to_report():
    told = yaml.safe_load((ROOT / "dbt" / "dbt_project.yml").read_text(encoding="utf-8"))
    assert told["flags"]["send_anonymous_usage_stats"] is False


def test_airflow_is_told_not_to_report():
    told = configparser.ConfigParser()
    told.read(ROOT / "airflow_dags" / "airflow.cfg", encoding="utf-8")
    assert told.getboolean("usage_data_collection", "enabled") is False


# --- documentation ----------------------------------------------------------------------------------------------------


def make_targets() -> dict[str, list[str]]:
    """Target -> what it depends on, for every target that `make help` lists."""
    rules = re.findall(r"^([a-z-]+):(.*?)(?:##.*)?$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    return {target: needs.split() for target, needs in rules}


def fieldmart_commands() -> list[str]:
    """The commands of the console script, in the order in which its help lists them."""
    from typer.main import get_command

    from jobs.cli import app

    return list(get_command(app).commands)


def commands_in_documentation() -> list[tuple[str, str]]:
    """(file, command line) for everything the documentation shows as code: fenced blocks and `inline` code."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    found = []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"^ *```[^\n]*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
        inline = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)
        lines = [line for block in blocks for line in block.splitlines()] + inline
        found += [(page.name, line.strip().removeprefix("$ ")) for line in lines]
    return found


def test_every_make_target_in_the_documentation_exists():
    asked = {
        (page, target)
        for page, line in commands_in_documentation()
        for target in re.findall(r"(?:^|&& |; )(?:[A-Z_]+=\S* )*make ([a-z-]+)", line)
    }
    assert {target for _, target in asked} >= {"nightly", "test"}, "the README names the two commands"
    assert not [found for found in sorted(asked) if found[1] not in make_targets()]


def test_every_fieldmart_command_in_the_documentation_exists():
    asked = {
        (page, command)
        for page, line in commands_in_documentation()
        for command in re.findall(r"(?:^|&& |; |/)(?:[A-Z_]+=\S* )*fieldmart ([a-z-]+)", line)
    }
    assert not [found for found in sorted(asked) if found[1] not in fieldmart_commands()]


def test_every_job_that_the_documentation_submits_exists():
    for page, line in commands_in_documentation():
        for job in re.findall(r"\bjobs/[a-z_/]+\.py", line):
            assert (ROOT / job).is_file(), f"{page} names {job}"


def test_every_make_command_that_runs_something_sets_up_first():
    sets_up = {"setup", "airflow-env"}
    without = {target for target, needs in make_targets().items() if not sets_up & set(needs)}
    assert without == {"help", "setup", "clean"}


def test_airflow_runs_the_commands_of_the_console_script_in_their_order():
    tree = ast.parse((ROOT / "airflow_dags" / "fieldmart_nightly.py").read_text(encoding="utf-8"))
    (steps,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and [getattr(name, "id", "") for name in node.targets] == ["STEPS"]
    )
    assert [command for command in fieldmart_commands() if command in steps] == list(steps)
