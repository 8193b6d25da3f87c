"""Runs an action again and again in a process of its own that is hit at its first, second, third, … change of the disk,
and looks each time whether readers are served and whether the action, run once more, ends as it would have.

    python killed_process.py ACTION WAY SCRATCH STRIDE

WAY: `kill` (SIGKILL before the call), `full` (the call fails: no space left), `readonly` (… and every one after it).
ACTION: a function of tests/disk_actions.py. Prints a JSON line: how many calls were hit, and what went wrong. Children
are forked from here, which has imported everything and opened no database, so one costs a few milliseconds.
"""

from __future__ import annotations

import builtins
import errno
import io
import itertools
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import disk_actions

CALLS = ("rename", "replace", "symlink", "unlink", "rmdir", "mkdir", "chmod", "fsync", "ftruncate", "sync", "sendfile")
ERRORS = {"full": errno.ENOSPC, "readonly": errno.EROFS}
# A full disk refuses what needs room, and lets go of what frees some.
FREEING = ("unlink", "rmdir", "chmod", "ftruncate")
HIT, DONE, FAILED = 9, 0, 1
happened: list[int] = []  # in a child: the call that was hit; what the call's caller made of it is its own


def patch(way: str, step: int) -> None:
    """Hit the `step`-th call from now on that changes the disk."""
    counter = itertools.count(1)

    def hit(name: str) -> None:
        if way == "full" and name in FREEING:
            return
        number = next(counter)
        if number == step and way == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if number == step or (number > step and way == "readonly"):
            happened.append(number)
            raise OSError(ERRORS[way], os.strerror(ERRORS[way]), name)

    def dying(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            hit(name)
            return call(*args, **kwargs)

        return wrapped

    for name in CALLS:
        setattr(os, name, dying(name, getattr(os, name)))

    def opening(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            if set(mode) & set("wax+"):
                hit("open")
            return call(file, mode, *args, **kwargs)

        return wrapped

    builtins.open = opening(open)
    io.open = opening(io.open)


def child(act: Callable[[], Any], way: str | None = None, step: int = 0) -> tuple[int, str]:
    """Run `act` in a fork; returns HIT (killed, or stopped by the error), DONE or FAILED, and what it said."""
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(read)
        code = DONE
        try:
            if way is not None:
                patch(way, step)
            act()
            code = HIT if happened else DONE
        except BaseException as error:
            is_ours = way in ERRORS and any(os.strerror(ERRORS[way]) in text for text in _texts(error))
            code = HIT if is_ours else FAILED
            os.write(write, traceback.format_exc()[-1500:].encode())
        os._exit(code)
    os.close(write)
    said = b""
    while block := os.read(read, 65536):
        said += block
    os.close(read)
    status = os.waitpid(process, 0)[1]
    return (HIT if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)), said.decode()


def _texts(error: BaseException | None) -> list[str]:
    return [] if error is None else [str(error), *_texts(error.__cause__ or error.__context__)]


def enumerate_hits(action: disk_actions.Action, way: str, scratch: Path, stride: int) -> dict[str, Any]:
    template = scratch / "template"
    code, said = child(lambda: action.prepare(template))
    assert code == DONE, said
    hits, wrong = 0, []
    for step in itertools.count(1, stride):
        place = scratch / f"{way}{step}"
        shutil.copytree(template, place, symlinks=True)
        code, said = child(lambda place=place: action.act(place), way, step)
        if code == FAILED:
            wrong.append(f"{way} at {step}: {said}")
        for name, look in (("readers", action.readable), ("rerun", action.act), ("end", action.ended)):
            found, text = child(lambda look=look, place=place: look(place))
            if found != DONE:
                wrong.append(f"{way} at {step}, {name}: {text}")
        shutil.rmtree(place)
        hits += code == HIT
        if code == DONE or len(wrong) > 3:
            break
    return {"hits": hits, "wrong": wrong}


if __name__ == "__main__":
    asked = disk_actions.ACTIONS[sys.argv[1]]
    print(json.dumps(enumerate_hits(asked, sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))))
