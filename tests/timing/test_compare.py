from __future__ import annotations

import contextlib
import random
from dataclasses import replace

import pytest

from mlcv_bench.report.comparisons import Compared, ab_report
from mlcv_bench.timing import compare as module
from mlcv_bench.timing.compare import LOOKS, ComparePlan
from tests.timing.fakes import LOUD, FakeWorkload


class Machine:
    """Starts sides that a function makes, each session in `start_s`; its clock moves with starts and calls alone."""

    def __init__(self, make, start_s=0.5):
        self.make, self.start_s, self.seconds, self.sessions = make, start_s, 0.0, 0

    @contextlib.contextmanager
    def open_sides(self):
        self.seconds += self.start_s
        self.sessions += 1
        sides = self.make()
        yield tuple(Watched(self, side) for side in sides)

    def compare(self, plan, **options):
        return module.compare(self.open_sides, plan, now=lambda: self.seconds, **options)


class Watched:
    """A side whose calls move the machine's clock."""

    def __init__(self, machine, side):
        self.machine, self.side, self.warm_up = machine, side, side.warm_up

    def block(self, seconds):
        block = self.side.block(seconds)
        self.machine.seconds += sum(block.calls_s)
        return block


def compare(base, other, twin, plan, **options):
    """Compare sides that stay the same whenever they are started."""
    return Machine(lambda: (base, other, twin)).compare(plan, **options)


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
def test_two_equal_sides_are_hardly_ever_called_different_and_mostly_the_same(luck):
    """Also where every process has a luck of its own, which no number of its calls shows."""
    verdicts = []
    for seed in range(60):
        machine = lucky(luck, (1, 1, 1), seed)
        found = machine.compare(ComparePlan(seed=seed))
        assert found.sessions == machine.sessions
        assert found.seconds <= 30
        verdicts.append(found.verdict)
    assert verdicts.count("same") >= 48
    assert verdicts.count("slower") + verdicts.count("faster") <= 1


def lucky(luck, factors, seed):
    """Return a machine on which every process is slower or faster for as long as it lives, and noisy besides."""
    chance = random.Random(seed)

    def made():
        scales = [0.02 * factor * chance.lognormvariate(0, luck) for factor in factors]
        return [FakeWorkload([scale * chance.lognormvariate(0, 0.02) for _ in range(99)], calls=2) for scale in scales]

    return Machine(made)


@pytest.mark.parametrize(("factor", "least"), [(1.05, 38), (1.1, 40)])
def test_a_real_slow_down_is_seen_through_the_luck_of_processes(factor, least):
    seen = [lucky(0.013, (1, factor, 1), seed).compare(ComparePlan(seed=seed)).verdict for seed in range(40)]
    assert seen.count("slower") >= least
    assert "faster" not in seen


def test_a_biased_twin_widens_the_margin():
    base, other, twin = (FakeWorkload(value) for value in (0.04, 0.0411, 0.0412))
    found = compare(base, other, twin, ComparePlan(seconds=10, margin=0.01))
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

    found = compare(blocks(1.0), blocks(1.0), blocks(1.0), ComparePlan(seconds=30))
    assert found.ratio.middle == pytest.approx(1.0, abs=1e-4), "0.2% a block"
    assert found.verdict == "same"


def test_looks_spend_the_error_they_may_make():
    seen = []
    found = compare(*sides(1.02, spread=0.3), ComparePlan(seconds=30), on_look=seen.append)
    assert [look.looks for look in seen] == list(range(1, len(seen) + 1))
    assert [look.sessions for look in seen[:-1]] == [number for number in LOOKS if number < found.sessions]
    spent = [1 - look.confidence for look in seen]
    assert sum(spent) == pytest.approx(0.05), "the last look spends the rest"
    assert spent[0] == pytest.approx(0.05 * (seen[0].seconds / 30) ** 3)


@pytest.mark.parametrize(("seconds", "sessions"), [(0.1, 1), (1.3, 2), (4, 3), (1e4, 64)])
def test_the_time_is_kept_with_starts_counted(seconds, sessions):
    """A session: 0.5 s to start, and palindromes of 0.24 s until they took as long."""
    chance = random.Random(0)
    machine = Machine(lambda: [FakeWorkload(0.04 * part * chance.lognormvariate(0, 0.01)) for part in (1, 1.02, 1)])
    found = machine.compare(ComparePlan(seconds=seconds))
    assert found.sessions == sessions
    assert found.seconds == machine.seconds
    assert {len(session) for session in found.ratios} == {0.1: {1}, 1.3: {3, 1}}.get(seconds, {3})
    assert found.seconds < seconds + 1.5, "a session at most beyond"
    assert (found.verdict == "inconclusive") or sessions > 1


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
    report = ab_report([Compared("a", "b", comparison=found)])
    assert report.runs[0]["clock"] == clock
    said = "By the wall clock, the host's part included, B takes" in " ".join(report.notes)
    assert said == (clock == "device")
