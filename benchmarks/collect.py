"""Puts the recorded results together in RESULTS.md, one section a file of results/."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent
HEAD = """# Results

Each section was written by the script named with it, on the machine that it names. The machines are shared and noisy:
compare the ratios, which come from one run, never absolute times of different sections. No GPU was at hand: nothing
below ran on one, unless its section says so.
"""


def main() -> None:
    """Write RESULTS.md anew."""
    parts = [HEAD]
    for path in sorted((HERE / "results").glob("*.md")):
        text = path.read_text(encoding="utf-8").strip()
        if not text.startswith("#"):
            script = f"`python benchmarks/{path.stem}.py`"
            text = f"## {path.stem.replace('_', ' ').capitalize()}\n\nWritten by {script}.\n\n{text}"
        parts.append(text.replace("\n# ", "\n## ") if not text.startswith("# ") else "#" + text)
    (HERE / "RESULTS.md").write_text("\n\n".join(part.strip() for part in parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
