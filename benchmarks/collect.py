"""Puts the recorded results together in RESULTS.md, one section a file of results/."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
HEAD = """# Results

Each section was written by the script named with it, on the machine that it names; remarks on the circumstances were
added by hand. The machines are shared and noisy: compare the ratios, which come from one run, never absolute times of
different sections. One section ran on a GPU, an NVIDIA H100: "mlcv-bench on a GPU"; every other one on processors.
"""
SCRIPTS = {"optimizer_step_1": "optimizer_step.py"}
"""The scripts whose results have another name than they."""
BY_HAND = ("tasks",)
"""Sections put together by hand, from the commands that they name."""


def section(path: Path) -> str:
    """Return a file of results as a section: a heading, where it comes from, its text one level down, its links."""
    text = path.read_text(encoding="utf-8").strip()
    if not text.startswith("# "):
        text = f"# {path.stem.replace('_', ' ').capitalize()}\n\n{text}"
    title, _, rest = text.partition("\n")
    script = SCRIPTS.get(path.stem, f"{path.stem}.py")
    source = "Put together by hand." if path.stem in BY_HAND else f"Written by `python benchmarks/{script}`."
    rest = re.sub(r"^#", "##", rest, flags=re.MULTILINE)
    return f"#{title}\n\n{source}\n\n" + re.sub(r"\]\((?=[\w-]+\.md\))", "](results/", rest).strip()


def main() -> None:
    """Write RESULTS.md anew."""
    parts = [HEAD, *(section(path) for path in sorted((HERE / "results").glob("*.md")))]
    (HERE / "RESULTS.md").write_text("\n\n".join(part.strip() for part in parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
