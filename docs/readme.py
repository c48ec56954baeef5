"""Writes README.md from README.in.md: every `@@arguments@@` becomes what `mlcv-bench arguments` prints, now.

A picture that such a command saves, `-o NAME.png`, goes to docs/images, so that table and picture show one run. A page,
`@@screen arguments -o NAME.html@@`, becomes a picture of what a browser shows of it.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
CHROMIUM = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


def output_of(request: str) -> str:
    """Run mlcv-bench and return what it prints at 120 columns; `| head N` and `| tail N` keep some lines."""
    arguments, _, part = request.partition(" | ")
    done = subprocess.run(  # noqa: S603 - this project's own command
        [sys.executable, "-m", "mlcv_bench", *shlex.split(re.sub(r"-o (\S+\.png)", r"-o docs/images/\1", arguments))],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "120", "NO_COLOR": "1"},
        cwd=ROOT,
    )
    kept = [line.rstrip() for line in done.stdout.strip().splitlines()]
    end, _, lines = part.partition(" ")
    if end:
        kept = [*kept[: int(lines)], "..."] if end == "head" else ["...", *kept[-int(lines) :]]
    return "\n".join(kept)


def screen_of(arguments: str) -> str:
    """Make a page, and return the picture of its upper part as Debian's Chromium shows it."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - for this alone

    *words, name = shlex.split(arguments)
    picture = ROOT / "docs" / "images" / f"{Path(name).stem}-page.png"
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page = Path(folder) / name
        subprocess.run([sys.executable, "-m", "mlcv_bench", *words, name, "--quiet"], check=True, cwd=folder)  # noqa: S603 - as above
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM)
        tab = browser.new_page(viewport={"width": 1280, "height": 1600})
        tab.goto(page.as_uri())
        while not tab.evaluate("document.documentElement.dataset.drawn"):
            tab.wait_for_timeout(100)
        tab.screenshot(path=picture)
        browser.close()
    return f"![The page of `mlcv-bench {arguments}`](docs/images/{picture.name})"


def replaced(found: re.Match[str]) -> str:
    """Return what stands in a request's place."""
    request = found[1]
    return screen_of(request.removeprefix("screen ")) if request.startswith("screen ") else output_of(request)


def main() -> None:
    """Write the README anew."""
    template = (ROOT / "docs" / "README.in.md").read_text(encoding="utf-8")
    text = re.sub(r"@@(.+?)@@", replaced, template)
    (ROOT / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
