"""What GitHub Actions reads: the step's summary, its outputs, and annotations."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlcv_bench.records import Report, visible
from mlcv_bench.report.formats import SAVED, written
from mlcv_bench.report.formats.junit import told_of

SUMMARY_LIMIT = 1000 * 1024
"""GitHub refuses a summary over 1024k whole, and drops one just below it in silence; this keeps clear of both."""

LEVELS = {"fail": "error", "failed": "error", "refused": "error", "no baseline": "error", "not run": "error"}
WARNINGS = {"inconclusive": "warning", "advisory": "warning"}


def announce(report: Report, code: int, *, strict: bool, quiet: bool) -> None:
    """Write the summary, the outputs and the annotations of a suite's outcome where GitHub Actions asks for them."""
    try:
        if place := os.environ.get("GITHUB_STEP_SUMMARY"):
            append_summary(Path(place), written(report, SAVED[".md"]) + "\n")
        if place := os.environ.get("GITHUB_OUTPUT"):
            failed = dict.fromkeys(run["entry"] for run in report.runs if run["verdict"] not in {"pass", "saved"})
            values = {"exit-code": int(code), "verdict": report.notes[0].rstrip("."), "not-passed": " ".join(failed)}
            append_outputs(Path(place), values)
    except OSError as error:
        sys.stderr.write(f"warning: {place} cannot be written: {error.strerror}; GitHub gets no summary\n")
    if os.environ.get("GITHUB_ACTIONS") == "true":
        # The runner reads both streams; stdout is the result's alone.
        for line in annotation_lines(report.runs, strict=strict):
            if not quiet or line.startswith("::error"):
                sys.stderr.write(line + "\n")


def annotation_lines(checks: Sequence[Mapping[str, Any]], *, strict: bool = False) -> Iterator[str]:
    """Yield one workflow command for each check that did not pass: `::error title=...::...`."""
    levels = LEVELS | (dict.fromkeys(WARNINGS, "error") if strict else WARNINGS)
    for check in checks:
        if level := levels.get(check["verdict"]):
            title = escape_property(f"{check['entry']}: {check['limit']}")
            yield f"::{level} title={title}::{escape_data(told_of(check))}"


def escape_data(text: str) -> str:
    """Escape a message, which ends at the line's end."""
    return visible(text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A"))


def escape_property(text: str) -> str:
    """Escape a property, which ends at a comma or colon too."""
    return escape_data(text).replace(":", "%3A").replace(",", "%2C")


def cut_summary(markdown: str, room: int) -> str:
    """Return as many whole lines as fit into `room` bytes, and a note if that is not all; nothing if not even that."""
    if len(markdown.encode()) <= room:
        return markdown
    lines = markdown.splitlines(keepends=True)
    note = "\n**Cut here: {} of {} lines do not fit into GitHub's 1024k; the files saved with -o hold all.**\n"
    left = room - len(note.format(len(lines), len(lines)).encode())
    kept: list[str] = []
    for line in lines:
        left -= len(line.encode())
        if left < 0:
            break
        kept.append(line)
    text = "".join(kept) + note.format(len(lines) - len(kept), len(lines))
    return text if len(text.encode()) <= room else ""


def append_summary(path: Path, markdown: str) -> None:
    """Append to the file that GITHUB_STEP_SUMMARY names, which other commands of the step may have written to."""
    there = path.stat().st_size if path.exists() else 0
    text = markdown.encode("utf-8", "replace").decode()
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(cut_summary(text, SUMMARY_LIMIT - there))


def append_outputs(path: Path, values: Mapping[str, Any]) -> None:
    """Append `name=value` lines to the file that GITHUB_OUTPUT names."""
    with path.open("a", encoding="utf-8", errors="replace", newline="") as file:
        file.writelines(f"{name}={' '.join(str(value).split())}\n" for name, value in values.items())
