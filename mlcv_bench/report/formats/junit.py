"""JUnit XML, as every CI system reads it: a test suite of limits."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from typing import Any

from mlcv_bench.comparing.differences import figure_text
from mlcv_bench.records import visible

ELEMENTS = {
    "fail": "failure",
    "failed": "error",
    "refused": "error",
    "no baseline": "error",
    "inconclusive": "skipped",
    "advisory": "skipped",
    "not run": "skipped",
}
STRICT = {"inconclusive": "failure", "advisory": "error"}


def to_junit(
    title: str, checks: Sequence[Mapping[str, Any]], environment: Mapping[str, Any], *, strict: bool = False
) -> str:
    """Return one test case a check; what could not be judged is skipped, or under `strict` fails.

    Keeps to the schema of Ant's JUnit task as Windy Road published it, which Jenkins and GitLab read too.
    """
    kinds = [(ELEMENTS | (STRICT if strict else {})).get(check["verdict"], "") for check in checks]
    seconds = sum({check["entry"]: check["seconds"] for check in checks}.values())
    counts = {
        "tests": str(len(checks)),
        "failures": str(kinds.count("failure")),
        "errors": str(kinds.count("error")),
    }
    root = ET.Element("testsuites", {"name": "mlcv-bench", "time": f"{seconds:.3f}"} | counts)
    facts = {
        "package": "mlcv_bench",
        "id": "0",
        "name": visible(title),
        "timestamp": environment["time"][:19],
        "hostname": visible(environment["host"]),
        "skipped": str(kinds.count("skipped")),
        "time": f"{seconds:.3f}",
    }
    suite = ET.SubElement(root, "testsuite", facts | counts)
    properties = ET.SubElement(suite, "properties")
    for key in ("python", "system", "cpu", "usable_cores", "commit", "command"):
        if environment.get(key) is not None:
            ET.SubElement(properties, "property", name=key, value=visible(str(environment[key])))
    timed: set[str] = set()
    for check, kind in zip(checks, kinds, strict=True):
        # An entry's time stands with its first check, so that the cases add up to the suite.
        own = 0.0 if check["entry"] in timed else check["seconds"]
        timed.add(check["entry"])
        case = ET.SubElement(
            suite,
            "testcase",
            classname=visible(f"{title}.{check['entry']}"),
            name=visible(check["limit"]),
            time=f"{own:.3f}",
        )
        if kind:
            text = visible(told_of(check))
            element = ET.SubElement(case, kind, message=text)
            if kind != "skipped":
                element.set("type", visible(check["verdict"]))
                element.text = f"{visible(check['command'])}\n{text}"
    ET.SubElement(suite, "system-out")
    ET.SubElement(suite, "system-err")
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def told_of(check: Mapping[str, Any]) -> str:
    """Say in one line what a check that did not pass found."""
    subject = "" if check["subject"] in check["reason"] else check["subject"]
    parts = [check["verdict"], subject, check["reason"]]
    # Changes are listed, which says more than their number.
    if check["measured"] is not None and check["unit"] != "changes":
        unit = f" {check['unit']}" if check["unit"] else ""
        measured, allowed = (figure_text(check[key]) for key in ("measured", "allowed"))
        parts.append(f"measured {measured}{unit}, allowed {allowed}{unit}")
    return "; ".join(filter(None, parts))
