"""How large pages are, and how long a headless Chromium takes until figures of one are drawn.

    python benchmarks/page.py

Each page is made by the command beside it, with plotly's script inside and beside it (`--assets`), and opened five
times in a fresh context; the times are from the navigation's start, by the browser's own clock: to the first text, to
plotly's own start, to the last figure in view (1280 x 900 pixels), and to the last of all.
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
        "| command | with plotly inside | with `--assets` | text | plotly started | in view | slowest | all |",
        "|:---|---:|---:|---:|---:|---:|---:|---:|",
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
            text, started, in_view, everything = map(statistics.median, zip(*times, strict=True))
            slowest = max(one for _, _, one, _ in times)
            lines.append(
                f"| `{command}` | {size / 1e6:.2f} MB | {without / 1e6:.2f} MB | {text:.2f} s | {started:.2f} s "
                f"| {in_view:.2f} s | {slowest:.2f} s | {everything:.2f} s |"
            )
        browser.close()
    record("page", ["# Pages: sizes and drawing times", "", f"{machine()}; headless Chromium.", "", *lines])


def script_of(page: Path) -> int:
    """Return the bytes of plotly's script in a page; a drawing has none."""
    _, found, rest = page.read_text(encoding="utf-8").partition('<script type="text/plain" id="plotly">')
    return len(rest.partition("</script>")[0]) if found else 0


def drawn(browser, page: Path) -> tuple[float, ...]:
    """Open a page; return the seconds until its text is shown, plotly has started, all in view and all is drawn."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    tab = context.new_page()
    tab.goto(page.as_uri())
    painted = "performance.getEntriesByName('first-contentful-paint')"  # written down some time after it happened
    while not tab.evaluate(f"document.documentElement.dataset.complete && {painted}.length"):
        tab.wait_for_timeout(200)
    text = tab.evaluate(f"{painted}[0].startTime")
    rest = (tab.evaluate(f"document.documentElement.dataset.{name}") for name in ("started", "drawn", "complete"))
    taken = tuple(float(one) / 1e3 for one in (text, *rest))
    context.close()
    return taken


if __name__ == "__main__":
    main()
