"""The public Python interface and the checks for other people's suites."""

from __future__ import annotations

import base64
import functools
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch
from torch import nn

import mlcv_bench
from mlcv_bench import testing
from mlcv_bench.api.calls import in_python, items, word
from mlcv_bench.counting.cost import Cost
from mlcv_bench.errors import UsageError
from mlcv_bench.records import Column, Report, Table, columns_of
from mlcv_bench.report.formats.html import to_html
from mlcv_bench.testing import assert_cost, assert_equivalent, assert_not_slower


def test_count_has_a_frame():
    cost = mlcv_bench.count("resnet20", batch=2)
    assert list(cost.frame.columns) == list(columns_of(Cost))
    assert cost.frame.loc[0, "macs"] == cost.macs == 2 * 40_551_040
    operators = cost.operators_frame
    assert operators["macs"].sum() == cost.macs
    assert operators["operations"].sum() == cost.norm_ops + cost.activation_ops + cost.pooling_ops + cost.addition_ops
    assert len(operators) == cost.operators


TIMED = {"input": (3, 8, 8), "device": "cpu", "threads": 1, "seconds": 0.1}
SHORT = {"protocols": "default", "epochs": 1, "seeds": 1, "models": "logistic"}
SEEN = {"model": "logistic", "epochs": 1, "resolution": 5, "directions": "random"}
RESULTS = {
    "check_claims": (lambda: mlcv_bench.check_claims("1.1-sphere"), "holds with a limit"),
    "count": (lambda: mlcv_bench.count("resnet20"), "40,551,040|40.55"),
    "count_training": (lambda: mlcv_bench.count_training("resnet20", optimizer="momentum"), "resnet20"),
    "landscape": (lambda: mlcv_bench.landscape("digits", ["sgd", "adam"], **SEEN), "adam"),
    "race": (lambda: mlcv_bench.race("canyon", ["sgd", "adam"], steps=50, starts=3), "adam"),
    "race_on_tasks": (lambda: mlcv_bench.race_on_tasks("digits", ["sgd", "adam"], **SHORT), "adam"),
    "time_forward": (lambda: mlcv_bench.time_forward(nn.Conv2d(3, 4, 3), **TIMED), "Conv2d"),
    "verify": (lambda: mlcv_bench.verify("momentum"), "torch.optim.SGD"),
}
"""Every public function that finds something, and what its tables show."""


@pytest.fixture(scope="module", params=RESULTS)
def shown(request):
    found, words = RESULTS[request.param]
    return found(), words


def test_every_function_that_finds_something_is_here():
    assert {"__version__", "build", "draw", "figure", *RESULTS} == set(mlcv_bench.__all__)


def test_a_result_has_a_frame_with_the_columns_of_the_command(shown):
    result, _ = shown
    report = result.report()
    assert list(result.frame.columns) == report.all_columns
    assert len(result.frame) == len(report.runs) > 0


def test_a_result_is_one_short_line(shown):
    result, _ = shown
    assert "\n" not in repr(result)
    assert len(repr(result)) < 200
    assert repr(result).startswith(f"<{type(result).__name__}: ")


def test_a_result_shows_its_tables_when_printed_and_in_a_notebook(shown):
    result, words = shown
    html = result._repr_html_()
    assert html.startswith("<table>")
    assert html.count("<tr>") >= 2 * html.count("<table>")
    for text in (html, str(result)):
        assert re.search(words, text)


UNDRAWN = {
    "count_training": (False, False),
    "verify": (False, False),
    "check_claims": (True, False),
    "count": (True, True),
}
"""Results without a picture, without a figure to explore: `verify` has them of `resnext` alone."""


def test_a_result_is_drawn_by_matplotlib_and_by_plotly(shown, request):
    result, _ = shown
    name = request.node.callspec.params["shown"]
    for interactive, drawn in zip((False, True), UNDRAWN.get(name, (True, True)), strict=True):
        if not drawn:
            with pytest.raises(UsageError, match=r"has no figure .*here; its rows are in \.frame"):
                result.plot(interactive=interactive)
        elif interactive:
            figure = result.plot(interactive=True)
            assert type(figure).__module__.startswith("plotly.")
            assert len(figure.data) >= 1
        else:
            axes = result.plot().axes
            assert any(one.has_data() for one in axes)


def test_a_race_to_explore_shows_other_protocols_and_rates():
    found = mlcv_bench.race("canyon", ["sgd", "adam"], steps=50)
    figure = found.plot(interactive=True)
    (buttons,), (slider,) = figure.layout.updatemenus, figure.layout.sliders
    assert [one.label for one in buttons.buttons] == ["default settings", "tuned rate", "theory's settings"]
    assert len(slider.steps) == 36
    changed, places = buttons.buttons[0].args
    first = places.index(next(place for place in places if figure.data[place].meta["run"] == "adam"))
    held = np.frombuffer(base64.b64decode(changed["x"][first]["bdata"]), changed["x"][first]["dtype"])
    path = np.array(found.traces["adam", "default"].points[0], dtype=np.float32)
    assert set(held) <= set(path)
    assert (held[0], held[-1]) == (path[0], path[-1])
    names = [trace.name for trace in figure.data if trace.showlegend]
    assert names == ["sgd", "adam"]


def test_names_and_errors_of_users_are_text_in_a_notebook():
    page = to_html(
        Report("s", ("a",), [], [Table("<b>", (Column("a", "<i>"),), [{"a": "<lambda>"}], "<c>")], ["<n>"], ["<w>"])
    )
    assert re.findall(r"&lt;(\w+)&gt;", page) == ["b", "i", "lambda", "c", "n", "w"]


def test_named_tensors():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(5, 4)

        def forward(self, tokens):
            return self.table(tokens) @ torch.ones(4, 2, device=tokens.device)

    assert mlcv_bench.count(Net(), tensors=["tokens:int64:1x3"]).macs == 3 * 8


def test_training():
    cost = mlcv_bench.count_training("resnet20", optimizer="momentum", memory="1GiB")
    assert cost.optimizer_bytes == cost.gradient_bytes == 4 * cost.params
    assert cost.largest_batch_bytes <= 2**30


def test_every_public_name_is_there():
    for name in mlcv_bench.__all__:
        assert getattr(mlcv_bench, name) is not None


class TestAssertCost:
    def test_within_budget(self):
        assert assert_cost(nn.Linear(4, 4), max_params=20, max_macs=16, input=(4,)).params == 20

    def test_over_budget_says_by_how_much(self):
        with pytest.raises(AssertionError, match=r"25,557,032 params, max_params is 25,000,000 \(\+2.23%\)") as error:
            assert_cost("resnet50_v1_5", max_params=25e6, max_macs=4e9)
        assert "4,089,184,256 macs" in str(error.value)

    @pytest.mark.parametrize(
        "limit", [{"max_activations": 3}, {"max_peak_activation_bytes": 31}, {"max_macs": 0}, {"max_params": 19.5}]
    )
    def test_each_limit_fails(self, limit):
        with pytest.raises(AssertionError, match=next(iter(limit))):
            assert_cost(nn.Linear(4, 4), input=(4,), **limit)

    def test_no_limit_is_no_check(self):
        with pytest.raises(ValueError, match="max_params"):
            assert_cost(nn.Linear(4, 4), input=(4,))

    def test_a_wrong_input_is_no_failed_limit(self):
        with pytest.raises(UsageError):
            assert_cost(nn.Linear(4, 4), max_params=1, input=(5,))


@pytest.mark.parametrize("shape", ["3x32x32", (3, 32, 32), [3, 32, 32], torch.Size([3, 32, 32])])
def test_an_input_as_text_or_any_sequence(shape):
    assert mlcv_bench.count("resnet18", input=shape).input == "3x32x32"
    assert mlcv_bench.count_training("resnet20", input=shape).input == "3x32x32"


@pytest.mark.parametrize(
    ("subject", "given", "words"),
    [
        ("resnet18", {"input": "3x0x224"}, "zero"),
        ("resnet18", {"input": (3, 0, 224)}, "whole numbers from 1 on"),
        ("resnet18", {"input": (3, 224.0, 224)}, "whole numbers from 1 on"),
        ("resnet18", {"input": ()}, "whole numbers from 1 on"),
        ("resnet18", {"input": 224}, "whole numbers from 1 on, not 224"),
        ("resnet18", {"batch": 0}, "batch"),
        ("resnet18", {"batch": -1}, "batch"),
        ("resnet18", {"batch": 2.0}, "batch"),
        (5, {}, "not 5"),
        (nn.Conv2d, {}, "'Conv2d' needs in_channels and out_channels and kernel_size"),
        ("resnext", {}, "is a family"),
    ],
)
@pytest.mark.parametrize("function", [mlcv_bench.count, mlcv_bench.count_training])
def test_a_wrong_call_is_one_sentence(function, subject, given, words):
    with pytest.raises(UsageError, match=words):
        function(subject, **given)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: mlcv_bench.race(engine="gpu"), "engine gpu: choose from auto, scalar, lanes"),
        (lambda: mlcv_bench.race(seed=-1), "seed takes at least 0, not -1"),
        (lambda: mlcv_bench.race(threads=0), "threads takes at least 1, not 0"),
        (lambda: mlcv_bench.race(steps="many"), "steps is a whole number, not 'many'"),
        (lambda: mlcv_bench.race(steps=True), "steps is a whole number, not True"),
        (lambda: mlcv_bench.race(start=(1, 2), starts=3), "give start or starts, not both"),
        (lambda: mlcv_bench.race(protocols="best"), "unknown protocol 'best'"),
        (lambda: mlcv_bench.race(optimizers="adm"), "unknown optimizer 'adm'"),
        (lambda: mlcv_bench.time_forward("resnet20", seconds=-1), "seconds takes a finite number from 0.1 on, not -1"),
        (lambda: mlcv_bench.time_forward("resnet20", seconds=float("nan")), "seconds takes a finite number"),
        (lambda: mlcv_bench.time_forward("resnet20", precision=0), "precision is a share between 0 and 1, not 0"),
        (lambda: mlcv_bench.time_forward("resnet20", seed=-1), "seed takes whole numbers from 0"),
        (lambda: mlcv_bench.time_forward("resnet20", memory_format="nhwc"), "memory_format has no nhwc"),
        (lambda: mlcv_bench.time_forward("resnet20", threads=1.5), "threads is a whole number or None, not 1.5"),
        (lambda: mlcv_bench.verify("momentum", device="gpu"), "device has no gpu"),
        (lambda: mlcv_bench.verify("momentum", dtypes="float23"), "dtypes has no float23"),
        (lambda: mlcv_bench.verify("momentum", groups=[2]), "groups changes nothing for momentum"),
        (lambda: mlcv_bench.verify("resnet20", "resnet20", weights="none.pth"), "weights none.pth: there is no such"),
        (lambda: mlcv_bench.count("resnet18", input=(1, 32, 32)), r"\(in_channels=1 changes that\)"),
        (lambda: mlcv_bench.count_training("resnet20", memory=-5), "memory -5 is no amount"),
    ],
)
def test_what_the_command_refuses_is_refused_in_the_words_of_python(call, words):
    with pytest.raises(UsageError, match=words) as error:
        call()
    assert "--" not in str(error.value)


def test_options_become_arguments_in_the_plural_where_that_is_the_argument():
    assert in_python("--dtype and --batch-size", {"dtypes", "batch_size"}) == "dtypes and batch_size"


@pytest.mark.parametrize("one", ["adam", 3, Path("a.pth"), nn.Sequential(nn.Flatten()), nn.Linear, print])
def test_one_thing_is_a_list_of_one(one):
    assert items(one) == items([one]) == (one,)
    assert items(x for x in (one, one)) == (one, one)


def test_a_text_is_one_item_of_a_list():
    race = mlcv_bench.race("canyon", "sgd", protocols="default", steps=np.int64(5))
    assert [(result.optimizer, result.protocol) for result in race.results] == [("sgd", "default")]
    assert mlcv_bench.count(nn.Linear(3, 4), tensors="input:float32:1x3").macs == 12


def test_torchs_profiler_keeps_quiet_about_its_own_doings(capfd):
    mlcv_bench.time_forward(nn.Conv2d(3, 4, 3), **TIMED)
    assert capfd.readouterr() == ("", "")


class Narrow(nn.Module):
    """A network of a user's: 3 x 3 x 3 x width weights, applied at 6 x 6 places."""

    def __init__(self, width: int = 4):
        super().__init__()
        self.convolution = nn.Conv2d(3, width, 3, bias=False)

    def forward(self, images):
        return self.convolution(images)


IMAGE = (3, 8, 8)


class TestNetworksThatAreGivenThemselves:
    @pytest.mark.parametrize("given", [Narrow, Narrow(), lambda: Narrow(4), functools.partial(Narrow, 4)])
    def test_a_class_a_module_and_a_function_are_networks(self, given):
        assert mlcv_bench.count(given, input=IMAGE).macs == 27 * 4 * 36
        assert mlcv_bench.count_training(given, input=IMAGE).forward_macs == 27 * 4 * 36
        assert mlcv_bench.time_forward(given, **TIMED).status == "done"
        assert mlcv_bench.verify(given, Narrow(), input=IMAGE, modes="eval").passed

    def test_options_are_the_builders(self):
        assert mlcv_bench.count(Narrow, input=IMAGE, width=8).params == 27 * 8
        assert mlcv_bench.count(Narrow, input=IMAGE, width=8).frame.loc[0, "options"] == "width=8"
        with pytest.raises(UsageError, match="Narrow has no option wdth; it takes width"):
            mlcv_bench.count(Narrow, input=IMAGE, wdth=8)

    def test_what_builds_no_network_is_refused(self):
        with pytest.raises(UsageError, match="'int' returned a int; it must return"):
            mlcv_bench.time_forward(int)
        with pytest.raises(UsageError, match=r"a network is a name, .* not \['momentum'\]"):
            mlcv_bench.verify(["momentum"])


def bowl(x, y):
    return x**2 + 10 * y**2


def descent(x, g, t, lr=0.05):
    return x - lr * g


class TestRacesOfOnesOwn:
    @pytest.mark.parametrize("engine", ["scalar", "lanes"])
    def test_functions_are_surfaces_and_optimizers(self, engine):
        own = mlcv_bench.race(bowl, [descent], protocols="default", steps=20, engine=engine, start=(1, 1))
        named = mlcv_bench.race("x^2 + 10 y^2", "sgd:lr=0.05", protocols="default", steps=20, start=(1, 1))
        assert own.results[0].optimizer == "descent"
        assert own.results[0].final_loss == named.results[0].final_loss
        # Each step multiplies x by 1 - 2 lr, and y by 1 - 20 lr, which is 0 here.
        assert own.results[0].final_loss == pytest.approx(0.9**40)

    def test_a_partial_sets_what_a_text_sets(self):
        race = mlcv_bench.race("canyon", [descent, functools.partial(descent, lr=0.01)], protocols="default", steps=5)
        found = [(result.optimizer, result.lr) for result in race.results]
        assert found == [("descent", 0.05), ("descent:lr=0.01", 0.01)]

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"optimizers": [descent, descent]}, "descent races twice"),
            ({"optimizers": functools.partial(descent, lr="fast")}, "descent: lr takes a number, not 'fast'"),
            ({"optimizers": functools.partial(descent, rate=1.0)}, "descent has no rate; it takes lr"),
            ({"optimizers": torch.optim.SparseAdam}, "SparseAdam cannot run on a surface: .* dense gradients"),
            ({"surface": 3}, "'int' is no surface"),
            ({"surface": bowl, "condition": 10}, "bowl has no condition"),
            ({"start": "here"}, "a start on this surface is 2 finite numbers"),
            ({"start": 3}, "a start is numbers, such as"),
        ],
    )
    def test_what_is_none_is_refused(self, given, words):
        with pytest.raises(UsageError, match=words):
            mlcv_bench.race(**{"optimizers": "sgd", "protocols": "default", **given})


class Linear(nn.Sequential):
    """Logistic regression of a user's, the same as the tasks' own."""

    def __init__(self, num_classes: int):
        super().__init__(nn.Flatten(), nn.Linear(64, num_classes))


class Perceptron(nn.Sequential):
    """One hidden layer."""

    def __init__(self, num_classes: int, width: int = 32, bias: bool = True):
        super().__init__(nn.Flatten(), nn.Linear(64, width, bias), nn.ReLU(), nn.Linear(width, num_classes, bias))


class TestTaskRacesOfOnesOwn:
    def test_classes_and_functions_are_models_and_optimizers(self):
        sgd = functools.partial(torch.optim.SGD, lr=0.1)
        threads, drawn = torch.get_num_threads(), torch.get_rng_state()
        own = mlcv_bench.race_on_tasks(
            optimizers=[sgd, functools.partial(descent, lr=0.1), torch.optim.AdamW], **{**SHORT, "models": Linear}
        )
        named = mlcv_bench.race_on_tasks(optimizers="sgd:lr=0.1", **SHORT)
        assert {result.setup.model for result in own.results} == {"Linear"}
        assert {result.optimizer for result in own.results} == {"SGD:lr=0.1", "descent:lr=0.1", "AdamW"}
        assert {result.status for result in own.results} == {"done"}
        by_name = {result.optimizer: result.test_accuracy for result in own.results}
        assert by_name["SGD:lr=0.1"] == by_name["descent:lr=0.1"] == named.results[0].test_accuracy
        assert torch.get_num_threads() == threads
        assert torch.equal(torch.get_rng_state(), drawn)

    def test_settings_are_those_of_the_models(self):
        given = {"optimizers": "sgd", **SHORT, "models": Perceptron, "settings": {"width": 4, "bias": False}}
        (problem,) = mlcv_bench.race_on_tasks(**given).problems
        assert problem.weights == 64 * 4 + 4 * 10
        assert problem.setup.label == "Perceptron bias=False width=4"

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"models": Linear(10)}, "Linear is built already"),
            ({"models": [Linear, Linear]}, "models gives Linear twice"),
            ({"optimizers": nn.Linear}, r"Linear is no torch\.optim\.Optimizer"),
            ({"optimizers": functools.partial(torch.optim.SGD, rate=1)}, "SGD has no rate"),
            ({"optimizers": functools.partial(torch.optim.SGD, lr=float("inf"))}, "SGD: lr must be finite"),
            ({"seed": -1}, "seed is at least 0"),
            ({"workers": 0}, "workers takes 1 to 1024"),
            ({"protocols": "theory"}, "on a task the protocol is one of"),
            ({"tune_for": "speed"}, "tune_for has no speed"),
            ({"tasks": "mnist"}, "mnist needs its files: add data"),
            ({"settings": {"width": 4}}, "logistic takes no settings; name a model of the catalogue"),
            ({"models": Perceptron, "settings": {"widht": 4}}, "Perceptron has no option widht; it takes num_classes"),
            ({"schedule": "square"}, "schedule has no square; choose from constant, cosine"),
            ({"warm_up": 10**6}, "warm_up 1000000 leaves no step of the run's"),
            ({"clip_norm": 0.0}, "clip_norm takes a number above 0"),
        ],
    )
    def test_what_cannot_race_is_refused(self, given, words):
        with pytest.raises(UsageError, match=words):
            mlcv_bench.race_on_tasks(**{"optimizers": "sgd", **SHORT, **given})


PICTURES = {
    "a network": (lambda: mlcv_bench.draw(Narrow, input=IMAGE, width=8), ["svg", "png", "dot"]),
    "a module": (lambda: mlcv_bench.draw(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), input=IMAGE), ["svg"]),
    "a figure of runs": (lambda: mlcv_bench.figure("1.2"), ["svg", "png", "pdf"]),
    "a figure of networks": (lambda: mlcv_bench.figure("2.1"), ["svg"]),
}


class TestPictures:
    @pytest.mark.parametrize(("drawn", "suffixes"), PICTURES.values(), ids=PICTURES)
    def test_a_picture_shows_itself_and_is_saved(self, drawn, suffixes, tmp_path):
        picture = drawn()
        assert repr(picture).startswith("<Picture: ")
        root = ET.fromstring(picture._repr_svg_())  # noqa: S314 - our own picture
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        begins = {"svg": b"<?xml", "png": b"\x89PNG", "dot": b"digraph", "pdf": b"%PDF"}
        for suffix in suffixes:
            picture.save(tmp_path / f"picture.{suffix}")
            assert (tmp_path / f"picture.{suffix}").read_bytes().startswith(begins[suffix])

    @pytest.mark.parametrize(
        ("call", "words"),
        [
            (lambda: mlcv_bench.figure("3.1"), "unknown figure '3.1'"),
            (lambda: mlcv_bench.figure(1.1, seed=-1), "seed takes at least 0"),
            (lambda: mlcv_bench.draw("resnet20", depth=0), "depth takes at least 1"),
            (lambda: mlcv_bench.draw("resnet20", columns=0), "columns takes at least 1"),
            (lambda: mlcv_bench.draw("resnet"), "is a family"),
            (lambda: mlcv_bench.figure("2.1").save("picture.gif"), r"^picture\.gif: '\.gif' is no form"),
            (lambda: mlcv_bench.check_claims("1.1-spere"), "unknown claim '1.1-spere': did you mean 1.1-sphere"),
            (lambda: mlcv_bench.check_claims("1.1-sphere", sections=1.4), "give ids or sections, not both"),
        ],
    )
    def test_what_cannot_be_drawn_or_tested_is_refused(self, call, words):
        with pytest.raises(UsageError, match=words):
            call()


def test_sections_of_the_notes_may_be_numbers():
    told = []
    found = mlcv_bench.check_claims(sections=1.1, progress=told.append)
    assert {result.section for result in found.results} == {"1.1"}
    assert told == list(found.results)
    assert found.passed


class TestAssertions:
    def test_they_take_what_the_functions_take(self):
        assert assert_cost(Narrow, max_params=108, input="3x8x8").params == 108
        assert assert_equivalent(Narrow, Narrow(), "3x8x8", dtypes="float64", modes="eval").passed

    @pytest.mark.parametrize(
        ("call", "words"),
        [
            (
                lambda: assert_not_slower(Narrow(), Narrow(), IMAGE, seconds=-1),
                "^seconds takes a finite number above",
            ),
            (lambda: assert_equivalent(Narrow(), Narrow(), IMAGE, dtypes="half"), "^dtypes has no half"),
            (lambda: assert_cost(Narrow, max_params=1, batch=0), "batch is a whole number from 1 on"),
        ],
    )
    def test_they_refuse_what_the_functions_refuse(self, call, words):
        with pytest.raises(UsageError, match=words):
            call()

    def test_a_difference_is_named(self):
        with pytest.raises(AssertionError, match="Narrow = Narrow: output, float64 eval: relative difference"):
            assert_equivalent(
                Narrow,
                Narrow(),
                IMAGE,
                dtypes="float64",
                modes="eval",
                transplant=lambda state: {key: 2 * value for key, value in state.items()},
            )


def test_torchs_own_devices_types_and_formats_are_words_too():
    given = {"device": torch.device("cpu"), "dtype": torch.float64, "memory_format": torch.channels_last}
    cell = mlcv_bench.time_forward(nn.Conv2d(3, 4, 3), **{**TIMED, **given}).cell
    assert (cell.device, cell.dtype, cell.memory_format) == ("cpu", "float64", "channels_last")
    assert word(torch.contiguous_format) == "contiguous"
    found = mlcv_bench.verify("folding", dtypes=torch.float64, device=torch.device("cpu"))
    assert {record.dtype for record in found.records} <= {"float64", "", None}


def test_the_page_on_python_names_every_public_function():
    page = (Path(__file__).parent.parent / "docs" / "python.md").read_text()
    assert set(mlcv_bench.__all__) - {"__version__"} <= set(re.findall(r"`(\w+)\(", page))


def test_the_typed_code_of_a_user_calls_every_public_function():
    """`make lint` checks that file with mypy --strict."""
    code = (Path(__file__).parent / "typing_of_users" / "every_public_function.py").read_text()
    for name in (*(f"mlcv_bench.{name}" for name in mlcv_bench.__all__), *(f"{name}(" for name in testing.__all__)):
        assert name in code


def test_an_interrupt_leaves_the_claims_that_are_finished():
    def stop(_result):
        raise KeyboardInterrupt

    assert [result.id for result in mlcv_bench.check_claims(["1.1-sphere", "1.1-epoch"], progress=stop).results] == [
        "1.1-sphere"
    ]
