"""Networks that fight back: counted right or refused in one sentence, and left as they were found."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from torch import nn

from mlcv_bench.architectures.request import NamedInput, Request, parse_inputs
from mlcv_bench.counting.cost import count
from mlcv_bench.counting.network import Network, observe
from mlcv_bench.errors import UsageError

SIZE = (3, 8, 8)
MACS = 36 * 4 * 27 + 4 * 5


def plain():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    )


def macs(module, size=SIZE, **more):
    return count(module, input=size, **more).macs


class TestForms:
    @pytest.mark.filterwarnings("ignore")  # torch deprecates all of TorchScript
    def test_torchscript(self):
        for script in (
            torch.jit.script(plain().eval()),
            torch.jit.trace(plain().eval(), torch.ones(1, *SIZE)),
            nn.Sequential(torch.jit.script(plain().eval())),
        ):
            assert macs(script) == MACS

    def test_lazy_modules(self):
        lazy = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(5))
        cost = count(lazy, input=SIZE, batch=2)
        assert cost.macs == 2 * (36 * 4 * 27 + 144 * 5)
        assert cost.params == 4 * 27 + 4 + 8 + 144 * 5 + 5
        assert isinstance(lazy[0], nn.LazyConv2d)
        assert isinstance(lazy[0].weight, nn.UninitializedParameter)

    @pytest.mark.filterwarnings("ignore")  # torch deprecates its own quantisation
    def test_quantised_modules_are_refused(self):
        quantised = torch.ao.quantization.quantize_dynamic(plain(), {nn.Linear})
        with pytest.raises(UsageError, match="before it is quantised"):
            count(quantised, input=SIZE)

    def test_half_precision(self):
        cost = count(plain().half(), input=SIZE)
        assert (cost.macs, cost.weight_bytes) == (MACS, 2 * cost.params)

    def test_what_cannot_be_copied_is_refused(self):
        module = plain()
        module.held = (number for number in range(3))
        with pytest.raises(UsageError, match="function that builds it"):
            count(module, input=SIZE)


class Choice(nn.Module):
    """Takes one branch or the other, by the values."""

    def __init__(self):
        super().__init__()
        self.small, self.large = nn.Linear(4, 2), nn.Linear(4, 8)

    def forward(self, x):
        return self.large(x) if (x * x).sum() > 0 else self.small(x)


class Selection(nn.Module):
    def forward(self, x):
        return x[x > -100]


class TestValues:
    def test_control_flow_is_counted_on_the_cpu_and_says_so(self):
        cost = count(Choice(), input=(4,))
        assert cost.macs == 32
        assert "depend on values" in cost.notes[0]

    def test_shapes_that_depend_on_values(self):
        seen = observe(Network.of(Selection(), input=(4,)), 2)
        assert seen.trace.outputs[""] == (8,)

    def test_two_runs_agree(self):
        assert count(Choice(), input=(4,)) == count(Choice(), input=(4,))

    def test_factories_that_compute_with_values(self, tmp_path, monkeypatch):
        (tmp_path / "rates.py").write_text(
            "import torch\nfrom torch import nn\n"
            "def net():\n"
            "    rates = [x.item() for x in torch.linspace(0, 0.5, 3)]\n"
            "    return nn.Sequential(nn.Linear(4, 4), *(nn.Dropout(rate) for rate in rates))\n"
        )
        monkeypatch.chdir(tmp_path)
        generator = torch.random.get_rng_state()
        assert count("rates.py:net", input=(4,)).macs == 16
        assert torch.equal(torch.random.get_rng_state(), generator)


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.out = nn.Embedding(10, 8), nn.Linear(8, 3)

    def forward(self, tokens, mask):
        return {"scores": self.out(self.table(tokens) * mask[..., None])}


class FromDictionary(Tokens):
    def forward(self, batch):
        return super().forward(batch["tokens"], batch["mask"])


class TestInputs:
    named = (NamedInput("tokens", "int64", (1, 6)), NamedInput("mask", "float32", (1, 6)))

    @pytest.mark.parametrize("kind", [Tokens, FromDictionary])
    def test_named_and_integer_inputs(self, kind):
        cost = count(kind(), tensors=self.named, batch=2)
        assert cost.macs == 2 * 6 * 24
        assert cost.input == "tokens:int64:1x6 mask:float32:1x6"

    def test_a_strange_name(self):
        with pytest.raises(UsageError, match="takes tokens, mask, not 'ids'"):
            count(Tokens(), tensors=(NamedInput("ids", "int64", (1, 6)), self.named[1]))

    def test_the_catalogue_takes_images(self):
        with pytest.raises(UsageError, match="one image"):
            Request.of("resnet18", tensors=self.named)

    @pytest.mark.parametrize(
        ("texts", "words"),
        [
            (["3x224x224", "tokens:int64:1x6"], "not both"),
            (["tokens:int:1x6"], "no type"),
            (["tokens:int64:0x6"], "no shape"),
            (["tokens:int64"], "name:type:shape"),
            (["3x8x8", "3x8x8"], "twice"),
            (["3x0x8"], "zero"),
        ],
    )
    def test_wrong_inputs_are_one_sentence(self, texts, words):
        with pytest.raises(UsageError, match=words):
            parse_inputs(texts)

    def test_an_input_that_does_not_fit(self):
        with pytest.raises(UsageError, match="takes images of 3 channels, not 4; try --input 3x8x8"):
            count(plain(), input=(4, 8, 8))


class TestLeftAlone:
    def test_hooks_that_keep_state(self):
        seen = []
        table = {}

        class Keeper:
            def __init__(self):
                self.calls = 0

            def __call__(self, module, args, output):
                self.calls += 1

            def method(self, module, args, output):
                self.calls += 1

        def append(module, args, output):
            seen.append(output.shape)
            return output

        def store(table, module, args):
            table[type(module)] = args

        module, keeper = plain(), Keeper()
        module[0].register_forward_hook(append)
        module[1].register_forward_hook(keeper)
        module[1].register_forward_hook(keeper.method)
        module[2].register_forward_pre_hook(functools.partial(store, table))
        module[3].register_forward_hook(lambda module, args, output, kept=seen: kept.append(1))
        assert macs(module) == MACS
        assert (seen, table, keeper.calls) == ([], {}, 0)
        module(torch.ones(2, *SIZE))
        assert len(seen) == 2
        assert keeper.calls == 2

    def test_hooks_that_write_to_a_global(self):
        module = plain()
        module[0].register_forward_hook(remember)
        assert macs(module) == MACS
        assert not MEMORY
        module(torch.ones(2, *SIZE))
        assert MEMORY.pop() == (2, 4, 6, 6)

    def test_hooks_that_work_still_work(self):
        module = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)), nn.Linear(3, 2))
        module[0].register_forward_hook(lambda module, args, output: torch.cat([output, output], 1)[:, :3])
        assert macs(module, (4,)) == 12 + 6

    def test_hooks_on_all_modules_see_nothing(self):
        calls = []
        handle = nn.modules.module.register_module_forward_hook(lambda *args: calls.append(1))
        try:
            macs(plain())
            assert not calls
            plain()(torch.ones(2, *SIZE))
            assert calls
        finally:
            handle.remove()

    def test_state_in_the_module_itself(self):
        class Counting(nn.Module):
            def __init__(self):
                super().__init__()
                self.history = []
                self.register_buffer("calls", torch.zeros(()))

            def forward(self, x):
                self.history.append(x)
                self.calls += 1
                return x

        module = Counting()
        count(module, input=(4,))
        assert module.history == []
        assert module.calls == 0

    @pytest.mark.parametrize("training", [True, False])
    def test_mode_buffers_and_global_state(self, training):
        class Rude(nn.Module):
            """Changes everything global that it can reach."""

            def __init__(self):
                super().__init__()
                self.body = plain()

            def forward(self, x):
                torch.set_default_dtype(torch.float64)
                torch.manual_seed(3)
                torch.rand(3)
                torch.set_grad_enabled(mode=True)
                torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
                return self.body(x)

        module = Rude().train(training)
        before = copy.deepcopy(module.state_dict())
        generator, benchmark = torch.random.get_rng_state(), torch.backends.cudnn.benchmark
        count(module, input=SIZE)
        assert module.training == module.body[1].training == training
        assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
        assert torch.get_default_dtype() == torch.float32
        assert torch.get_default_device().type == "cpu"
        assert torch.equal(torch.random.get_rng_state(), generator)
        assert torch.is_grad_enabled()
        assert torch.backends.cudnn.benchmark == benchmark


MEMORY = []


def remember(module, args, output):
    MEMORY.append(tuple(output.shape))
