"""Networks that were counted, refused or summarised wrongly, with their right values by hand arithmetic."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - as everybody writes it
from torch import nn

from mlcv_bench.api.costs import count as api_count
from mlcv_bench.api.costs import count_training
from mlcv_bench.architectures.build import parse_set
from mlcv_bench.architectures.request import NamedInput, Request, parse_inputs
from mlcv_bench.counting.audit import audit
from mlcv_bench.counting.cost import count, count_parameters
from mlcv_bench.counting.diff import diff
from mlcv_bench.counting.network import Network, observe
from mlcv_bench.counting.training import training_cost
from mlcv_bench.counting.tree import tree_of
from mlcv_bench.errors import UsageError

CASES = Path(__file__).parents[1] / "cases"
NETWORKS = f"{CASES}/networks.py"


class Call(nn.Module):
    """A network of one function, perhaps beside a layer."""

    def __init__(self, function, layer=None):
        super().__init__()
        self.function, self.layer = function, layer

    def forward(self, x):
        return self.function(x) if self.layer is None else self.function(x, self.layer)


@pytest.mark.parametrize(
    ("name", "options", "size", "macs"),
    [
        # LSTM: 28 steps of 4 x 32 gates on 28 + 32, then on 32 + 32 inputs; 320 for the last layer.
        ("Recurrent", {}, (28, 28), 28 * 128 * (28 + 32 + 32 + 32) + 320),
        ("Recurrent", {"made_there": True}, (28, 28), 444_736),
        ("Sines", {}, (16,), 128),
        ("FloatAdd", {}, (8, 8, 8), 64 * 8 * 72),
        ("Shared", {}, (64,), 2 * 64 * 64),
        ("compiled", {}, (3, 8, 8), 36 * 4 * 27 + 144 * 10),
    ],
)
def test_macs(name, options, size, macs):
    assert count(f"{NETWORKS}:{name}", input=size, **options).macs == macs


def test_fused_attention_keeps_no_scores():
    # The eager pass grows the process by 15.4 MiB; four heads' scores of 4,096 tokens alone would be 256 MiB.
    assert count(f"{NETWORKS}:Vit", input=(3, 1024, 1024)).peak_activation_bytes < 25 * 2**20


def test_a_slice_gives_a_dense_result():
    # Input 12,288, the convolution's 262,144, and two halves.
    assert count(f"{NETWORKS}:Gated", input=(3, 16, 16), batch=4).peak_activation_bytes == 536_576


def test_the_peak_does_not_depend_on_what_was_counted_before():
    code = (
        "from mlcv_bench.counting.cost import count\n"
        f"print(*(count('{NETWORKS}:upsample', input=(3, 8, 8), batch=n).peak_activation_bytes for n in (2, 1, 2)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["22016", "11008", "22016"]


class TestBias:
    @pytest.mark.parametrize(
        ("module", "size", "bias", "additions"),
        [
            (nn.Linear(8, 16), (8,), 16, 0),
            (nn.Linear(8, 16), (5, 8), 80, 0),
            (Call(lambda x, layer: layer(x.transpose(1, 2)), nn.Linear(8, 16)), (8, 5), 80, 0),
            (Call(lambda x, layer: layer(x.permute(0, 2, 3, 1)), nn.Linear(8, 16)), (8, 6, 6), 576, 0),
            (Call(lambda x, layer: layer(x.permute(0, 2, 3, 1)) + 1.0, nn.Linear(8, 16)), (8, 6, 6), 576, 576),
            (Call(lambda x, layer: layer(x) + x, nn.Linear(8, 8, bias=False)), (8,), 0, 8),
            (Call(lambda x: torch.addmm(x, x, torch.ones(8, 8))), (8,), 0, 8),
            (Call(lambda x: torch.baddbmm(x, x, x)), (8, 8), 0, 64),
            (Call(lambda x: torch.baddbmm(x, x, x, beta=0)), (8, 8), 0, 0),
        ],
        ids=str,
    )
    def test_torch_adds_it_in_one_way_or_another(self, module, size, bias, additions):
        cost = count(module, input=size)
        assert (cost.bias_ops, cost.addition_ops) == (bias, additions)

    def test_the_case(self):
        assert count(f"{NETWORKS}:ChannelsLastLinear", input=(8, 6, 6)).bias_ops == 576


class TestRecurrent:
    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize(
        ("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)], ids=lambda value: getattr(value, "__name__", value)
    )
    def test_macs_and_biases(self, kind, gates, bias):
        layer = kind(6, 5, 2, bidirectional=True, batch_first=True, bias=bias)
        cost = count(layer, input=(7, 6), batch=3)
        assert cost.macs == 3 * 7 * 2 * gates * 5 * ((6 + 5) + (10 + 5))
        assert cost.bias_ops == (3 * 7 * 2 * gates * 5 * 2 * 2 if bias else 0)
        assert not cost.uncounted

    @pytest.mark.filterwarnings("ignore")  # torch deprecates all of TorchScript
    def test_torchscript(self):
        script = torch.jit.script(nn.Sequential(nn.LSTM(6, 5)))
        assert count(script, input=(7, 6), batch=3).macs == 3 * 7 * 20 * 11

    @pytest.mark.filterwarnings("ignore:TF32")  # torch's own remark on its flags
    def test_elementwise_work_does_not_depend_on_the_kernel(self):
        fused = count(nn.LSTM(6, 5), input=(7, 6), batch=3)
        with torch.backends.mkldnn.flags(enabled=False):
            apart = count(nn.LSTM(6, 5), input=(7, 6), batch=3)
        for column in ("macs", "bias_ops", "activation_ops", "addition_ops", "activations"):
            assert getattr(fused, column) == getattr(apart, column), column


class TestMadeInside:
    """Tensors that forward makes on the CPU are a reason to count there, not to refuse."""

    @pytest.mark.parametrize(
        "function",
        [
            lambda x, layer: layer(x + torch.zeros(16, device="cpu")),
            lambda x, layer: layer(torch.FloatTensor([[0.5] * 16]) * x),
            lambda x, layer: layer(torch.autograd.grad(layer(asking(x)).sum(), ASKED.pop())[0]),
        ],
        ids=["by name", "FloatTensor", "derivative"],
    )
    def test_counted_on_the_cpu(self, function):
        cost = count(Call(function, nn.Linear(16, 16)), input=(16,))
        assert cost.macs in {256, 3 * 256, 4 * 256}
        assert "CPU" in cost.notes[0]

    def test_autocast_by_the_kind_of_device(self):
        def under(x, layer):
            with torch.autocast(x.device.type, dtype=torch.bfloat16):
                return layer(x)

        assert count(Call(under, nn.Linear(16, 8)), input=(16,)).macs == 128


ASKED = []


def asking(x):
    with torch.enable_grad():
        ASKED.append(x.detach().requires_grad_())
    return ASKED[-1]


class TestFolder:
    def test_a_file_finds_its_neighbours(self):
        before, searched = set(sys.modules), sys.path[:]
        assert count(f"{CASES}/project/model.py:net", input=(3, 8, 8)).macs == 36 * 8 * 27 + 36 * 8 * 72 + 80
        assert sys.path == searched
        assert "layers" not in set(sys.modules) - before

    def test_two_folders_with_neighbours_of_one_name(self, tmp_path):
        for width in (2, 3):
            folder = tmp_path / str(width)
            (folder / "parts").mkdir(parents=True)
            (folder / "parts" / "__init__.py").write_text("from .inner import WIDTH\n")
            (folder / "parts" / "inner.py").write_text(f"WIDTH = {width}\n")
            (folder / "model.py").write_text(
                "from torch import nn\nfrom parts import WIDTH\n"
                "def net():\n    from parts.inner import WIDTH as late\n    return nn.Linear(4, WIDTH * late)\n"
            )
        assert [count(f"{tmp_path}/{width}/model.py:net", input=(4,)).macs for width in (2, 3)] == [16, 36]

    def test_a_file_of_a_package_imports_as_the_package_does(self, tmp_path):
        for version, width in (("base", 2), ("head", 3)):
            inner = tmp_path / version / "net" / "inner"
            inner.mkdir(parents=True)
            (inner.parent / "__init__.py").write_text("from .inner.model import net\n")
            (inner.parent / "sizes.py").write_text(f"WIDTH = {width}\n")
            (inner / "__init__.py").write_text("")
            (inner / "model.py").write_text(
                "from torch import nn\nfrom ..sizes import WIDTH\nfrom net.sizes import WIDTH as same\n"
                "class Net(nn.Linear):\n    def __init__(self, classes=5):\n        super().__init__(WIDTH, classes)\n"
                "def net():\n    from . import model\n    return model.Net(classes=same)\n"
            )
        for place, macs in (("net/inner/model.py:Net", (10, 15)), ("net/inner/model.py:net", (4, 9))):
            found = [
                count(f"{tmp_path}/{version}/{place}", input=(width,)).macs
                for version, width in (("base", 2), ("head", 3))
            ]
            assert found == list(macs)

    def test_a_file_that_cannot_be_imported_says_so_each_time(self, tmp_path):
        (tmp_path / "broken.py").write_text("x = (\n")
        for _ in range(2):
            with pytest.raises(UsageError, match="SyntaxError"):
                count_parameters(Request.of(f"{tmp_path}/broken.py:x"))


TOKENS = (NamedInput("tokens", "int64", (1, 12)),)


class TestNamedInputs:
    def test_summary_and_diff(self):
        request = Request.of(f"{NETWORKS}:Tokens", tensors=TOKENS)
        assert tree_of(request).macs == 12 * 16 * 7
        assert diff(request, request)[-1].first_macs == 1344

    def test_a_misspelt_name_is_no_dictionary(self):
        with pytest.raises(UsageError, match="takes tokens, not 'tokns'"):
            count(f"{NETWORKS}:Tokens", tensors=(NamedInput("tokns", "int64", (1, 12)),))

    def test_a_dictionary_that_fails_says_that_it_was_one(self):
        with pytest.raises(UsageError, match="one dictionary"):
            count(f"{NETWORKS}:Tokens", tensors=(NamedInput("words", "int64", (1, 12)),))


class Several(nn.Module):
    """(1, 16) and, if given, (1, 4)."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(16, 8), nn.Linear(4, 8)

    def forward(self, x, skip=None, y=None):
        return self.one(x) if y is None else self.one(x) + self.other(y)


class Stacked(nn.Module):
    """A list of images."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images):
        return torch.stack([self.conv(image) for image in images])


class Starred(nn.Module):
    """Any number of tensors."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, *tensors):
        return sum(self.fc(tensor) for tensor in tensors)


class Both(nn.Module):
    """Two tensors that have to be given."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(4, 2), nn.Linear(5, 2)

    def forward(self, left, right):
        return self.one(left) + self.other(right)


def named(*texts):
    return parse_inputs(texts)[1]


class TestInputs:
    @pytest.mark.parametrize(
        ("module", "texts", "macs"),
        [
            (Several(), ["x:1x16"], 128),
            (Several(), ["x:1x16", "y:float32:1x4"], 128 + 32),
            (Several(), ["y:3x4", "x:3x16"], 3 * (128 + 32)),
            (Stacked(), ["images:1x3x4x4", "images:1x3x4x4"], 2 * 4 * 4 * 27),
            (Starred(), ["first:1x4", "second:1x4"], 16),
            (Both(), ["right:1x5", "left:1x4"], 10 + 8),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_by_name_in_lists_and_by_position(self, module, texts, macs):
        assert [count(module, tensors=named(*texts), batch=batch).macs for batch in (1, 2)] == [macs, 2 * macs]

    @pytest.mark.parametrize(
        ("module", "example", "text", "macs"),
        [
            (nn.Conv2d(3, 4, 3), torch.ones(2, 3, 4, 4), "float32:2x3x4x4", 2 * 4 * 4 * 27),
            (Several(), [torch.ones(1, 16)], "float32:1x16", 128),
            (Several(), {"x": torch.ones(1, 16), "y": torch.ones(1, 4)}, "x:float32:1x16 y:float32:1x4", 160),
            (
                Stacked(),
                {"images": [torch.ones(1, 3, 4, 4)] * 2},
                "images:float32:1x3x4x4 images:float32:1x3x4x4",
                2 * 4 * 4 * 27,
            ),
        ],
        ids=["tensor", "position", "names", "list"],
    )
    def test_examples_from_python(self, module, example, text, macs):
        cost = api_count(module, input=example)
        assert (cost.macs, cost.input, cost.batch) == (macs, text, 1)
        assert api_count(module, input=example, batch=3).macs == 3 * macs
        assert count_training(module, input=example).forward_macs == macs

    def test_the_values_of_an_example_decide_where_values_do(self):
        def by_value(x, layer):
            return layer(x) if x.sum() > 0 else layer(layer(x))

        module = Call(by_value, nn.Linear(4, 4))
        given = torch.ones(1, 4)
        assert [api_count(module, input=sign * given).macs for sign in (1, -1)] == [16, 32]

    def test_an_example_is_left_as_it_is(self):
        given = torch.ones(1, 4)
        api_count(Call(lambda x: x.mul_(0.0) if x.sum() > 0 else x), input=given)
        assert given.sum() == 4

    @pytest.mark.parametrize(
        ("module", "given", "words"),
        [
            (Both(), {"tensors": ["left:1x4"]}, "takes right too; .* input right:float32:1x4"),
            (Both(), {"input": (4,)}, "takes left, right, not one image; .* input left:float32:1x4 input right:"),
            (Both(), {"tensors": ["left:1x4", "wrong:1x4"]}, "takes left, right, not 'wrong'"),
            (Both(), {"input": {"left": 3}}, "not a int under left"),
            (Both(), {"input": [torch.ones(1), "x"]}, "not a str"),
            (Both(), {"input": (4,), "tensors": ["left:1x4"]}, "give one of them"),
            (Both(), {"input": {}}, "holds no tensor"),
            (Both(), {"input": (4, 0)}, "whole numbers from 1 on"),
        ],
    )
    def test_what_does_not_fit_is_said(self, module, given, words):
        with pytest.raises(UsageError, match=words):
            api_count(module, **given)

    @pytest.mark.parametrize("text", ["x", "x:", "x:int64:", "x:what:1x2", "x:1x0"])
    def test_texts_that_name_no_tensor(self, text):
        with pytest.raises(UsageError, match="--input x"):
            parse_inputs([text])


class TestFaultsOfItsOwn:
    def test_no_other_input_is_advised(self):
        def broken(x):
            return x + undefined  # noqa: F821 - the fault

        def refusing(x):
            raise ValueError("not today")

        for function, words in ((broken, "NameError"), (refusing, "ValueError")):
            with pytest.raises(UsageError, match=f"raises {words} in its forward pass .test_cases.py, line") as refused:
                count(Call(function), input=(4,))
            assert "--input" not in str(refused.value)

    def test_a_shape_that_torch_refuses(self):
        with pytest.raises(UsageError, match=r"cannot take an input of 5: .* try another --input"):
            count(nn.Linear(4, 4), input=(5,))


class TestShared:
    def test_each_place_shows_what_ran_there(self):
        root = tree_of(Request.of(f"{NETWORKS}:Shared", input=(64,)))
        first, second = root.children
        assert [block.macs for block in (first, second)] == [4096, 4096]
        assert all(leaf.ran for block in (first, second) for leaf in block.children)
        assert (root.macs, root.params, first.params, second.params) == (8192, 4160, 4160, 0)

    def test_the_audit_still_meets_torch_jit(self):
        assert audit(Network.of(f"{NETWORKS}:Shared", input=(64,))).leftover == 0

    def test_twice_in_one_place(self):
        layer = nn.Linear(4, 4)
        network = Network.of(nn.Sequential(layer, nn.ReLU(), layer), input=(4,))
        root = tree_of(network.module, seen=observe(network, fields=True))
        assert [child.macs for child in root.children] == [16, 0, 16]


@dataclasses.dataclass
class Scores:
    classes: torch.Tensor
    number: int = 3


class TestTraining:
    def test_outputs_in_a_dataclass(self):
        layer = nn.Linear(4, 3)
        assert (
            training_cost(Network.of(Call(lambda x, layer: Scores(layer(x)), layer), input=(4,)), 2).forward_macs == 24
        )

    def test_complex_outputs(self):
        layer = nn.Linear(4, 4)
        cost = training_cost(Network.of(Call(lambda x, layer: torch.fft.fft(layer(x)), layer), input=(4,)), 2)
        assert cost.backward_macs == 32

    def test_fused_attention(self):
        # torch's allocator hands out 8,751,960 bytes for one image of 512 pixels, and 69,536,880 for eight.
        network = Network.of(f"{NETWORKS}:Vit", input=(3, 512, 512))
        weights = sum(weight.numel() * 4 for weight in network.on_meta().parameters())
        assert training_cost(network).peak_bytes == pytest.approx(8_751_960 + weights, rel=1e-3)
        assert training_cost(network, memory=10**9).largest_batch > 60


class TestRefusals:
    def test_wrong_channels_are_said(self):
        with pytest.raises(UsageError, match="takes images of 8 channels, not 3; try --input 8x9x9"):
            count(nn.Conv2d(8, 4, 3), input=(3, 9, 9))

    @pytest.mark.filterwarnings("ignore:flex_attention called without")
    def test_higher_order_operators_in_one_sentence(self):
        from torch.nn.attention.flex_attention import flex_attention

        with pytest.raises(UsageError, match="higher-order operator flex_attention") as refused:
            count(Call(lambda x: flex_attention(x[:, None], x[:, None], x[:, None])), input=(128, 16))
        assert "CountingMode" not in str(refused.value)

    def test_weights_that_would_be_downloaded(self, tmp_path):
        (tmp_path / "zoo.py").write_text(
            "from urllib.error import URLError\nfrom torch import nn\n"
            "def net(weights=None, weights_backbone='IMAGENET1K_V1', progress=True):\n"
            "    if weights_backbone is not None:\n        raise URLError('no network')\n"
            "    return nn.Linear(4, 2)\n"
        )
        with pytest.raises(UsageError, match="--set weights_backbone=none builds it without"):
            count(f"{tmp_path}/zoo.py:net", input=(4,))
        values = parse_set(f"{tmp_path}/zoo.py:net", {"weights_backbone": "none"})
        assert count(f"{tmp_path}/zoo.py:net", input=(4,), **values).macs == 8

    @pytest.mark.parametrize(
        ("parameters", "hint"),
        [
            ("weights: str | None = 'A'", "--set weights=none builds it without"),
            ("weights: object = Weights.A", "--set weights=none builds it without"),
            ("weights=Weights.A, pretrained=True", "--set weights=none --set pretrained=false builds it without"),
            ("weights: str = 'A'", None),
            ("weights: int = 1", None),
            ("weights: str = 'A', pretrained: bool = True", None),
        ],
    )
    def test_no_weights_are_offered_where_set_cannot_ask_for_none(self, tmp_path, parameters, hint):
        (tmp_path / "zoo.py").write_text(
            "import enum\nfrom urllib.error import URLError\n\nclass Weights(enum.Enum):\n    A = 1\n\n"
            f"def net({parameters}):\n    raise URLError('no network')\n"
        )
        with pytest.raises(UsageError, match="no network") as refused:
            count(f"{tmp_path}/zoo.py:net", input=(4,))
        assert ("--set" in str(refused.value)) == (hint is not None)
        assert hint is None or hint in str(refused.value)


class TestParameters:
    def test_no_input_has_to_fit(self):
        cost = count_parameters(Request.of(f"{NETWORKS}:Recurrent"))
        row = cost.row()
        assert (row["params"], row["macs"], row["peak_activation_bytes"]) == (16_714, None, None)
        assert "the parameters need none" in cost.notes[0]

    def test_one_that_fits_shows_all(self):
        assert count_parameters(Request.of(f"{NETWORKS}:Recurrent", input=(28, 28))).row()["macs"] == 444_736


def marked(x):
    with torch.profiler.record_function("here"):
        return x.flip(0)


class TestCounted:
    @pytest.mark.parametrize(
        "function",
        [
            lambda x: torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2)))),
            lambda x: F.fold(F.unfold(x[:, None], 2), (16, 16), 2),
            lambda x: x.clone().as_strided_((4, 4), (1, 4)),
            lambda x: torch.cat(torch.unsafe_split(x, 2), 1),
            marked,
            lambda x: F.pad(x, (1, 1), mode="reflect"),
            lambda x: torch.bernoulli(torch.empty_like(x)),
            lambda x: torch.empty_like(x).exponential_(),
            lambda x: torch.zeros_like(x).index_add(0, torch.zeros(4, dtype=torch.long, device=x.device), x),
            lambda x: F.max_unpool2d(x[None], torch.zeros_like(x, dtype=torch.long)[None], 2),
        ],
    )
    def test_moves_and_markers_are_no_work(self, function):
        cost = count(Call(function), input=(16, 16), batch=4)
        assert not cost.uncounted
        assert (cost.macs, cost.addition_ops) == (0, 0)

    @pytest.mark.parametrize(
        ("function", "column", "operations"),
        [
            (lambda x: x.std(-1), "addition_ops", 2 * 16),
            (lambda x: x.prod(-1), "addition_ops", 2 * 16),
            (lambda x: (x == 0).any(-1), "pooling_ops", 2 * 16),
            (torch.log2, "activation_ops", 2 * 16),
            (lambda x: F.interpolate(x[:, None], scale_factor=2, mode="nearest-exact"), "addition_ops", 2 * 32),
        ],
    )
    def test_pointwise_work_and_reductions(self, function, column, operations):
        cost = count(Call(function), input=(16,), batch=2)
        assert (getattr(cost, column), cost.uncounted) == (operations, ())

    @pytest.mark.parametrize(("first", "second"), [("complex64", "complex64")])
    def test_a_complex_product_is_four_real_ones(self, first, second):
        def product(x):
            return (x.to(getattr(torch, first)) @ torch.ones(4, 3, dtype=getattr(torch, second))).real

        assert count(Call(product), input=(4,), batch=2).macs == 4 * 2 * 4 * 3


class TestCompiled:
    @pytest.mark.parametrize("part", ["whole", "inner"])
    def test_looked_through(self, part):
        inner = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        module = torch.compile(inner) if part == "whole" else nn.Sequential(torch.compile(inner), nn.Linear(4, 2))
        assert api_count(module, input=(4,)).macs == (16 if part == "whole" else 24)
