"""What the project stands on may be used, nothing of it phones home, and no secret lies in the repository."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from test_repository import ROOT, lines_that_match, texts


@pytest.fixture(scope="module")
def licences() -> ModuleType:
    spec = importlib.util.spec_from_file_location("licences", ROOT / "scripts" / "licences.py")
    assert spec
    assert spec.loader
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.mark.parametrize(
    ("told", "licence"),
    [
        ("MIT License", "MIT"),
        ("Apache-2.0 OR BSD-3-Clause", "Apache-2.0"),
        ("Business Source License 1.1 OR MIT", "MIT"),  # where there is a choice, it is taken
        ("Artistic License; GNU General Public License (GPL)", "Artistic-1.0"),
        ("BSD-2-Clause AND Apache-2.0 WITH LLVM-exception", "BSD-2-Clause AND Apache-2.0 WITH LLVM-exception"),
    ],
)
def test_a_licence_has_one_name(licences: ModuleType, told: str, licence: str) -> None:
    assert licences.accepted("some-package", told) == licence


@pytest.mark.parametrize(
    "told",
    [
        "Business Source License 1.1",
        "GNU Affero General Public License v3",
        "Server Side Public License",
        "GNU General Public License v2 (GPLv2)",
        "MIT AND Server Side Public License",
        "UNKNOWN",
    ],
)
def test_other_licences_are_refused_by_name(licences: ModuleType, told: str) -> None:
    with pytest.raises(licences.LicenceError, match=f"some-package is under '{re.escape(told)}', which is not among"):
        licences.accepted("some-package", told)


@pytest.mark.skipif(sys.platform != "linux", reason="the page is that of the packages installed on Linux")
def test_every_locked_package_is_accepted_and_in_the_page(licences: ModuleType) -> None:
    page = licences.report(licences.installed())
    assert page == (ROOT / "docs" / "licences.md").read_text(encoding="utf-8"), "run `make licences`"
    assert len(re.findall(r"^\| ", page, re.MULTILINE)) > 100


# What keys and passwords look like, as patterns so that this file does not hold one.
SECRETS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b|\bglpat-[\w-]{20}\b|\bxox[baprs]-[\w-]{10,}"
    r"|\bAIza[\w-]{35}\b|\bsk-[A-Za-z0-9]{32,}\b|\beyJ[\w-]{20,}\.[\w-]{20,}\.[\w-]{10,}"
    r"|://[^/\s:@{}$\"']+:[^/\s@{}$\"']+@"  # a password in an address
    r"|(?i:\b(password|passwd|secret|api_?key|auth_?token)\s*[:=]\s*[\"'][^\"'{}$<>\s]{8,}[\"'])"
)
EXAMPLES = ["-----BEGIN RSA " + "PRIVATE KEY-----", "AKIA" + "A" * 16, "https://ann:" + "pepper@shop.example"]
EXAMPLES += ["pass" + 'word = "correct-horse"', "gh" + "p_" + "a" * 36]


def test_no_secret_lies_in_the_repository() -> None:
    assert all(SECRETS.search(example) for example in EXAMPLES)
    assert lines_that_match(SECRETS) == []


def test_no_file_of_secrets_is_committed() -> None:
    names = re.compile(r"(^|/)(\.env(\..*)?|id_(rsa|ed25519)|.*\.(pem|key|p12|keystore)|credentials(\.json)?|\.netrc)$")
    assert [name for name in texts() if names.search(name)] == []


OFFLINE = """
import socket
tried = []
def refuse(self, address, *more):
    if self.family != socket.AF_UNIX:
        tried.append(str(address))
        raise OSError("no network here")
socket.socket.connect = refuse
def lookup(host, *more, **named):
    tried.append(str(host))
    raise socket.gaierror("no network here")
socket.getaddrinfo = lookup
import sys
from pathlib import Path
import datetime as dt
from jobs.contract import load
from jobs.cycle import Cycle
from jobs.progress import Progress
folder = Path(sys.argv[1])
with Cycle(load(Path("conf/promo.yml")), dt.date(2017, 12, 25), folder, Progress()).stage("ingest"):
    pass
assert list((folder / "log" / "openlineage").glob("*.jsonl")), "no event was written"
print("tried", tried)
"""


def test_events_go_to_files_only_whatever_the_environment_asks_for(tmp_path: Path) -> None:
    """OpenLineage's client would send to OPENLINEAGE_URL; the events are written past it."""
    told = os.environ | {"OPENLINEAGE_URL": "http://127.0.0.1:9", "OPENLINEAGE_API_KEY": "x", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, str(tmp_path)], cwd=ROOT, env=told, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "tried []"
