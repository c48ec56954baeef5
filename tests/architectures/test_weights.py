"""Weights from files: read without running code, compared by name and shape."""

from __future__ import annotations

import pickle
import random
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mlcv_bench.architectures.build import build
from mlcv_bench.architectures.weights import load_weights, read_state
from mlcv_bench.errors import UsageError


@pytest.fixture
def network():
    return build("resnet8")


def saved(network, path):
    if path.suffix == ".safetensors":
        save_file(network.state_dict(), path)
    else:
        torch.save(network.state_dict(), path)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_what_was_saved_comes_back(network, tmp_path, suffix):
    path = saved(network, tmp_path / f"weights{suffix}")
    other = build("resnet8")
    found = load_weights(other, path)
    assert found.complete
    assert found.loaded == len(network.state_dict())
    for name, value in network.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_on_the_meta_device_names_and_shapes_alone(network, tmp_path, suffix):
    path = saved(network, tmp_path / f"weights{suffix}")
    state = read_state(path, device="meta")
    assert all(tensor.is_meta for tensor in state.values())
    with torch.device("meta"):
        assert load_weights(build("resnet8"), path).complete


def test_checkpoints_and_wrapped_networks(network, tmp_path):
    path = tmp_path / "checkpoint.pth"
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, path)
    assert load_weights(build("resnet8"), path).complete


def test_missing_unexpected_and_mismatched_names_are_said(network, tmp_path):
    state = network.state_dict()
    state["extra"] = torch.ones(2)
    del state["fc.bias"]
    state["fc.weight"] = torch.ones(3, 64)
    torch.save(state, tmp_path / "w.pth")
    before = network.fc.weight.clone()
    with pytest.raises(UsageError) as error:
        load_weights(network, tmp_path / "w.pth")
    for words in ("1 missing (fc.bias)", "1 unexpected (extra)", "fc.weight 3x64, not 10x64"):
        assert words in str(error.value)
    assert torch.equal(network.fc.weight, before)


class Evil:
    def __reduce__(self):
        return (print, ("this ran",))


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        ("none.pth", None, "no such file"),
        ("w.onnx", lambda path: path.write_bytes(b"x"), "no kind of weights"),
        ("w.pth", lambda path: path.write_bytes(b"nonsense"), "damaged"),
        ("w.pth", lambda path: path.write_bytes(b""), "damaged"),
        ("w.safetensors", lambda path: path.write_bytes(b"nonsense"), "damaged"),
        ("w.pth", lambda path: torch.save([1, 2], path), "state_dict"),
        ("w.pth", lambda path: torch.save(nn.Linear(2, 2), path), "could run code"),
        ("w.pt", lambda path: path.write_bytes(pickle.dumps(Evil())), "could run code"),
    ],
)
def test_what_is_no_table_of_tensors_is_refused(tmp_path, name, write, words, capsys):
    path = tmp_path / name
    if write:
        write(path)
    with pytest.raises(UsageError, match=words):
        read_state(path)
    assert "this ran" not in capsys.readouterr().out


def damaged(content, chance):
    """Return bytes with a few changed, or a piece taken out, doubled or cut off."""
    whole = bytearray(content)
    begin, end = sorted(chance.sample(range(len(whole)), 2))
    match chance.randrange(4):
        case 0:
            for place in chance.sample(range(len(whole)), 5):
                whole[place] = chance.randrange(256)
        case 1:
            del whole[begin : min(end, begin + 40)]
        case 2:
            whole[begin:begin] = whole[begin : min(end, begin + 40)]
        case _:
            del whole[end:]
    return bytes(whole)


@pytest.mark.parametrize("legacy", [False, True])
def test_damage_is_one_sentence(tmp_path, legacy):
    chance = random.Random(legacy)
    whole, path = tmp_path / "whole.pth", tmp_path / "damaged.pth"
    torch.save(nn.Linear(3, 2).state_dict(), whole, _use_new_zipfile_serialization=not legacy)
    sentences = []
    for _ in range(100):
        path.write_bytes(damaged(whole.read_bytes(), chance))
        try:
            read_state(path)
        except UsageError as error:
            sentences.append(str(error))
    assert len(sentences) > 20
    assert all(sentence.startswith("--weights ") for sentence in sentences)


def test_a_changed_key_of_a_storage_is_damage(tmp_path):
    """Torch's unpickler ends such files in AssertionError, IndexError or AttributeError."""
    whole, path = tmp_path / "whole.pth", tmp_path / "damaged.pth"
    torch.save(nn.Linear(3, 2).state_dict(), whole, _use_new_zipfile_serialization=False)
    path.write_bytes(whole.read_bytes().replace(b"storage", b"stor\x00ge"))
    with pytest.raises(UsageError, match="damaged"):
        read_state(path)


def test_an_archive_that_claims_to_go_on_in_another_file_is_damage(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"a": torch.ones(1)}, path)
    content = bytearray(path.read_bytes())
    # The last four bytes of the zip64 locator say how many disks there are.
    content[content.rindex(b"PK\x06\x07") + 16] = 9
    path.write_bytes(content)
    with pytest.raises(UsageError, match="damaged"):
        read_state(path)


def test_an_archive_that_announces_more_than_it_holds_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", bytes(10_000_000))
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(UsageError, match="announces 10,000,000 bytes"):
        read_state(path)
