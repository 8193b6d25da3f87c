"""File operations that survive a crash or a second process: exclusive locks and flushes to the disk."""

from __future__ import annotations

import contextlib
import fcntl
import os
import uuid
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FLUSHES = 8  # files flushed at a time: a disk takes several in one go


class BusyError(RuntimeError):
    """A lock that somebody else holds; the message says who."""


@contextlib.contextmanager
def locked(path: Path) -> Generator[None]:
    """Hold the exclusive lock file `path` (made if absent); waits for other threads and processes of this machine.

    The lock belongs to the open file, so the kernel releases it when its holder dies.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def held(path: Path, *, shared: bool = False, note: str = "") -> Generator[None]:
    """Hold the lock file `path` without waiting; BusyError with the holder's note if it is taken.

    Any number may hold it `shared`, one alone otherwise. The lock is the kernel's and ends with the process: a file
    that a dead holder left is no lock. `note` says in the file who holds it, for whoever is refused.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(os.pread(descriptor, 1_000, 0).decode(errors="replace").strip() or str(path)) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, note.encode(), 0)
        yield
    finally:
        os.close(descriptor)


def point(link: Path, target: Path) -> None:
    """Make `link` a relative symlink to the folder `target`, in one rename: a reader sees the old target or the
    new one, and what holds both can be moved."""
    link.parent.mkdir(parents=True, exist_ok=True)
    relative = os.path.relpath(target.resolve(), link.parent.resolve())
    if link.is_symlink() and os.readlink(link) == relative:
        return
    new = link.with_name(f".{link.name}.{uuid.uuid4().hex}")
    try:
        os.symlink(relative, new, target_is_directory=True)
        os.replace(new, link)
    finally:
        new.unlink(missing_ok=True)
    sync(link.parent)


def sync(path: Path) -> None:
    """Flush one file's bytes, or one folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Flush every file and folder below `folder`, and `folder` itself."""
    found = [path for path in folder.rglob("*") if not path.is_symlink()]
    sync_all(path for path in found if path.is_file())
    for path in sorted((path for path in found if path.is_dir()), reverse=True):  # what a folder holds before it
        sync(path)
    sync(folder)


def sync_all(files: Iterable[Path]) -> None:
    """Flush the bytes of all `files`; several at a time."""
    with ThreadPoolExecutor(FLUSHES) as pool:
        list(pool.map(sync, files))
