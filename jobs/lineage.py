"""What a run or a model was made from: code, lock, contract and machine."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from typing import Any

from jobs import java
from jobs.contract import Contract
from jobs.cycle import Cycle
from jobs.lake import PROJECT, code_sha, sha256_file, sha256_json

# The module that, with all it imports, turns rows into a model.
TRAINING = "jobs.mixing"


def features(contract: Contract) -> dict[str, Any]:
    """What of the contract decides the features of a row; a model only fits rows made by the same."""
    found = contract.part("fields", "history_smoothing", "entity", "candidate", "match", "period")
    # Left out where there is none, so that models of before this key was known still fit.
    return found | (contract.part("delivered_at") if contract.delivered_at else {})


def lineage(cycle: Cycle) -> dict[str, Any]:
    """The links that a model card and the run fact carry."""
    return environment() | {
        "contract": cycle.contract.name,
        "contract_sha": cycle.contract.sha,
        "features_sha": sha256_json(features(cycle.contract)),
        "label_version": cycle.contract.label.version,
        "cycle_date": str(cycle.date),
    }


def environment() -> dict[str, Any]:
    """The links that do not depend on the data: code, lock, interpreter and machine of this process."""
    import pyspark

    lock = PROJECT / "requirements.lock"
    found = {
        "git_sha": git_sha(),
        "code_sha": code_sha("jobs.nightly"),
        "training_code_sha": code_sha(TRAINING),
        "lock_sha": sha256_file(lock) if lock.exists() else "none",
        "python": platform.python_version(),
        "spark": pyspark.__version__,
        "jvm": jvm(),
        "machine": machine(),
        "cores": os.cpu_count() or 1,
    }
    return found | {"env_hash": env_hash(found)}


# What two runs of the same code over the same data have to share to be expected to agree to the bit.
ENVIRONMENT = ("lock_sha", "python", "spark", "jvm", "machine")


def env_hash(links: dict[str, Any]) -> str:
    """SHA-256 of locked packages, interpreter, Spark, JVM and processor: equal hash, equal environment."""
    return sha256_json({name: links[name] for name in ENVIRONMENT})


@functools.cache
def jvm() -> str:
    """The version of the Java that Spark runs on; "none" without one."""
    try:
        return (java.properties(f"{java.java_home()}/bin/java") or {}).get("java.version", "none")
    except java.JavaError:
        return "none"


@functools.cache
def git_sha() -> str:
    """The commit of the checkout, with "+" if files differ from it; "none" outside a checkout (an installed wheel)."""
    command = ["git", "-C", str(PROJECT), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "none"


@functools.cache
def machine() -> str:
    """The processor's name."""
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
