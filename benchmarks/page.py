"""How large pages are, and how long a headless Chromium takes until every figure of one is drawn.

    python benchmarks/page.py

Each page is made by the command beside it, with plotly's script inside and beside it (`--assets`), and opened five
times in a fresh context; the time is from the navigation's start to the last figure, by the browser's own clock.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import machine, record
from playwright.sync_api import sync_playwright

COMMANDS = (
    "optim-race --surface canyon",
    "flops resnet vgg resnext inception",
    "time resnet20 plain20 --batch 1,4 --seconds 2 --threads 1",
    "verify resnext",
    "draw resnet50",
)
OPENINGS = 5
CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)


def main() -> None:
    """Make the pages, open them and write the section."""
    lines = [
        "| command | with plotly inside | with `--assets` | drawn, median | slowest |",
        "|:---|---:|---:|---:|---:|",
    ]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        for number, command in enumerate(COMMANDS):
            whole = Path(folder) / f"{number}.html"
            words = [sys.executable, "-m", "mlcv_bench", *command.split(), "--quiet", "-o", str(whole)]
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
            times = [drawn(browser, whole) for _ in range(OPENINGS)]
            size = whole.stat().st_size
            without = size - script_of(whole)
            lines.append(
                f"| `{command}` | {size / 1e6:.2f} MB | {without / 1e6:.2f} MB | {statistics.median(times):.2f} s "
                f"| {max(times):.2f} s |"
            )
        browser.close()
    record("page", ["# Pages: sizes and drawing times", "", f"{machine()}; headless Chromium.", "", *lines])


def script_of(page: Path) -> int:
    """Return the bytes of plotly's script in a page; a drawing has none."""
    from plotly import offline  # noqa: PLC0415 - beside the pages, which need it

    code = offline.get_plotlyjs()
    return len(code.encode()) if code in page.read_text(encoding="utf-8") else 0


def drawn(browser, page: Path) -> float:
    """Open a page and return the seconds until all of it was drawn."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    tab = context.new_page()
    tab.goto(page.as_uri())
    tab.wait_for_function("document.documentElement.dataset.drawn !== undefined", timeout=120_000)
    taken = float(tab.evaluate("document.documentElement.dataset.drawn"))
    context.close()
    return taken / 1e3


if __name__ == "__main__":
    main()
