"""File operations that survive a crash or a second process: exclusive locks and flushes to the disk."""

from __future__ import annotations

import contextlib
import fcntl
import os
import uuid
from collections.abc import Generator
from pathlib import Path


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
    for path in sorted(folder.rglob("*"), reverse=True):  # what a folder holds before the folder
        sync(path)
    sync(folder)
