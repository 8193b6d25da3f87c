"""What a person sees while a job runs: one line per stage with rows, rate and elapsed time."""

from __future__ import annotations

import threading

from rich.console import Console
from rich.status import Status


class Progress:
    """Prints to a terminal with a live spinner, and plain finished lines anywhere else (logs, CI, Airflow)."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._status: Status | None = None
        self._lock = threading.Lock()

    def start(self, stage: str) -> None:
        if self.console.is_terminal:
            self._status = self.console.status(f"[bold]{stage}[/bold] …")
            self._status.start()

    def note(self, text: str) -> None:
        """One line inside a stage, for example a finished model."""
        with self._lock:
            self.console.print(f"  {text}", style="dim", soft_wrap=True)

    def finish(self, stage: str, rows: int, seconds: float, reused: bool, failed: bool) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None
        if failed:
            self.console.print(f"[red]✗[/red] {stage:<10} failed after {seconds:.1f} s")
            return
        rate = "" if reused or not rows else f"{rows / max(seconds, 1e-9):>12,.0f} rows/s"
        what = "reused" if reused else f"{seconds:6.1f} s"
        self.console.print(f"[green]✓[/green] {stage:<10} {rows:>12,} rows  {what:>9}{rate}")
