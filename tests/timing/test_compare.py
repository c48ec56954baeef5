from __future__ import annotations

import contextlib
import random
from dataclasses import replace

import pytest

from mlcv_bench.report.comparisons import ab_report
from mlcv_bench.timing import compare as module
from mlcv_bench.timing.compare import LEAST_PALINDROMES, LOOKS, ComparePlan
from tests.timing.fakes import LOUD, FakeWorkload


def compare(base, other, twin, plan, **options):
    """Compare sides that stay the same whenever they are started."""
    return module.compare(lambda: contextlib.nullcontext((base, other, twin)), plan, **options)


def noisy(scale, spread=0.002, seed=0):
    chance = random.Random(seed)
    return [scale * chance.lognormvariate(0, spread) for _ in range(5000)]


def sides(factor, spread=0.002, **options):
    return [
        FakeWorkload(noisy(scale, spread, seed), **options) for seed, scale in enumerate((0.04, 0.04 * factor, 0.04))
    ]


@pytest.mark.parametrize(("factor", "verdict"), [(1.1, "slower"), (1.05, "slower"), (1.0, "same"), (0.9, "faster")])
def test_the_verdict_follows_the_ratio(factor, verdict):
    found = compare(*sides(factor), ComparePlan(seconds=60))
    assert found.verdict == verdict
    assert found.ratio.low <= factor <= found.ratio.high or abs(found.ratio.middle / factor - 1) < 0.005
    assert found.margin >= 0.01


def test_noise_beyond_the_budget_is_inconclusive_and_says_what_could_have_been_seen():
    found = compare(*sides(1.05, spread=0.5), ComparePlan(seconds=5))
    assert found.verdict == "inconclusive"
    assert found.smallest_visible > 0.05


@pytest.mark.parametrize("luck", [0.0, 0.013])
def test_two_equal_sides_are_hardly_ever_called_different(luck):
    """Also where every process has a luck of its own, which no number of its calls shows."""
    wrong, sessions = 0, 0
    for seed in range(60):
        chance = random.Random(seed)

        @contextlib.contextmanager
        def started(chance=chance):
            nonlocal sessions
            sessions += 1
            scales = [0.04 * chance.lognormvariate(0, luck) for _ in range(3)]
            yield tuple(FakeWorkload([scale * chance.lognormvariate(0, 0.02) for _ in range(99)]) for scale in scales)

        found = module.compare(started, ComparePlan(seconds=15, seed=seed))
        assert found.sessions == sessions
        sessions = 0
        wrong += found.verdict in {"slower", "faster"}
    assert wrong <= 1


@pytest.mark.parametrize(("factor", "least"), [(1.05, 34), (1.1, 40)])
def test_a_real_slow_down_is_seen_through_the_luck_of_processes(factor, least):
    seen = []
    for seed in range(40):
        chance = random.Random(seed)

        @contextlib.contextmanager
        def started(chance=chance):
            scales = [0.04 * chance.lognormvariate(0, 0.01) * part for part in (1, factor, 1)]
            yield tuple(FakeWorkload([scale * chance.lognormvariate(0, 0.02) for _ in range(99)]) for scale in scales)

        seen.append(module.compare(started, ComparePlan(seconds=15, seed=seed)).verdict)
    assert seen.count("slower") >= least
    assert "faster" not in seen


def test_a_biased_twin_widens_the_margin():
    base, other, twin = (FakeWorkload(value) for value in (0.04, 0.0411, 0.0412))
    found = compare(base, other, twin, ComparePlan(seconds=10))
    assert found.control.middle == pytest.approx(1.03)
    assert found.margin == pytest.approx(0.03)
    assert found.verdict == "inconclusive", "neither slower nor proved the same"


def test_the_sides_run_in_palindromes_of_random_order():
    log = []
    cells = [FakeWorkload(0.04, log=log, name=name) for name in "ABT"]
    compare(*cells, ComparePlan(seconds=10))
    turns = ["".join(log[index : index + 6]) for index in range(0, len(log), 6)]
    assert all(turn == turn[::-1] and sorted(turn) == list("AABBTT") for turn in turns)
    assert len(set(turns)) > 1


def test_steady_drift_cancels():
    class Drifting:
        now = 0

    def blocks(factor):
        cell = FakeWorkload(1.0)

        def one(_seconds):
            Drifting.now += 1
            block = FakeWorkload(0.04 * factor * 1.002**Drifting.now).block(0)
            cell.blocks += 1
            return block

        cell.block = one
        return cell

    found = compare(blocks(1.0), blocks(1.0), blocks(1.0), ComparePlan(seconds=1))
    assert found.ratio.middle == pytest.approx(1.0, abs=1e-9)
    assert found.verdict == "same"


def test_looks_spend_the_error_they_may_make():
    seen = []
    compare(*sides(1.02, spread=0.08), ComparePlan(seconds=30), on_look=seen.append)
    assert [look.looks for look in seen] == list(range(1, len(seen) + 1))
    assert [look.sessions for look in seen] == [4, 6]
    assert LOOKS[:2] == (4, 6)
    assert all(len(session) >= LEAST_PALINDROMES for session in seen[-1].ratios)
    spent = sum(1 - look.confidence for look in seen)
    assert spent <= 0.05


def test_one_thread_is_judged_by_processor_time_and_more_by_wall_time():
    loud = [FakeWorkload(value, contention=LOUD) for value in (0.04, 0.04, 0.04)]
    found = compare(*loud, ComparePlan(seconds=5))
    assert (found.clock, found.contended) == ("cpu", 6 * sum(map(len, found.ratios)))
    assert compare(*sides(1.0), ComparePlan(seconds=5, on_cpu_time=False)).clock == "wall"


class Side(FakeWorkload):
    """Computes for a while a call, sleeps for a while, and waits for a core during the rest of `seconds`."""

    def __init__(self, seconds, cpu, idle=0.0):
        super().__init__(seconds, contention=LOUD)
        self.cpu, self.idle = cpu, idle

    def block(self, seconds):
        return replace(super().block(seconds), cpu_s=self.cpu, idle_s=self.idle)


@pytest.mark.parametrize(
    ("base", "head", "clock", "verdict"),
    [
        # Equal work, and a neighbour that has met one side alone.
        ((0.04, 0.01), (0.09, 0.01), "cpu", "same"),
        ((0.04, 0.01), (0.04, 0.02), "cpu", "slower"),
        # A sleeping head uses no processor, and is slower all the same.
        ((0.04, 0.04), (0.08, 0.004, 0.076), "wall", "slower"),
        ((0.08, 0.004, 0.076), (0.04, 0.04), "wall", "faster"),
        # Twice the work in a thread of its own, whose waiting ends with it.
        ((0.04, 0.02), (0.08, 0.04, 0.03), "wall", "slower"),
        # Several threads at once, and a kernel that tells nothing.
        ((0.04, 0.04), (0.04, 0.07, -0.03), "wall", "same"),
        ((0.04, 0.01, None), (0.05, 0.01, None), "wall", "slower"),
    ],
)
def test_both_sides_are_read_from_one_clock(base, head, clock, verdict):
    found = compare(Side(*base), Side(*head), Side(*base), ComparePlan(seconds=5))
    assert (found.clock, found.verdict) == (clock, verdict)
    place = 1 if clock == "cpu" else 0
    assert (found.base_s, found.other_s) == pytest.approx((base[place], head[place]))


class OnDevice(FakeWorkload):
    """Calls of `seconds` that keep the device busy for `device_s`."""

    def __init__(self, seconds, device_s):
        super().__init__(seconds)
        self.device_s = device_s

    def block(self, seconds):
        return replace(super().block(seconds), device_s=self.device_s, dispatch_s=(0.001,))


@pytest.mark.parametrize(
    ("base", "head", "clock", "verdict", "wall"),
    [
        # The host's luck differs, the kernels do not.
        ((0.04, (0.03, 0.03, 0.5)), (0.06, (0.03,)), "device", "same", 1.5),
        ((0.04, (0.03,)), (0.04, (0.033,)), "device", "slower", 1.0),
        # A processor has no such clock, so that both have the wall's.
        ((0.04, (0.03,)), (0.06, ()), "wall", "slower", 1.5),
    ],
)
def test_on_an_accelerator_the_device_time_of_both_decides(base, head, clock, verdict, wall):
    plan = ComparePlan(seconds=5, on_cpu_time=False)
    found = compare(OnDevice(*base), OnDevice(*head), OnDevice(*base), plan)
    assert (found.clock, found.verdict) == (clock, verdict)
    assert found.wall_ratio == pytest.approx(wall)
    report = ab_report("a", "b", found)
    assert report.runs[0]["clock"] == clock
    said = "By the wall clock, the host's part included, B takes" in " ".join(report.notes)
    assert said == (clock == "device")
