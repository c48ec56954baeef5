"""Real networks of torchvision and timm, without weights: `.ci/zoo` puts the two beside the project and runs this.

Right values: torch's FlopCounterMode, parameters as torch holds them, and the tables that torchvision ships.
"""

from __future__ import annotations

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mlcv_bench.architectures import catalog
from mlcv_bench.architectures.build import build
from mlcv_bench.cli.app import run
from mlcv_bench.counting.cost import count
from mlcv_bench.records import shape_text

WHERE = "installed by .ci/zoo, in a folder of its own"
models = pytest.importorskip("torchvision", reason=WHERE).models
timm = pytest.importorskip("timm", reason=WHERE)

# Both warn of what a later version of theirs will do.
pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore::UserWarning")]

NETWORKS = {
    "torchvision:convnext_tiny": 224,
    "torchvision:densenet121": 224,
    "torchvision:efficientnet_b0": 224,
    "torchvision:googlenet": 224,
    "torchvision:inception_v3": 299,
    "torchvision:maxvit_t": 224,
    "torchvision:mobilenet_v2": 224,
    "torchvision:mobilenet_v3_large": 224,
    "torchvision:regnet_y_400mf": 224,
    "torchvision:resnet50": 224,
    "torchvision:resnext50_32x4d": 224,
    "torchvision:shufflenet_v2_x1_0": 224,
    "torchvision:swin_t": 224,
    "torchvision:swin_v2_t": 256,
    "torchvision:vit_b_16": 224,
    "timm:coatnet_0_rw_224": 224,
    "timm:convnextv2_atto": 224,
    "timm:efficientnet_b0": 224,
    "timm:inception_resnet_v2": 299,
    "timm:maxvit_tiny_rw_224": 224,
    "timm:mixer_s32_224": 224,
    "timm:mobilenetv4_conv_small": 224,
    "timm:regnety_004": 224,
    "timm:resnext50_32x4d": 224,
    "timm:swin_tiny_patch4_window7_224": 224,
    "timm:vit_tiny_patch16_224": 224,
    "timm:xception41": 299,
}


BY_KEY = {
    **{name: name for name in ("resnet18", "resnet34", "wide_resnet50_2", "resnext50_32x4d")},
    **{name: name for name in ("resnext101_32x4d", "resnext101_32x8d", "resnext101_64x4d")},
    **{f"resnet{depth}_v1_5": f"resnet{depth}" for depth in (50, 101, 152)},
}
"""Networks of ours, and timm's whose state dicts have the same keys; torchvision's are in the catalogue."""

BY_ORDER = ("vgg16", "inception_resnet_v2", "convnext_tiny")
"""The same where timm has other names for the same tensors, in the same order."""

AFTER_6A = torch.arange(1088).roll(320)
AFTER_7A = torch.cat([992 + AFTER_6A, torch.arange(992)])
MOVED = {"inception_resnet_v2": {1088: AFTER_6A, 2080: AFTER_7A}}
"""Our reductions put the pool's channels first, as the figures do, and timm's last: its number of each of ours."""


def rows(capsys, *words):
    assert run([*words, "--format", "json", "--quiet"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", NETWORKS)
def test_flops_and_summary_against_torchs_own_formulas(name, capsys):
    shape = (3, NETWORKS[name], NETWORKS[name])
    network = (
        build(name).eval().to("meta")
    )  # on the CPU torch fuses attention, and has no formula for what it calls then
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, *shape, device="meta"))
    image = ["--input", shape_text(shape)]
    (cost,) = rows(capsys, "flops", name, *image)
    assert cost["params"] == sum(weight.numel() for weight in network.parameters())
    assert cost["flops"] == 2 * cost["macs"] == counter.get_total_flops()
    tree = rows(capsys, "summary", name, *image)
    assert (tree[0]["params"], tree[0]["macs"]) == (cost["params"], cost["macs"])


@pytest.mark.parametrize("name", NETWORKS)
def test_time(name, capsys):
    shape = shape_text((3, NETWORKS[name], NETWORKS[name]))
    (row,) = rows(capsys, "time", name, "--seconds", "0.1", "--threads", "1", "--input", shape)
    assert row["median_s"] > 0


@pytest.mark.parametrize("name", models.list_models(module=models))
def test_what_torchvision_prints_of_its_networks(name):
    weights = next(iter(models.get_model_weights(name)))
    (side,) = set(weights.transforms().crop_size)
    options = {"aux_logits": False} if name == "googlenet" else {"image_size": side} if name.startswith("vit") else {}
    cost = count(f"torchvision:{name}", input=(3, side, side), **options)
    assert cost.params == weights.meta["num_params"]
    assert round(cost.macs / 1e9, 3) == pytest.approx(weights.meta["_ops"], abs=5e-4)
    assert not cost.uncounted


def test_every_state_dict_of_torchvision_gives_the_same_logits(capsys):
    found = rows(capsys, "verify", "torchvision")
    twins = {row.name for row in catalog.ARCHITECTURES.values() if row.torchvision}
    passed = {row["case"].partition(":")[0] for row in found if row["quantity"] == "logits" and row["passed"]}
    assert passed == twins


def filled(name):
    """Return a network whose every tensor is drawn, also those that begin as 0 or 1, in float64."""
    with torch.device("meta"):
        network = build(name)
    network = network.to_empty(device="cpu").double().eval()
    for weight in network.state_dict().values():
        # Norms and their statistics round 1; the rest keeps what passes through it at its size.
        if weight.dim() > 1:
            weight.normal_(std=weight[0].numel() ** -0.5)
        else:
            weight.uniform_(0.5, 1) if weight.dim() else weight.fill_(0)
    return network


def in_our_order(theirs, ours, moved):
    state = {}
    for (key, wanted), tensor in zip(ours.items(), theirs.values(), strict=True):
        state[key] = tensor.view(wanted.shape)
        for axis, size in enumerate(wanted.shape):
            state[key] = state[key].index_select(axis, moved[size]) if size in moved else state[key]
    return state


@pytest.mark.parametrize("name", [*BY_KEY, *BY_ORDER])
def test_every_state_dict_of_timm_gives_the_same_logits(name):
    torch.manual_seed(0)
    theirs = filled(f"timm:{BY_KEY.get(name, name)}")
    with torch.device("meta"):
        ours = build(name).double().eval()
    state = theirs.state_dict()
    if name in BY_ORDER:
        state = in_our_order(state, ours.state_dict(), MOVED.get(name, {}))
    ours.load_state_dict(state, assign=True)
    side = max(64, catalog.find(name).smallest)
    image = torch.randn(2, 3, side, side, dtype=torch.float64)
    with torch.no_grad():
        logits = ours(image)
        torch.testing.assert_close(logits, theirs(image), rtol=1e-9, atol=0)
        assert logits.std() > 0.01 * logits.abs().mean()  # the image decides
        next(iter(theirs.parameters()))[0] += 1
        assert not torch.allclose(logits, theirs(image), rtol=1e-9, atol=0)


def test_a_file_of_their_weights_is_verified_in_both(tmp_path, capsys):
    torch.save(build("torchvision:resnet18").state_dict(), tmp_path / "resnet18.pth")
    given = ["--weights", f"{tmp_path}/resnet18.pth", "--input", "3x32x32", "--dtype", "float32", "--mode", "eval"]
    assert all(row["passed"] is not False for row in rows(capsys, "verify", "resnet18", "timm:resnet18", *given))
