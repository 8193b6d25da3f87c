"""`python -m dashboard.screenshots`: serve the current release and write a picture of every page.

Needs a Chromium or Chrome on the PATH; nothing is downloaded. Run from the root of the checkout, where Streamlit finds
its configuration.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

APP = Path(__file__).parent / "streamlit_app.py"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# No sandbox and no shared memory in containers; nothing that would reach for the network.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDTH = 1280
CONTENT = "[data-testid=stMainBlockContainer]"
DONE = "[data-testid=stApp][data-test-script-state=notRunning]"


def page_names() -> list[str]:
    """The files of the pages."""
    return sorted(path.stem for path in (APP.parent / "app_pages").glob("*.py"))


@contextlib.contextmanager
def served(warehouse: Path, seconds: float = 60) -> Generator[str]:
    """The dashboard on a free local port; yields its address. Raises RuntimeError if it does not come up."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "streamlit", "run", str(APP), "--server.port", str(port)]
    command += ["--server.address", "127.0.0.1", "--server.headless", "true", "--browser.gatherUsageStats", "false"]
    command += ["--", "--warehouse", str(warehouse)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    try:
        deadline = time.monotonic() + seconds
        while not _healthy(address):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the dashboard did not come up at {address} within {seconds:.0f} s")
            time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=20)


def _healthy(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/_stcore/health", timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def browser_path() -> str:
    """The browser's executable; RuntimeError if none is installed."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise RuntimeError(f"a browser must be on the PATH ({', '.join(BROWSERS)}), found none: install chromium")
    return found


def shoot(page: Page, address: str, target: Path) -> None:
    """Write the whole page at `address` to `target`, once its figures are drawn and its script has ended."""
    page.set_viewport_size({"width": WIDTH, "height": 900})
    page.goto(address)
    page.wait_for_selector("[data-testid=stAlert]", timeout=60_000)
    page.wait_for_selector(DONE, timeout=60_000)  # a slow machine pauses longer between two figures than any patience
    # Streamlit scrolls inside of its own container: the window has to be as tall as the content.
    page.set_viewport_size({"width": WIDTH, "height": _settled_height(page)})
    _settled_height(page)
    page.screenshot(path=target)


def _settled_height(page: Page, calm: int = 6) -> int:
    """The content's height once it has stayed the same for `calm` quarters of a second: nothing tells of the end."""
    heights: list[int] = []
    for _ in range(240):
        heights.append(int(page.evaluate(f"() => document.querySelector('{CONTENT}').scrollHeight")))
        if len(heights) >= calm and len(set(heights[-calm:])) == 1:
            return heights[-1]
        page.wait_for_timeout(250)
    raise RuntimeError(f"the page {page.url} does not come to rest: heights {heights[-calm:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--warehouse", type=Path, default=Path("warehouse"))
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    with served(arguments.warehouse) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=FLAGS)
        page = browser.new_page(device_scale_factor=1.25)
        for name in page_names():
            # The first page of the navigation is the address itself.
            shoot(page, f"{address}/{'' if name == 'decision' else name}", arguments.output / f"{name}.png")
            print(arguments.output / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
