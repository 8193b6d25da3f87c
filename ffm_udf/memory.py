"""Memory is computed before it is allocated."""

import os
from pathlib import Path


def available_bytes():
    """Bytes that can still be allocated: the machine's free memory, or less if a control group limits this process."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        limits = [int(lines["MemAvailable"].split()[0]) * 1024]
    group = Path("/sys/fs/cgroup")
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        if (group / limit).exists() and (most := (group / limit).read_text().strip()).isdigit():
            limits.append(int(most) - int((group / used).read_text()))
    return min(limits)


def check_memory(needed, purpose, remedy):
    """Raises MemoryError if `needed` bytes are not available."""
    there = available_bytes()
    if needed > there:
        raise MemoryError(f"{purpose} needs {_bytes(needed)} but {_bytes(there)} are available: {remedy}")


def _bytes(count):
    return f"{count:,} bytes ({count / (1 << 30):.2f} GiB)"
