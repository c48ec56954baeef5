"""One real browser for all pages: Debian's Chromium, driven by Playwright; a page that asks the network fails."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

CHROMIUM = Path("/usr/bin/chromium")
# A page must need no network, and this machine no graphics card: surfaces are drawn by software.
QUIET = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)


def until(tab, expression, seconds=60):
    """Wait until an expression of the page's is true; Playwright's own wait evaluates texts, which a page forbids."""
    end = time.monotonic() + seconds
    while not tab.evaluate(expression):
        assert time.monotonic() < end, expression
        tab.wait_for_timeout(20)


# Not longer than a module: while Playwright is open, its event loop runs in this thread, and nothing else may run one.
@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install 'mlcv-bench[dev]' brings playwright")
    if not CHROMIUM.exists():
        pytest.skip("no /usr/bin/chromium; type: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=QUIET)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def tabs(browser):
    """Keep every page that is open, by its file and its circumstances: a page takes a second to open."""
    held, contexts, complaints = {}, {}, []

    def opened(path, scheme="light", width=1280):
        if (path, scheme, width) in held:
            return held[path, scheme, width]
        if (scheme, width) not in contexts:
            contexts[scheme, width] = browser.new_context(
                viewport={"width": width, "height": 900},
                color_scheme=scheme,
                offline=True,
                accept_downloads=True,
                permissions=["clipboard-read", "clipboard-write"],
            )
        tab = held[path, scheme, width] = contexts[scheme, width].new_page()
        own = ("file:", "data:", "blob:")
        tab.on("console", lambda message: message.type == "error" and complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: request.url.startswith(own) or complaints.append(request.url))
        tab.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        tab.goto(path.resolve().as_uri())
        until(tab, "document.documentElement.dataset.complete !== undefined")
        return tab

    return opened, complaints


@pytest.fixture
def visit(tabs):
    """Return what opens a page off line and waits until its figures are drawn; no error and no request may come."""
    opened, complaints = tabs
    complaints.clear()
    yield opened
    assert complaints == []
