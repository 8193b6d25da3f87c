"""Who may work on a warehouse at the same time: one night per contract, and nothing beside a clean-up.

    cycles/<contract>/.night.lock    held by the steps of a contract's night, one process at a time
    .use.lock                        shared by nights, backups and rebuilds; held alone by `fieldmart gc`

Both are kernel locks: they end with their process, however it ends, so there is no stale lock to remove.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import sys
from collections.abc import Generator
from pathlib import Path

from jobs.durable import BusyError, held


class NightError(RuntimeError):
    """Somebody else works on the same; the message says who, and since when."""


@contextlib.contextmanager
def night(warehouse: Path, contract: str) -> Generator[None]:
    """Be the one process that works on the contract's cycles; NightError if there is one already."""
    with _held(warehouse / "cycles" / contract / ".night.lock", f"a night of {contract} is running"), using(warehouse):
        yield


@contextlib.contextmanager
def using(warehouse: Path) -> Generator[None]:
    """Nothing is removed from the warehouse meanwhile, whatever is named or not; NightError while a clean-up runs."""
    with _held(_in_use(warehouse), "`fieldmart gc` is running", shared=True):
        yield


@contextlib.contextmanager
def alone(warehouse: Path) -> Generator[None]:
    """Nobody else works on the warehouse; NightError if somebody does."""
    with _held(_in_use(warehouse), "the warehouse is in use"):
        yield


def _in_use(warehouse: Path) -> Path:
    return warehouse / ".use.lock"


@contextlib.contextmanager
def _held(path: Path, said: str, shared: bool = False) -> Generator[None]:
    command = " ".join(["fieldmart", *sys.argv[1:2]])
    note = f"{command}, process {os.getpid()}, since {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(path, shared=shared, note=note))
        except BusyError as error:
            raise NightError(f"{said} ({error}): wait for it, or end it") from None
        yield
