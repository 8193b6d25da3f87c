"""Backup, restore, drill and verification of a real warehouse: FIELDMART_WAREHOUSE, by default `warehouse`."""

import shutil
import tempfile
import time
from pathlib import Path

from bench.published import published
from bench.report import Measure, write
from jobs import drill
from jobs.backup import backup
from jobs.restore import restore
from jobs.verification import verify

RESTORE_BAR_S = 60


def main():
    root = published().model.parent.parent
    with tempfile.TemporaryDirectory(prefix=".bench-recovery-", dir=root.parent) as folder:
        place = Path(folder)
        work = shutil.copytree(root, place / "warehouse", symlinks=True)  # its log of operations is not the real one's
        first = backup(work, place / "backups")
        again = backup(work, place / "backups")
        started = time.perf_counter()
        faults = verify(place / "backups").faults
        verified_s = time.perf_counter() - started
        before = drill.hashes(work)
        shutil.rmtree(work)
        done = restore(place / "backups", work)
        drill.answer(work)
        equal = drill.hashes(work) == before and not faults
    measures = [
        Measure("backup, first", first.seconds, "s"),
        Measure("backup, nothing new", again.seconds, "s"),
        Measure("bytes of the backup", first.bytes / 2**20, "MiB"),
        Measure("bytes sent by the second", again.sent_bytes / 2**20, "MiB"),
        Measure("verification of the backup", verified_s, "s"),
        Measure.at_most("restore, everything lost", done.rto_s, "s", RESTORE_BAR_S),
        Measure.at_least("every mart has the same rows", float(equal), "(1: yes)", 1),
    ]
    notes = (
        f"A warehouse of {len(before)} marts in its releases, {first.files} files. It is backed up twice to the same"
        " disk, removed, restored and compared row by row."
    )
    write("recovery", "Recovery", measures, notes)


if __name__ == "__main__":
    main()
