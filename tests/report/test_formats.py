"""What other systems read: each format against its schema, and pyperf against pyperf itself."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import jsonschema
import pytest
import xmlschema
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcv_bench.report.formats.github import (
    SUMMARY_LIMIT,
    annotation_lines,
    append_outputs,
    append_summary,
    cut_summary,
)
from mlcv_bench.report.formats.junit import to_junit
from mlcv_bench.report.formats.measurements import measurements, to_action_benchmark, to_bencher, to_openmetrics
from mlcv_bench.report.formats.pyperf import to_pyperf
from tests.suites.documents import ENVIRONMENT, cost, document, raced, time_document, timed, trained

JUNIT = xmlschema.XMLSchema(Path(__file__).parent / "junit.xsd")
ACTION = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["name", "unit", "value"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "minLength": 1},
            "unit": {"type": "string"},
            "value": {"type": "number"},
            "range": {"type": "string"},
            "extra": {"type": "string"},
        },
    },
}
METRIC = {
    "type": "object",
    "required": ["value"],
    "additionalProperties": False,
    "properties": {key: {"type": "number"} for key in ("value", "lower_value", "upper_value")},
}
BENCHER = {
    "type": "object",
    "propertyNames": {"maxLength": 1024, "minLength": 1},
    "additionalProperties": {
        "type": "object",
        "propertyNames": {"maxLength": 64, "pattern": "^[a-z][a-z0-9-]*$"},
        "minProperties": 1,
        "additionalProperties": METRIC,
    },
}
PYPERF = {
    "type": "object",
    "required": ["version", "benchmarks"],
    "properties": {
        "version": {"const": "1.0"},
        "benchmarks": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["runs", "metadata"],
                "properties": {
                    "metadata": {
                        "type": "object",
                        "required": ["name"],
                        "additionalProperties": {"type": ["string", "number"]},
                    },
                    "runs": {
                        "type": "array",
                        "minItems": 1,
                        "items": {
                            "type": "object",
                            "required": ["values"],
                            "properties": {
                                "values": {"type": "array", "minItems": 1, "items": {"exclusiveMinimum": 0}},
                                "warmups": {
                                    "type": "array",
                                    "items": {"type": "array", "prefixItems": [{"type": "integer"}, {"minimum": 0}]},
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}

DOCUMENTS = {
    "cost": document("cost", [cost(), cost("resnet32", 2000)]),
    "speed": time_document(timed(), timed("huge", status="failed")),
    "race": document("optim-race", [raced(), raced("sgd", "budget", first_hit=None)]),
    "words": document("claims", [{"id": "a", "verdict": "holds"}]),
}


def no_constant(name):
    raise AssertionError(name)


def parsed(text, schema):
    value = json.loads(text, parse_constant=no_constant)
    jsonschema.Draft202012Validator(schema).validate(value)
    return value


def test_action_benchmark_has_one_file_a_direction_and_leaves_failures_out():
    smaller = parsed(to_action_benchmark(measurements(DOCUMENTS), "smaller"), ACTION)
    bigger = parsed(to_action_benchmark(measurements(DOCUMENTS), "bigger"), ACTION)
    names = [row["name"] for row in smaller + bigger]
    assert len(set(names)) == len(names)
    assert not any("huge" in name or "sgd" in name for name in names)
    assert [row["name"] for row in bigger] == [
        "speed: resnet20 3x32x32 cpu eager float32 contiguous batch=1 threads=1 forward throughput"
    ]
    (latency,) = [row for row in smaller if row["name"].endswith("latency")]
    assert latency["value"] == 0.010
    assert latency["range"] == "0.0098 .. 0.0102"


def test_a_run_on_a_task_counts_with_its_last_epoch():
    runs = {"task": document("optim-race", [*trained("adam", (0.5, 0.97, 0.96)), *trained("sgd", (0.2, 0.9))])}
    rows = parsed(to_action_benchmark(measurements(runs), "bigger"), ACTION)
    assert [row["value"] for row in rows] == [0.96, 0.9]


def test_a_name_depends_on_no_other_row():
    def names(found):
        return {one.name for one in measurements(found)}

    alone = {"cost": document("cost", [cost()])}
    assert names(alone) <= names(DOCUMENTS)


def test_bencher_carries_the_interval_in_nanoseconds():
    value = parsed(to_bencher(measurements(DOCUMENTS)), BENCHER)
    (name,) = [name for name in value if name.startswith("speed")]
    latency = value[name]["latency"]
    assert latency == {"value": pytest.approx(1e7), "lower_value": pytest.approx(9.8e6), "upper_value": 1.02e7}
    assert value[name]["throughput"]["lower_value"] == pytest.approx(1 / 0.0102)


def test_openmetrics_has_a_family_a_quantity_and_ends_with_its_mark():
    """By the text format's grammar: https://github.com/prometheus/OpenMetrics, 1.0."""
    named = {'net "a"\\b': document("cost", [cost()]), "speed": DOCUMENTS["speed"]}
    *lines, mark, last = to_openmetrics(measurements(named)).split("\n")
    assert (mark, last) == ("# EOF", "")
    samples = [line for line in lines if not line.startswith("#")]
    assert all(
        re.fullmatch(r'[a-z_]+\{entry="([^"\\]|\\["\\n])*",row="([^"\\]|\\["\\n])*"\} [0-9.e+-]+', one)
        for one in samples
    )
    families = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(set(families)) == len(families)
    assert [one.partition("{")[0] for one in samples] == families
    row = "resnet20 3x32x32 cpu eager float32 contiguous batch=1 threads=1 forward"
    assert f'mlcv_bench_latency_seconds{{entry="speed",row="{row}"}} 0.01' in samples


def test_pyperf_reads_and_compares_our_timings(tmp_path):
    import pyperf

    paths = [tmp_path / "one.json", tmp_path / "two.json"]
    slow = time_document(timed(median=0.020, low=0.0199, high=0.0201))
    for path, speed in zip(paths, (DOCUMENTS["speed"], slow), strict=True):
        text = to_pyperf(DOCUMENTS | {"speed": speed})
        parsed(text, PYPERF)
        path.write_text(text)
    suite = pyperf.BenchmarkSuite.load(str(paths[0]))
    (benchmark,) = suite.get_benchmarks()
    assert benchmark.get_nvalue() == 20  # the contended block is left out, as in our own estimate
    assert benchmark.median() == pytest.approx(0.010, rel=0.011)
    assert benchmark.get_nrun() == 5
    done = subprocess.run(
        [sys.executable, "-m", "pyperf", "compare_to", *map(str, paths)], capture_output=True, text=True, check=True
    )
    assert "2.00x slower" in done.stdout


def test_exports_of_one_row_agree_and_say_that_it_met_other_load():
    """Beside load one thread's figure is by the processor's clock: 2.76 ms, where the wall's shows 28.7."""
    row = timed(median=2.76e-3, low=2.7e-3, high=2.8e-3, basis="cpu", contention="crowded steal")
    busy = time_document(row)
    flags = {"flags": ["crowded"], "utilisation": 0.1, "switches_per_s": 9.0}
    block = {"calls_s": [28.7e-3] * 4, "cpu_s": 4 * 2.76e-3, "idle_s": 0.0, "contention": flags}
    busy["details"]["cells"][row["key"]]["blocks"] = [{"round": number, **block} for number in range(5)]
    (bench,) = json.loads(to_pyperf({"speed": busy}))["benchmarks"]
    assert [run["values"] for run in bench["runs"]] == [[pytest.approx(2.76e-3)]] * 5
    assert bench["metadata"]["mlcv_bench_contention"] == "crowded steal"
    (measures,) = parsed(to_bencher(measurements({"speed": busy})), BENCHER).values()
    assert measures["latency"]["value"] == pytest.approx(2.76e6)
    assert measures["contended"] == {"value": 1.0}
    for better in ("smaller", "bigger"):
        rows = parsed(to_action_benchmark(measurements({"speed": busy}), better), ACTION)
        assert ["met other load (crowded steal)" in one["extra"] for one in rows] == [True, False][: len(rows)]
    quiet = parsed(to_bencher(measurements(DOCUMENTS)), BENCHER)
    assert [one["contended"]["value"] for one in quiet.values() if "contended" in one] == [0.0]


CHECK = {
    "entry": "speed",
    "command": "mlcv-bench time resnet20",
    "limit": "max_slowdown",
    "verdict": "fail",
    "allowed": 1.05,
    "measured": 1.2,
    "unit": "times",
    "subject": "resnet20",
    "reason": "",
    "seconds": 2.5,
}
VERDICTS = ("pass", "saved", "advisory", "inconclusive", "no baseline", "failed", "refused", "fail", "not run")


def check_junit(text):
    """Hold a document against the schema of what is written here, and its counts against its cases."""
    JUNIT.validate(text)
    root = ET.fromstring(text.encode())  # noqa: S314 - this project wrote it
    cases = []
    for suite in root:
        cases += suite.findall("testcase")
        for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(suite.get(attribute)) == sum(case.find(tag) is not None for case in suite.findall("testcase"))
        assert int(suite.get("tests")) == len(suite.findall("testcase"))
        total = math.fsum(float(case.get("time")) for case in suite.findall("testcase"))
        assert float(suite.get("time")) == pytest.approx(total, abs=0.01)
    return cases


@pytest.mark.parametrize("strict", [False, True])
def test_junit_has_a_case_a_check(strict):
    checks = [CHECK | {"verdict": verdict} for verdict in VERDICTS]
    cases = check_junit(to_junit("gate", checks, ENVIRONMENT, strict=strict))
    kinds = [case[0].tag if len(case) else "" for case in cases]
    undecided = ["error", "failure"] if strict else ["skipped", "skipped"]
    assert kinds == ["", "", *undecided, "error", "error", "error", "failure", "skipped"]
    assert cases[-2].get("classname") == "gate.speed"
    assert cases[-2][0].get("message") == "fail; resnet20; measured 1.2 times, allowed 1.05 times"


@settings(deadline=None, max_examples=60)
@given(st.text(), st.sampled_from(VERDICTS))
def test_no_text_breaks_a_format(text, verdict):
    check = CHECK | {"reason": text, "subject": text, "entry": text or "x", "verdict": verdict}
    check_junit(to_junit(text, [check], ENVIRONMENT))
    for line in annotation_lines([check]):
        assert re.fullmatch(r"::(error|warning) title=[^:,\r\n]*::[^\r\n]*", line)


def test_annotations_follow_strictness():
    undecided = [CHECK | {"verdict": "inconclusive"}]
    assert next(annotation_lines(undecided)).startswith("::warning title=speed%3A max_slowdown::inconclusive; ")
    assert next(annotation_lines(undecided, strict=True)).startswith("::error ")
    assert list(annotation_lines([CHECK | {"verdict": "pass"}])) == []


def test_a_summary_is_appended_and_never_passes_the_limit(tmp_path):
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    append_summary(path, "small\n")
    assert path.read_text() == "before\nsmall\n"
    table = "| a | b |\n| --- | --- |\n" + "| é | 1 |\n" * 200_000
    append_summary(path, table)
    text = path.read_text()
    assert SUMMARY_LIMIT - 300 < path.stat().st_size <= SUMMARY_LIMIT < 1024 * 1024
    assert text.startswith("before\nsmall\n| a | b |\n")
    assert re.search(r"\| é \| 1 \|\n\n\*\*Cut here: \d+ of 200002 lines do not fit into GitHub's 1024k.*\n$", text)
    size = path.stat().st_size
    append_summary(path, table)
    assert size <= path.stat().st_size <= SUMMARY_LIMIT


def test_a_summary_of_a_file_whose_name_is_no_text_is_written(tmp_path):
    append_summary(tmp_path / "summary.md", "g\udcffte\n")
    append_outputs(tmp_path / "output", {"verdict": "g\udcffte"})
    assert (tmp_path / "summary.md").read_text() == "g?te\n"
    assert (tmp_path / "output").read_text() == "verdict=g?te\n"


@settings(deadline=None, max_examples=60)
@given(st.text(), st.integers(min_value=-10, max_value=400))
def test_a_cut_summary_fits(text, room):
    cut = cut_summary(text, room)
    assert not cut or len(cut.encode()) <= room
    assert cut == text or len(text.encode()) > room


def test_outputs_are_one_line_each(tmp_path):
    path = tmp_path / "output"
    path.write_text("other=1\n")
    append_outputs(path, {"exit-code": 1, "verdict": "two\nlines"})
    assert path.read_text() == "other=1\nexit-code=1\nverdict=two lines\n"
