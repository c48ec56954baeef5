"""Networks out of the ordinary are timed, or refused for the reason that is theirs."""

from __future__ import annotations

import copy
import dataclasses
import random
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from mlcv_bench.architectures.reproducibility import generators_kept, tf32, watched
from mlcv_bench.timing import devices
from mlcv_bench.timing.forward import prepare
from mlcv_bench.timing.reference import WrongResultError
from mlcv_bench.timing.request import Cell, CellCost
from mlcv_bench.timing.sampling import Plan
from mlcv_bench.timing.study import Timing, time_cells
from mlcv_bench.trials import NotApplicableError
from tests.cases.timed import Base, DictWithNumber, DictWithText, InPlace, RandomInEval

INPUT = (3, 16, 16)


def cell(**settings):
    return Cell("odd", INPUT, **({"batch": 2} | settings))


@dataclasses.dataclass
class Found:
    logits: torch.Tensor
    names: list[str]


def returning(output):
    """Return a network that puts its logits through `output`."""

    class Returning(Base):
        def forward(self, x):
            return output(super().forward(x))

    return Returning


OUTPUTS = {
    "none": lambda logits: (logits, None, {}),
    "text": lambda logits: {"names": ["cat", "dog"], "logits": logits},
    "number": lambda logits: {"temperature": 0.07, "logits": logits},
    "record": lambda logits: Found(logits, ["cat"]),
    "complex": lambda logits: torch.complex(logits.float(), -logits.float()),
    "nothing in a tensor": lambda logits: (logits, logits[:, :0]),
    "counts": lambda logits: (logits, torch.tensor(3), torch.tensor([True])),
}


@pytest.mark.parametrize("direction", ["forward", "forward-backward"])
@pytest.mark.parametrize("build", [DictWithNumber, DictWithText, *map(returning, OUTPUTS.values())])
def test_outputs_may_hold_more_than_tensors(build, direction):
    workload, facts = prepare(cell(direction=direction), build)
    assert (facts.max_abs_error, facts.remark) == (0, "")
    assert len(workload.block(0.0).calls_s) == 1


@pytest.mark.parametrize("output", [lambda _: (), lambda _: None, lambda _: "cat", lambda _: {"score": 0.5}])
def test_an_output_without_a_tensor_is_timed_and_said(output):
    workload, facts = prepare(cell(), returning(output))
    assert (facts.max_abs_error, facts.max_rel_error, facts.tolerance) == (None, None, None)
    assert "returns no tensor: nothing could be compared" in facts.remark
    assert len(workload.block(0.0).calls_s) == 1


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (lambda logits: logits if logits.dtype == torch.float32 else (logits, logits), "2 outputs where the float32"),
        (lambda logits: logits if logits.dtype == torch.float32 else logits[:1], "output is 1x4 where .* has 2x4"),
        (lambda logits: torch.complex(logits, logits if logits.dtype == torch.float32 else -logits), "differs"),
    ],
)
def test_other_outputs_than_the_references_are_refused(output, words):
    with pytest.raises(WrongResultError, match=words):
        prepare(cell(dtype="float64"), returning(output))


def test_outputs_are_compared_under_their_names():
    swapped = returning(
        lambda logits: {"a": logits, "b": -logits} if logits.dtype == torch.float32 else {"b": -logits, "a": logits}
    )
    assert prepare(cell(dtype="float64"), swapped)[1].max_rel_error < 1e-6


@pytest.mark.parametrize("settings", [{}, {"dtype": "float64"}, {"direction": "forward-backward"}])
def test_a_network_that_writes_into_its_input_computes_with_the_same_numbers_every_time(settings):
    seen = []

    class Watching(InPlace):
        def forward(self, x):
            seen.append(x.clone())
            return super().forward(x)

    workload, facts = prepare(cell(**settings), Watching)
    workload.block(0.0)
    workload.block(0.0)
    assert facts.max_rel_error <= facts.tolerance
    assert "writes into its input: each pass gets a copy" in facts.remark
    assert all(torch.equal(images, seen[-1]) for images in seen[1:])
    assert torch.equal(seen[0].to(seen[-1].dtype), seen[-1])


def test_a_network_that_draws_is_compared_with_the_same_draws_and_said():
    workload, facts = prepare(cell(), RandomInEval)
    assert facts.max_abs_error == 0
    assert "draws random numbers in evaluation" in facts.remark
    assert len(workload.block(0.0).calls_s) == 1


class DrawsElsewhere(Base):
    """Draws as many numbers as its type has bits: no seed makes two types alike."""

    def forward(self, x):
        torch.rand(x.element_size())
        return super().forward(x) + 100 * torch.rand(1).to(x.dtype)


def test_a_network_whose_draws_cannot_be_repeated_is_refused_for_being_random():
    with pytest.raises(WrongResultError, match="is random in evaluation: two passes of eager float32"):
        prepare(cell(dtype="float64"), DrawsElsewhere)


class DrawsInVain(Base):
    def forward(self, x):
        torch.rand(1)
        return super().forward(x) * (1 if x.dtype == torch.float32 else 0.5)


def test_a_network_that_draws_in_vain_and_is_wrong_is_refused_for_being_wrong():
    with pytest.raises(WrongResultError, match="differs from eager float32 by"):
        prepare(cell(dtype="float64"), DrawsInVain)


@pytest.mark.parametrize(
    ("draw", "drew"),
    [
        (lambda: torch.rand(1), True),
        (lambda: random.random(), True),  # noqa: PLW0108 - a draw
        (lambda: np.random.rand(), True),  # noqa: NPY002, PLW0108 - a draw
        (lambda: torch.ones(1), False),
    ],
)
def test_draws_of_every_generator_are_seen_repeated_and_put_back(draw, drew):
    with generators_kept():
        first = draw()
    with generators_kept():
        one, seen = watched(draw, 5)
        again, _ = watched(draw, 5)
    assert seen == drew
    assert one == again
    assert draw() == first, "as if nobody had seeded anything meanwhile"


def test_the_generators_of_several_devices_are_put_back_without_a_warning(monkeypatch):
    put_back = []
    monkeypatch.setattr(torch.random, "_fork_rng_warned_already", False)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: f"state of {device}")
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: put_back.append((state, device)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with generators_kept():
            pass
    assert put_back == [("state of 0", 0), ("state of 1", 1)]


def test_watching_a_network_on_the_processor_does_not_start_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: pytest.fail("this starts CUDA"))
    assert watched(lambda: torch.rand(1))[1]


@pytest.mark.parametrize("frozen", ["all", "none to begin with", "detached"])
def test_a_backward_pass_needs_something_to_train(frozen):
    def build():
        if frozen == "none to begin with":
            return nn.Flatten()
        model = returning(torch.detach)() if frozen == "detached" else Base()
        return model.requires_grad_(frozen == "detached")

    with pytest.raises(NotApplicableError, match="no output depends on a parameter that requires a gradient"):
        prepare(cell(direction="forward-backward"), build)


def test_a_network_frozen_in_part_is_trained():
    def build():
        model = Base()
        model.conv.requires_grad_(requires_grad=False)
        return model

    workload, facts = prepare(cell(direction="forward-backward"), build)
    assert facts.max_abs_error == 0
    assert len(workload.block(0.0).calls_s) == 1


def test_a_network_that_does_not_compute_at_all_is_failed_not_skipped():
    """torch's NotImplementedError skips a type or runtime; the network's own is a failure."""

    class Abstract(Base):
        def forward(self, x):
            raise NotImplementedError("to be written")

    one = Timing(cell(), CellCost(), Plan())
    time_cells([one], Plan(), open_cell=lambda it: prepare(it, Abstract))
    assert (one.status, one.reason.partition(";")[0]) == ("failed", "NotImplementedError: to be written")


@pytest.fixture
def newer_switch():
    before = torch.backends.cudnn.conv.fp32_precision
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    yield
    torch.backends.cudnn.conv.fp32_precision = before


@pytest.mark.usefixtures("newer_switch")
def test_the_newer_switches_of_tf32_break_nothing():
    with pytest.raises(RuntimeError):
        torch.backends.cudnn.allow_tf32  # noqa: B018 - what reading it does here
    found = devices.settings_in_force()
    assert (found["cudnn.conv.fp32_precision"], found["cudnn.allow_tf32"]) == ("ieee", None)
    with tf32("off"):
        assert devices.settings_in_force()["cuda.matmul.fp32_precision"] == "ieee"
    assert devices.settings_in_force() == found


class KeepsWhatItComputed(Base):
    """Holds a tensor with a history, which Python refuses to copy."""

    def __init__(self):
        super().__init__()
        self.doubled = self.conv.weight * 2


@pytest.mark.parametrize("comparing", [False, True])
def test_a_network_that_cannot_be_copied_stays_where_it_is(comparing):
    with pytest.raises(RuntimeError):
        copy.deepcopy(KeepsWhatItComputed())
    workload, _ = prepare(cell(), KeepsWhatItComputed, comparing=comparing)
    workload.warm_up(0.01)
    assert workload.block(0.0).calls_s
