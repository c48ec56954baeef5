"""Every private name of torch that the package uses still does what it did; a failure says which has changed."""

from __future__ import annotations

import ast
import contextlib
import gc
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import mlcv_bench
from mlcv_bench import torch_private

SEEN = "2.13.0"
"""The torch with which all of this was seen."""
PACKAGE = Path(mlcv_bench.__file__).parent
PRIVATE = re.compile(r"(?<![\w.])(torch|aten|nn)(\.\w+)*\._[a-zA-Z]\w*")


def changed(name):
    return f"torch {torch.__version__} has changed {name}, last seen in {SEEN}: look at mlcv_bench/torch_private.py"


class Names(torch_private.DispatchMode):
    """Notes the operators that run."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def run(self, func, args, kwargs):
        self.seen.append(func.name())
        return func(*args, **kwargs)


def test_modes_see_operators_and_can_be_left():
    with Names() as mode:
        torch.ones(2) + 1
        with torch_private.without_modes():
            torch.ones(2) * 2
    assert mode.seen == ["aten::ones", "aten::add.Tensor"], changed("dispatch modes")


def test_a_mode_loads_no_compiler():
    code = (
        "import sys, torch\n"
        "from mlcv_bench.torch_private import DispatchMode\n"
        "class Mode(DispatchMode):\n"
        "    def run(self, func, args, kwargs): return func(*args, **kwargs)\n"
        "with Mode(): torch.ones(2) + 1\n"
        "print('torch._dynamo' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.stdout.strip() == "False", changed("_should_skip_dynamo") + found.stderr


def test_composite_operators_are_seen_below_autograd():
    layer, image = nn.Linear(3, 2), torch.ones(1, 3)
    func = torch.ops.aten.linear.default
    with torch.no_grad(), torch_private.below_autograd(), Names() as mode:
        layer(image)
    assert mode.seen == ["aten::linear"], changed("_AutoDispatchBelowAutograd")
    assert torch_private.is_composite(func), changed("_dispatch_has_kernel_for_dispatch_key")
    assert not torch_private.is_composite(torch.ops.aten.addmm.default), changed("composite operators")
    with torch.no_grad(), Names() as mode:
        out = torch_private.run_composite(func, image, layer.weight, layer.bias)
    assert mode.seen == ["aten::t", "aten::addmm"], changed("OpOverload._op_dk")
    assert torch.equal(out, layer(image)), changed("OpOverload._op_dk")


def test_a_replaced_kernel_is_given_back():
    def relu6(x):
        return x.new_full(x.shape, 7.0)

    x = torch.ones(2)
    with torch_private.replaced("AutogradCPU", relu6=relu6):
        assert torch.nn.functional.relu6(x).tolist() == [7.0, 7.0], changed("library._scoped_library")
    assert torch.nn.functional.relu6(x).tolist() == [1.0, 1.0], changed("library._scoped_library")


@pytest.mark.parametrize(("width", "at_once"), [(4, True), (5, False)])
def test_the_choice_of_attention(width, at_once):
    query, value = torch.ones(1, 2, 6, 4), torch.ones(1, 2, 6, width)
    found = torch_private.attends_at_once(query, query, value, None, scale=None, enable_gqa=False)
    assert found == at_once, changed("_fused_sdp_choice")


def test_attention_in_one_kernel():
    torch.manual_seed(0)
    query = torch.randn(1, 2, 6, 4)
    out = torch_private.flash_attention(query, query, query, attn_mask=None, scale=None)[0]
    wanted = nn.functional.scaled_dot_product_attention(query, query, query)
    torch.testing.assert_close(out, wanted, msg=lambda text: changed("flash attention") + text)


def test_hooks_on_all_modules_are_in_the_tables():
    before = [len(table) for table in torch_private.global_hooks()]
    with contextlib.ExitStack() as stack:
        for handle in (
            nn.modules.module.register_module_forward_pre_hook(lambda *_: None),
            nn.modules.module.register_module_forward_hook(lambda *_: None, always_call=True),
        ):
            stack.callback(handle.remove)
        after = [len(table) for table in torch_private.global_hooks()]
    assert [new - old for old, new in zip(before, after, strict=True)] == [1, 1, 1], changed("global hooks")


def test_hooks_of_a_module_are_in_its_tables():
    module = nn.ReLU()
    module.register_forward_pre_hook(lambda *_: None)
    module.register_forward_hook(lambda *_: None)
    assert [len(table) for table in torch_private.forward_hooks(module)] == [1, 1], changed("Module's hooks")


def test_a_compiled_network_holds_the_one_it_was_made_of():
    module = nn.ReLU()
    assert torch_private.uncompiled(torch.compile(module, backend="eager")) is module, changed("_orig_mod")
    assert torch_private.uncompiled(module) is module
    assert torch_private.dynamo_is_loaded(), changed("torch._dynamo")


def test_graph_breaks_are_counted(monkeypatch):
    class Breaking(nn.Module):
        def forward(self, x):
            x = x + 1
            torch._dynamo.graph_break()
            return x * 2

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module, dynamic, mode: real(module, dynamic=dynamic, backend="eager"))
    run, breaks = torch_private.compiled(Breaking())
    assert run(torch.ones(2)).tolist() == [4.0, 4.0]
    assert breaks() == 1, changed("torch._dynamo.utils.counters")


def test_many_tensors_are_copied_at_once():
    places = [torch.zeros(2), torch.zeros(3)]
    torch_private.copy_each(places, [torch.ones(2), torch.ones(3)])
    assert all(place.min() == 1 for place in places), changed("_foreach_copy_")


def test_a_storage_keeps_its_object():
    tensor = torch.empty(3, device="meta")
    first = id(tensor.untyped_storage())
    others = [torch.empty(3, device="meta").untyped_storage() for _ in range(50)]
    gc.collect()
    assert id(tensor.view(3, 1).untyped_storage()) == first, changed("the life of a storage's Python object")
    assert first not in map(id, others)


def private_names(path):
    """Yield what the code of a file, not its texts, names of torch's private parts."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and (found := PRIVATE.match(ast.unparse(node))):
            yield found.group()
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names = [f"{getattr(node, 'module', None) or ''}.{alias.name}".strip(".") for alias in node.names]
            yield from filter(PRIVATE.match, names)


def test_no_other_file_names_them():
    found = {
        str(path.relative_to(PACKAGE)): sorted(set(private_names(path)))
        for path in PACKAGE.rglob("*.py")
        if path.name != "torch_private.py"
    }
    assert {path: names for path, names in found.items() if names} == {}
