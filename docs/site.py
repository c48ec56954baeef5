"""Lays out the source of the site in build/site/source: the project's own texts, the gallery, and pages of results.

`make site` runs it, and then Zensical. Texts keep their places, so that their links hold; pages share one folder with
plotly's script.
"""

from __future__ import annotations

import html
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from mlcv_bench.report.gallery import GALLERY, stem_of

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "build" / "site" / "source"
TEXTS = ("docs", "benchmarks/RESULTS.md", "benchmarks/results", "benchmarks/suites")
ALSO = ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE")
PAGES = {
    "race": ("A race in a canyon", "optim-race --surface canyon"),
    "costs": ("What networks cost", "flops resnet vgg resnext inception"),
    "verify": ("One function in three forms", "verify resnext"),
    "claims": ("The notes' remarks, tested", "claims"),
    "resnet50": ("ResNet-50, stage by stage", "draw resnet50"),
}
"""Pages of results, made by the command that each names."""


def run(words: list[str]) -> None:
    """Run mlcv-bench in the source's folder."""
    subprocess.run([sys.executable, "-m", "mlcv_bench", *words], check=True, cwd=SOURCE)  # noqa: S603 - this project


def copy_texts() -> None:
    """Copy the texts to where their links expect them; the README begins the site."""
    for place in (*TEXTS, *ALSO):
        source, target = ROOT / place, SOURCE / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
    shutil.copy(ROOT / "README.md", SOURCE / "index.md")


def write_gallery() -> None:
    """Draw the notes' figures, and write the text that shows them."""
    run(["figures", "--all", "--quiet", "-o", "gallery"])
    (SOURCE / "gallery" / "index.html").unlink()
    parts = ["# The notes' figures", "Optimizers are run and networks are built for these; none is a sketch."]
    for number, caption in GALLERY.items():
        name = f"gallery/{stem_of(number)}.png"
        shown = html.escape(caption)
        parts.append(f"## {number}\n\n[![{shown}]({name})]({name})\n\n{shown}. `mlcv-bench figures {number} -o x.png`")
    (SOURCE / "gallery.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def write_pages() -> None:
    """Make the pages of results, and write the text that links them."""
    parts = ["# Results to explore", "Each is made by the command beside it; how: [the page](docs/page.md).", ""]
    (SOURCE / "pages").mkdir()
    for name, (title, command) in PAGES.items():
        run([*shlex.split(command), "-o", f"pages/{name}.html", "--assets", "pages/assets", "--quiet"])
        parts.append(f"- [{title}](pages/{name}.html): `mlcv-bench {command}`")
    (SOURCE / "explore.md").write_text("\n".join(parts) + "\n", encoding="utf-8")


def main() -> None:
    """Lay out the source anew."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    SOURCE.mkdir(parents=True)
    copy_texts()
    write_gallery()
    write_pages()


if __name__ == "__main__":
    main()
