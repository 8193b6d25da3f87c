"""A page of the dashboard over a release made of fake facts, as its reader sees it."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest
from fake_release import FakeRelease
from streamlit.testing.v1 import AppTest

from dashboard import queries

APP = Path(__file__).resolve().parent.parent / "dashboard" / "streamlit_app.py"


def opened(page: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """The page as it stands after its script has run."""
    monkeypatch.setenv("FIELDMART_WAREHOUSE", str(root))
    app = AppTest.from_file(str(APP), default_timeout=120).run()
    app = app.switch_page(f"app_pages/{page}.py").run()
    assert not app.exception
    return app


def texts(app: AppTest) -> list[str]:
    """The sentences in boxes, whatever their colour."""
    return [box.value for kind in (app.info, app.success, app.warning, app.error) for box in kind]


def answer(mart: str, sql: str) -> tuple:
    with duckdb.connect(mart, read_only=True) as connection:
        row = connection.execute(sql).fetchone()
    assert row is not None
    return row


def copy_with(release: FakeRelease, folder: Path, statement: str) -> Path:
    """A warehouse whose release is that of `release` after `statement`."""
    target = folder / "releases" / "changed"
    target.mkdir(parents=True)
    (target / "mart.duckdb").write_bytes(release.database.read_bytes())
    with duckdb.connect(str(target / "mart.duckdb")) as connection:
        connection.execute(statement)
    (folder / "current.json").write_text(json.dumps({"release_id": "changed", "path": "releases/changed"}))
    return folder


def sentence(mart: str, page: str) -> str:
    return queries.finding(mart, page)
