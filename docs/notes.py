"""Writes docs/notes.md from saved claims.

`mlcv-bench claims --all -o claims.json`, then `python docs/notes.py claims.json`. Several files are taken together,
a later one's rows for an earlier one's. A test holds the page against the claims.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from mlcv_bench.claims.claim import CLAIMS
from mlcv_bench.report.claims import RULE, VERDICTS
from mlcv_bench.report.gallery import GALLERY, stem_of

INTRODUCTION = (
    "Every remark of *Machine Learning for Computer Vision* (University of Bologna, 2024/25) that an experiment can "
    "decide, in our own words:"
)
UNDECIDED = (
    "One of the notes' 26 labelled remarks has no claim, as no experiment decides it: that the convolutions of an "
    "inception module can be seen as decision components (2.1)."
)
AGAIN = "`mlcv-bench claims` repeats the quick ones, `--all` all of them; exit code 1 says that a verdict has changed."
ROOT = Path(__file__).parent.parent
SECTIONS = {
    "1.1": "Stochastic gradient descent with mini-batches",
    "1.2": "Second-order methods",
    "1.3": "Momentum",
    "1.4": "Adaptive learning rates",
    "2.1": "Inception-v1 (GoogLeNet)",
    "2.2": "Residual networks",
    "2.3": "ResNeXt",
}
FIGURES = {
    "1.3": ("1.1", "1.2", "1.3"),
    "1.4": ("1.4", "1.5", "1.6", "1.7", "1.8"),
    "2.1": ("2.1", "2.2"),
    "2.2": ("2.3", "2.4", "inception-resnet-a", "inception-resnet-b"),
    "2.3": ("resnext",),
}


def number(value: Any) -> str:  # noqa: ANN401 - a number or nothing
    """Return a number as the page shows it; JSON has no infinity, which is a target that was never reached."""
    return "inf" if value is None else f"{value:.6g}"


def escaped(text: str) -> str:
    """Keep a cell's text from ending its cell."""
    return text.replace("|", "\\|")


def claim_lines(name: str, row: dict[str, Any], details: list[dict[str, Any]]) -> list[str]:
    """Return one claim: its remark, its verdict, its numbers, its command."""
    claim = CLAIMS[name]
    when = "" if claim.quick else "; a long one, which runs when named or under --all"
    lines = [
        f"### {name}: {VERDICTS[row['verdict']]}",
        "",
        f"> {claim.remark}" + (f" Limit: {claim.limit}." if claim.limit else ""),
        "",
        row["explanation"],
        "",
        f"`mlcv-bench claims --id {name}` ({row['seconds']:.1f} s{when}); `--show` draws it",
        "",
        "| quantity | measured | | predicted | tolerance | interval | met |",
        "|:---|---:|:---:|---:|---:|---:|:---|",
    ]
    for one in details:
        unit = f" [{one['unit']}]" if one["unit"] else ""
        met = {True: "yes", False: "no", None: "open"}[one["met"]]
        tolerance = f"{one['tolerance']:.2g}"
        cells = (
            number(one["measured"]),
            one["relation"],
            number(one["predicted"]),
            tolerance,
            one["interval"] or "",
            met,
        )
        lines.append(f"| {escaped(one['quantity'] + unit)} | {' | '.join(cells)} |")
    return [*lines, ""]


def page(documents: list[dict[str, Any]]) -> str:
    """Return the whole page."""
    rows = {row["id"]: row for document in documents for row in document["runs"]}
    details = {name: found for document in documents for name, found in document["details"].items()}
    machine, total = documents[-1]["environment"], sum(row["seconds"] for row in rows.values())
    versions = machine["versions"]
    counts = [sum(row["verdict"] == verdict for row in rows.values()) for verdict in VERDICTS]
    summary = ", ".join(f"{count} {words}" for count, words in zip(counts, VERDICTS.values(), strict=True) if count)
    recorded = (
        f"Recorded on {machine['cpu']} with {machine['usable_cores']} usable cores, Python {machine['python']}, torch "
        f"{versions['torch']}, numpy {versions['numpy']}, {machine['time'][:10]};"
    )
    lines = [
        "# The course notes, tested",
        "",
        f"{INTRODUCTION} {len(rows)} claims, {summary}. {UNDECIDED}",
        "",
        f"{recorded} {total:.0f} s of experiments. {AGAIN}",
        "",
        "How a verdict follows from the numbers: " + RULE[0].lower() + RULE[1:],
        "",
        "This page is written by `docs/notes.py` from the claims' own results.",
        "",
    ]
    chapters = {"1": "Optimizers", "2": "Architectures"}
    for section, title in SECTIONS.items():
        if section.endswith(".1"):
            lines += [f"# {section[0]} {chapters[section[0]]}", ""]
        lines += [f"## {section} {title}", ""]
        for figure in FIGURES.get(section, ()):
            caption, stem = GALLERY[figure], stem_of(figure)
            picture = ROOT / "docs" / "images" / f"{stem}.png"
            if picture.exists():
                lines += [f"![{caption}](images/{picture.name})", ""]
            lines += [f"Figure {figure}, {caption}: `mlcv-bench figures {figure} -o {stem}.png`", ""]
        for name, claim in CLAIMS.items():
            if claim.section == section:
                lines += claim_lines(name, rows[name], details[name])
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Write the page anew."""
    documents = [json.loads(Path(path).read_text(encoding="utf-8")) for path in sys.argv[1:]]
    (ROOT / "docs" / "notes.md").write_text(page(documents), encoding="utf-8")


if __name__ == "__main__":
    main()
