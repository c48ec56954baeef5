from __future__ import annotations

import contextlib
import gc
import json

import pytest

from mlcv_bench.timing.blocks import Block, LocalWorkload, frozen_garbage
from tests.timing.fakes import LOUD, FakeClock, FakeLedger, call_of


def workload(clock, durations, **options):
    call = call_of(clock, durations, options.pop("cpu", 1.0))
    return LocalWorkload(call, clock=clock, ledger=FakeLedger(), **options), call


def test_what_clearing_the_cache_takes_is_in_no_figure():
    clock = FakeClock()
    timed, _ = workload(clock, [0.01], clear_cache=lambda: clock.advance(0.03))
    block = timed.block(0.2)
    assert block.calls_s == pytest.approx([0.01] * 5), "the block is no longer for that"
    assert block.cpu_s == pytest.approx(0.05)
    assert block.seconds_by("cpu") == pytest.approx(0.01)
    assert block.spent_s == pytest.approx(0.2)
    assert timed.warm_up(1.0).seconds == pytest.approx(0.04 * 10)
    timed.close()
    assert timed.clear_cache is None


@pytest.mark.parametrize(("seconds", "singly", "together"), [(0.2, 10, 10), (0.01, 1, 2)])
def test_pipelined_calls_share_the_time_of_a_block(seconds, singly, together):
    clock = FakeClock()
    timed, call = workload(clock, [0.01], throughput=True)
    block = timed.block(seconds)
    assert (len(block.calls_s), call.times) == (singly, singly + together)
    assert block.pipelined_s == pytest.approx(0.01)
    assert block.spent_s == pytest.approx(0.01 * (singly + together))
    assert Block.from_dict(json.loads(json.dumps(block.as_dict()))) == block


def test_warm_up_waits_until_two_windows_agree():
    # ResNet-50 on a busy machine, in ms; a warm-up by count would have started at 2 seconds.
    falling = [2554, 2596, 2576, 1596, 658, 420, 300, 240, 215, 207, 207, 207, 207, 207, 207]
    clock = FakeClock()
    timed, call = workload(clock, [value / 1000 for value in falling])
    warm_up = timed.warm_up(60)
    assert warm_up.agreed
    assert warm_up.call_s == pytest.approx(0.207)
    assert warm_up.calls == call.times >= 14


def test_warm_up_gives_up_at_its_time_and_says_so():
    clock = FakeClock()
    timed, _ = workload(clock, [0.5 * 0.9**step for step in range(200)])
    warm_up = timed.warm_up(2.0)
    assert not warm_up.agreed
    assert warm_up.seconds <= 2.0 + 0.5


def test_warm_up_calls_at_least_once():
    timed, call = workload(FakeClock(), [100.0])
    assert timed.warm_up(1.0).calls == call.times == 1


def test_a_block_lasts_about_as_long_as_asked():
    clock = FakeClock()
    timed, call = workload(clock, [0.01])
    timed.warm_up(1)
    before = call.times
    block = timed.block(0.25)
    assert len(block.calls_s) == 25
    assert block.median_s == pytest.approx(0.01)
    assert block.cpu_s == pytest.approx(0.25)
    assert call.times - before == 26, "one untimed call refills the caches"


def test_a_short_calls_data_is_moved_before_every_block():
    clock, made = FakeClock(), []

    def renew():
        made.append(call_of(clock, [0.01]))
        return made[-1]

    first = call_of(clock, [0.01])
    timed = LocalWorkload(first, clock=clock, ledger=FakeLedger(), renew=renew)
    timed.warm_up(1)
    warm = first.times
    timed.block(0.05)
    timed.block(0.05)
    assert first.times == warm
    assert [call.times for call in made] == [6, 6], "one untimed, five timed"


def test_a_long_calls_data_stays():
    clock = FakeClock()
    timed = LocalWorkload(call_of(clock, [0.5]), clock=clock, ledger=FakeLedger(), renew=lambda: pytest.fail("moved"))
    timed.warm_up(1)
    timed.block(0.5)


def test_a_slow_call_makes_a_block_of_one_without_a_refill():
    timed, call = workload(FakeClock(), [3.0])
    timed.warm_up(1)
    assert len(timed.block(0.25).calls_s) == 1
    assert call.times == 2


def test_a_block_has_at_most_a_thousand_calls():
    timed, _ = workload(FakeClock(), [1e-7])
    assert len(timed.block(1.0).calls_s) == 1000


def test_a_preempted_block_is_flagged():
    timed, _ = workload(FakeClock(), [0.01], cpu=0.6)
    block = timed.block(0.1)
    assert block.contention.flags == ("preempted",)
    assert not block.clean


def test_waiting_threads_are_not_taken_for_preemption():
    timed, _ = workload(FakeClock(), [0.01], cpu=1.1, threads=2)
    assert timed.block(0.1).clean


def test_a_device_clock_times_with_events_and_synchronises():
    clock = FakeClock(events=True)
    timed, _ = workload(clock, [0.01], on_cpu=False, cpu=0.1)
    block = timed.block(0.05)
    # A third of the time goes to calls by events alone.
    assert block.calls_s == pytest.approx((0.01,) * 4)
    assert block.device_s == pytest.approx((0.01,) * 2)
    assert block.dispatch_s == pytest.approx(block.calls_s), "the call itself moves this clock"
    assert clock.synchronised >= 2 * len(block.calls_s)
    assert block.clean, "the host may idle while a GPU works"


def test_garbage_is_not_collected_inside_a_block_and_the_context_is_entered():
    clock, seen = FakeClock(), []

    @contextlib.contextmanager
    def context():
        seen.append("in")
        yield
        seen.append("out")

    def call():
        seen.append(gc.isenabled())
        clock.advance(0.01)

    LocalWorkload(call, clock=clock, ledger=FakeLedger(), context=context).block(0.005)
    assert seen == ["in", False, "out"]
    assert gc.isenabled()


def test_a_disabled_collector_stays_disabled():
    gc.disable()
    try:
        with frozen_garbage():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_ledger_is_read_once_before_and_once_after():
    clock, ledger = FakeClock(), FakeLedger()
    LocalWorkload(call_of(clock, [0.01]), clock=clock, ledger=ledger).block(0.5)
    assert ledger.reads == 2


def test_a_block_survives_json():
    block = Block(3, (0.1, 0.2), 0.29, LOUD, (0.05, 0.06))
    assert Block.from_dict(json.loads(json.dumps(block.as_dict()))) == block


def test_closing_lets_go():
    closed = []
    clock = FakeClock()
    LocalWorkload(call_of(clock, [1]), clock=clock, ledger=FakeLedger(), on_close=lambda: closed.append(1)).close()
    assert closed == [1]
