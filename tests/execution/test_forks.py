from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from mlcv_bench.execution.forks import ForkServer, starters
from mlcv_bench.execution.places import HERE, Place
from mlcv_bench.timing import worker
from mlcv_bench.timing.request import Cell
from mlcv_bench.timing.worker import WorkerWorkload

TALKS = """
from torch import nn

print("imported")

class Talks(nn.Module):
    def forward(self, images):
        print("passes")
        return images.mean((2, 3))
"""


@pytest.fixture(scope="module")
def server():
    server = ForkServer(worker.MODULE, "passive")
    yield server
    server.close()
    assert server._process.returncode == 0


def test_children_are_processes_of_their_own_and_one_cell_each(server, tmp_path, capfd):
    (tmp_path / "talks.py").write_text(TALKS)
    cell = Cell(f"{tmp_path}/talks.py:Talks", (3, 8, 8), wait_policy="passive")
    channels = [server.connect() for _ in range(2)]
    sides = [WorkerWorkload(channel, place) for place, channel in enumerate(channels)]
    assert len({channel._pid for channel in channels} | {server._process.pid}) == 3
    sides[0].prepare(cell, comparing=True)
    assert sides[0].block(0.01).calls_s
    with pytest.raises(worker.WorkerError, match="'block' before 'prepare'"):
        sides[1].block(0.01)
    for side in sides:
        side.close()
    printed = capfd.readouterr()
    assert "passes" in printed.err
    assert printed.out == "", "stdout is the result's alone"


def test_a_child_that_is_killed_is_told_and_the_others_live(server):
    killed, other = server.connect(), server.connect()
    os.kill(killed._pid, signal.SIGKILL)
    with pytest.raises(ConnectionError, match="ended by SIGKILL; the system may have run out of memory"):
        killed.ask({"do": "hello"})
    assert other.ask({"do": "hello"})["ok"]["protocol"] == worker.PROTOCOL
    for channel in (killed, other):
        channel.close()


def test_no_child_outlives_its_channel(server):
    channel = server.connect()
    channel._asking = True
    channel.close()
    with pytest.raises(ProcessLookupError):
        os.kill(channel._pid, 0)


def test_a_channel_that_is_closed_while_a_thread_asks_waits_for_its_child_once(server, monkeypatch, tmp_path):
    """As Ctrl-C does while workers start; the server lives on."""
    (tmp_path / "slow.py").write_text("import time\n\ndef network():\n    time.sleep(60)\n")
    cell = Cell(f"{tmp_path}/slow.py:network", (3, 8, 8), wait_policy="passive")
    channel = server.connect()
    waited, wait = [], server.wait

    def slowly(pid):
        waited.append(pid)
        time.sleep(0.3)
        return wait(pid)

    monkeypatch.setattr(server, "wait", slowly)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(channel.ask, {"do": "prepare", "cell": cell.as_dict(), "memory": False})
        while not channel._asking:
            time.sleep(0.01)
        channel.close()
        with pytest.raises(ConnectionError, match="ended by SIGKILL"):
            asked.result()
    assert waited == [channel._pid]
    server.connect().close()


def test_a_server_that_is_gone_leaves_channels_that_can_be_closed():
    server = ForkServer(worker.MODULE, "default")
    channel = server.connect()
    os.kill(server._process.pid, signal.SIGKILL)
    server._process.wait()
    channel.close()
    server.close()


def test_a_server_that_nobody_waits_for_any_more_is_ended_at_once(monkeypatch):
    """As Ctrl-C does while it imports torch: it has no time to end by itself."""
    server = ForkServer(worker.MODULE, "default")
    monkeypatch.setattr(server, "_ask", lambda _request: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        server.start()
    server.close()
    assert server._process.returncode == -signal.SIGTERM


def test_a_server_that_cannot_start_is_a_wrong_request():
    """Here a module that ends at once; the sentence names no traceback of ours."""
    server = ForkServer("mlcv_bench.errors", "default")
    with pytest.raises(OSError, match="the process that starts workers has ended"):
        server.connect()
    server.close()


def test_workers_are_forked_from_one_process_a_place(tmp_path):
    there = Place(path=tmp_path)
    with starters(worker.MODULE, ["default", "passive", "default", "default"], [*[HERE] * 3, there]) as workers:
        connects = workers.connects
        assert connects[0].__self__ is connects[2].__self__ is not connects[1].__self__, "one server a wait policy"
        assert len(workers.servers) == 3, "and a place"
        assert connects[3].__self__._place == there
