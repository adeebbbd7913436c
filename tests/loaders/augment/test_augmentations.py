"""Augmentations against plain loops over rows; their distributions; the same whoever reads which batch."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loaders.augment import (
    BandDropout,
    Brightness,
    Contrast,
    CutMix,
    FlipLeftRight,
    FlipUpDown,
    MixUp,
    Noise,
    RandomCrop,
    apply,
)
from loaders.augment.random import AUGMENT, Random
from loaders.numpy import Loader, ShardOptions
from loaders.order import hashing
from tests.support import scripts, shards
from tests.support.batches import assert_same, assert_same_batch
from tests.support.numbered import small_chunks

MANY = 20_000
IMAGES = "images"


def rng(rows=MANY, *, seed=3, epoch=0, number=0, groups=None):
    return Random(seed, epoch, number, rows=np.arange(rows), groups=groups or (rows,))


def images(rows, dtype="uint8", shape=(6, 5, 3), seed=0):
    values = np.random.default_rng(seed).integers(0, 200, (rows, *shape))
    return values.astype(dtype)


def changed(augmentation, values, random=None):
    return augmentation({IMAGES: values.copy()}, random or rng(len(values)))[IMAGES]


# Random numbers.


def test_golden_random_numbers():
    random = Random(7, 2, 1, rows=np.array([0, 1, 1_000_000]), groups=(2, 1))

    words = (7, AUGMENT, 2, 1, hashing.text_key("a"))
    hashes = [int(hashing.stream(hashing.derive(*words), np.array([row]))[0]) for row in (0, 1, 1_000_000)]
    assert random.uniform("a").tolist() == [(h >> 11) / 2**53 for h in hashes] == GOLDEN_UNIFORM
    element = [[int(hashing.stream(h, np.array([j]))[0]) for j in range(2)] for h in hashes]
    assert random.uniform("a", 2).tolist() == [[(h >> 11) / 2**53 for h in row] for row in element]
    for row, (first, _) in zip(random.normal("a", 3), element, strict=True):
        radius = math.sqrt(-2 * math.log(((first >> 40) + 1) / 2**24))
        assert row[0] == pytest.approx(radius * math.cos(2 * math.pi * (first & 0xFFFFFF) / 2**24), abs=1e-5)
    assert random.normal("a", 2)[0].tolist() == pytest.approx(GOLDEN_NORMAL, abs=1e-6)
    assert Random(7, 2, 1, rows=np.arange(8), groups=(8,)).partners("a").tolist() == GOLDEN_PARTNERS


# They never change without a new format version.
GOLDEN_UNIFORM = [0.46111294691346294, 0.6444433431835573, 0.3281898033624162]
GOLDEN_NORMAL = [-2.1570914, -0.4156385]
GOLDEN_PARTNERS = [0, 6, 1, 3, 7, 4, 2, 5]


def test_random_numbers_have_their_distributions():
    random = rng()
    for values in (random.uniform("a"), random.uniform("a", 4).ravel(), random.beta("a", 1.0)):
        assert 0 <= values.min() < values.max() < 1
        assert distance_from_uniform(values) < 1.95 / math.sqrt(len(values))  # Kolmogorov: p = 0.001
    normal = random.normal("a", 7).astype(np.float64).ravel()
    assert abs(normal.mean()) < 5 / math.sqrt(len(normal))
    assert abs(normal.std() - 1) < 5 / math.sqrt(2 * len(normal))
    assert abs((normal**4).mean() - 3) < 5 * math.sqrt(96 / len(normal))
    assert distance_from_uniform(0.5 * (1 + np.vectorize(math.erf)(normal / math.sqrt(2)))) < 1.95 / math.sqrt(
        len(normal)
    )
    assert np.abs(np.corrcoef(random.normal("a", 6).T) - np.eye(6)).max() < 5 / math.sqrt(MANY)
    for alpha in (0.05, 0.2, 0.5, 2.0, 8.0):
        beta = random.beta("a", alpha)
        variance = 1 / (4 * (2 * alpha + 1))
        assert abs(beta.mean() - 0.5) < 5 * math.sqrt(variance / MANY)
        assert abs(beta.var() / variance - 1) < 0.08
        assert 0 <= beta.min() < beta.max() <= 1
    # beta(2, 2) has the distribution function 3 x**2 - 2 x**3, and beta(1/2, 1/2) the arc sine's.
    assert distance_from_uniform((b := random.beta("a", 2.0)) ** 2 * (3 - 2 * b)) < 1.95 / math.sqrt(MANY)
    assert distance_from_uniform(2 / np.pi * np.arcsin(np.sqrt(random.beta("a", 0.5)))) < 1.95 / math.sqrt(MANY)


def distance_from_uniform(values):
    ranks = np.arange(1, len(values) + 1) / len(values)
    return np.abs(np.sort(values) - ranks).max()


def test_random_numbers_of_other_seeds_epochs_places_and_names_are_others():
    base = rng(50).uniform("a")
    others = [
        rng(50, seed=4).uniform("a"),
        rng(50, epoch=1).uniform("a"),
        rng(50, number=1).uniform("a"),
        rng(50).uniform("b"),
        rng(50).uniform("a", 1)[:, 0],
    ]
    for other in others:
        assert not np.isclose(other, base).any()
    assert rng(9).uniform("a").tolist() == base[:9].tolist()


@given(groups=st.lists(st.integers(0, 9), min_size=1, max_size=5))
def test_partners_are_a_permutation_of_each_group(groups):
    random = Random(0, 0, 0, rows=np.arange(sum(groups)) + 5, groups=groups)
    partners, first = random.partners("a"), 0
    for count in groups:
        assert sorted(partners[first : first + count]) == list(range(first, first + count))
        alone = Random(0, 0, 0, rows=np.arange(first, first + count) + 5, groups=(count,))
        assert (alone.partners("a") + first).tolist() == partners[first : first + count].tolist()
        first += count


# One row at a time.


@pytest.mark.parametrize("dtype", ["uint8", "float32", "bool", "complex64", "int64"])
@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3)])
@pytest.mark.parametrize(("kind", "axis"), [(FlipLeftRight, 1), (FlipUpDown, 0)])
def test_flips(kind, axis, shape, dtype):
    values = images(40, dtype, shape)
    found = changed(kind(features=IMAGES), values)

    assert (found.dtype, found.shape) == (values.dtype, values.shape)
    flipped = rng(40).uniform("flip") < 0.5
    for row, before, flip in zip(found, values, flipped, strict=True):
        np.testing.assert_array_equal(row, np.flip(before, axis) if flip else before)
    np.testing.assert_array_equal(changed(kind(features=IMAGES, probability=0), values), values)
    np.testing.assert_array_equal(changed(kind(features=IMAGES, probability=1), values), np.flip(values, axis + 1))


@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_flips_come_as_often_as_they_should(probability):
    values = np.tile(np.array([[[0, 1]]], np.uint8), (MANY, 1, 1))
    rate = changed(FlipLeftRight(features=IMAGES, probability=probability), values)[:, 0, 0].mean()

    assert abs(rate - probability) < 4 * math.sqrt(probability * (1 - probability) / MANY)


def test_several_features_are_changed_alike():
    values = images(30)
    batch = {"a": values, "b": values[..., 0], "c": values}
    for kind in (FlipLeftRight(features=("a", "b")), RandomCrop(features=("a", "b"), size=(3, 3), padding=1)):
        found = kind({name: array.copy() for name, array in batch.items()}, rng(30))
        np.testing.assert_array_equal(found["a"][..., 0], found["b"])
        np.testing.assert_array_equal(found["c"], values)
        assert (found["a"].shape != values.shape) or (found["a"] != values).any()


@pytest.mark.parametrize("dtype", ["uint8", "float32", "complex64"])
@pytest.mark.parametrize(
    ("size", "padding", "shape"), [((3, 4), 0, (6, 5, 3)), ((6, 5), 2, (6, 5)), ((8, 7), 1, (6, 5))]
)
def test_crops(size, padding, shape, dtype):
    values = images(40, dtype, shape)
    found = changed(RandomCrop(features=IMAGES, size=size, padding=padding), values)

    assert (found.dtype, found.shape) == (values.dtype, (40, *size, *shape[2:]))
    assert found.flags.c_contiguous
    top, left = rng(40).uniform("top"), rng(40).uniform("left")
    for row, before, y, x in zip(found, values, top, left, strict=True):
        padded = np.zeros((6 + 2 * padding, 5 + 2 * padding, *shape[2:]), dtype)
        padded[padding : padding + 6, padding : padding + 5] = before
        y, x = int(y * (len(padded) - size[0] + 1)), int(x * (padded.shape[1] - size[1] + 1))
        np.testing.assert_array_equal(row, padded[y : y + size[0], x : x + size[1]])


def test_crops_come_from_everywhere_alike():
    values = np.tile(np.arange(20).reshape(1, 4, 5), (MANY, 1, 1))
    places = changed(RandomCrop(features=IMAGES, size=(1, 1)), values).ravel()
    counts = np.bincount(places, minlength=20)
    # The 99.9 % point of chi-square with 19 degrees.
    assert ((counts - MANY / 20) ** 2 / (MANY / 20)).sum() < 43.8


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "float16", "float32", "float64"])
def test_brightness_contrast_and_noise_are_their_formulas(dtype):
    values = images(30, dtype)
    wide = values.astype(np.float64)
    mean = wide.mean(axis=(1, 2), keepdims=True)
    factor = (0.5 + rng(30).uniform("factor")).reshape(-1, 1, 1, 1)
    expected = {
        Brightness(features=IMAGES, delta=90): wide + (180 * rng(30).uniform("delta") - 90).reshape(-1, 1, 1, 1),
        Contrast(features=IMAGES, low=0.5, high=1.5): mean + (wide - mean) * factor,
        Noise(features=IMAGES, deviation=40): wide + 40 * rng(30).normal("noise", 6, 5, 3).astype(np.float64),
    }
    for augmentation, want in expected.items():
        found = changed(augmentation, values)
        if values.dtype.kind in "iu":
            info = np.iinfo(dtype)
            assert want.min() < 0
            want = np.clip(want, info.min, info.max)
            assert np.abs(found - want).max() <= 0.501
        else:
            np.testing.assert_allclose(found, want, rtol=2e-3 if dtype == "float16" else 1e-4, atol=1e-3)
        assert (found.dtype, found.shape) == (values.dtype, values.shape)
        assert (found != values).mean() > 0.5


def test_the_ends_of_integers_are_not_passed():
    for dtype in ("int8", "uint8", "int32", "uint32", "int64", "uint64"):
        info = np.iinfo(dtype)
        delta = (info.max - info.min) // 4
        found = changed(Brightness(features=IMAGES, delta=delta), np.array([[info.min, info.max]] * 40, dtype))
        low, high = (np.array(column.tolist(), dtype=object) for column in found.T)
        assert (low <= info.min + delta + 1).all()
        assert (high >= info.max - delta - 1).all()
        assert 5 < (low == info.min).sum() < 35


def test_bands():
    values = images(MANY // 10, "float32", (2, 3, 9)) + 1
    found = changed(BandDropout(features=IMAGES, probability=0.25, value=-1), values)

    dropped = found == -1
    assert (dropped == dropped[:, :1, :1]).all()  # the same bands in all pixels
    np.testing.assert_array_equal(found[~dropped], values[~dropped])
    rates = dropped[:, 0, 0].mean(axis=0)
    assert np.abs(rates - 0.25).max() < 4.5 * math.sqrt(0.25 * 0.75 / len(values))
    assert np.abs(np.corrcoef(dropped[:, 0, 0].T.astype(float)) - np.eye(9)).max() < 5 / math.sqrt(len(values))
    assert changed(BandDropout(features=IMAGES), np.ones((40, 5), np.uint16)).dtype == np.uint16


# Two rows.


def one_hot(labels, classes=4):
    return (labels[:, None] == np.arange(classes)).astype(np.float32)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("labels", ["integers", "one-hot", "values"])
def test_mixup(dtype, labels):
    values, classes = images(30, dtype), np.arange(30) % 4
    given = {"integers": classes, "one-hot": one_hot(classes), "values": np.arange(30.0)}[labels]
    want = one_hot(classes) if labels == "integers" else given
    mixup = MixUp(features=IMAGES, labels="y", alpha=0.4, classes=4 if labels == "integers" else None)

    found = mixup({IMAGES: values.copy(), "y": given.copy()}, rng(30))

    share, partners = rng(30).beta("share", 0.4), rng(30).partners("partners")
    assert sorted(partners) == list(range(30))
    for row in range(30):
        image = share[row] * values[row] + (1 - share[row]) * values[partners[row]].astype(np.float64)
        assert np.abs(found[IMAGES][row] - image).max() <= (0.501 if dtype == "uint8" else 1e-4)
        np.testing.assert_allclose(
            found["y"][row], share[row] * want[row] + (1 - share[row]) * want[partners[row]], rtol=1e-5, atol=1e-6
        )
    assert found[IMAGES].dtype == values.dtype
    assert found["y"].dtype == want.dtype


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_cutmix(alpha):
    values, labels = np.broadcast_to(np.arange(50).reshape(-1, 1, 1), (50, 8, 6)).astype(np.uint8), np.eye(50)
    found = CutMix(features=IMAGES, labels="y", alpha=alpha)({IMAGES: values, "y": labels}, rng(50))

    partners, seen = rng(50).partners("partners"), set()
    for row in range(50):
        other = found[IMAGES][row] != row
        inside = np.outer(other.any(axis=1), other.any(axis=0))
        np.testing.assert_array_equal(other, inside)  # a rectangle
        assert set(found[IMAGES][row][other]) <= {partners[row]}
        want = np.zeros(50)
        want[row] += 1 - other.mean()
        want[partners[row]] += other.mean()
        np.testing.assert_allclose(found["y"][row], want, atol=1e-12)
        seen.add(int(other.sum()))
    assert len(seen) > 8
    assert found[IMAGES].dtype == np.uint8


def test_the_areas_of_cutmix_are_those_of_the_paper():
    # Of boxes that are not cut off, with alpha 1: the share of the area is uniform.
    values, size = np.zeros((MANY, 32, 32), np.uint8), 32
    values[MANY // 2 :] = 1
    batch = {IMAGES: values, "y": np.repeat([0.0, 1.0], MANY // 2)}
    found = CutMix(features=IMAGES, labels="y")(batch, rng())
    side = np.sqrt(1 - rng().beta("share", 1.0))
    middle = np.floor(rng().uniform("top") * size), np.floor(rng().uniform("left") * size)
    whole = np.all([(m - side * size / 2 >= 1) & (m + side * size / 2 <= size - 1) for m in middle], axis=0)
    differs = rng().partners("partners") // (MANY // 2) != np.arange(MANY) // (MANY // 2)
    kept = whole & differs
    area = (found[IMAGES] != values)[kept].mean(axis=(1, 2))

    assert kept.sum() > 1000
    assert np.abs(area - np.floor(side[kept] * size) ** 2 / size**2).max() < 1e-12


# In a loader.


@pytest.fixture
def root(tmp_path, monkeypatch):
    return write_images(tmp_path, monkeypatch)


def write_images(directory, monkeypatch):
    """53 images in four shards, one of them empty, in small chunks and windows."""
    small_chunks(monkeypatch, chunk_bytes=700, window_bytes=900)
    parts, first = [], 0
    for count in (20, 0, 30, 3):
        values = images(count, shape=(4, 4, 2), seed=count)
        labels = one_hot(np.arange(first, first + count) % 4)
        parts.append({IMAGES: values, "n": np.arange(first, first + count, dtype=np.int32), "labels": labels})
        first += count
    features = shards.specs(parts[0], {"labels": "label"})
    shards.write(directory / "out", {"train": parts}, rows_per_record=3, features=features)
    return directory / "out"


def darker(batch, random):
    return batch | {IMAGES: (batch[IMAGES] * random.uniform("mine")[:, None, None, None]).astype(np.float32)}


SINGLE = (
    FlipLeftRight(features=IMAGES),
    RandomCrop(features=IMAGES, size=(3, 3), padding=1),
    Brightness(features=IMAGES, delta=20),
    Contrast(features=IMAGES),
    Noise(features=IMAGES, deviation=5),
    BandDropout(features=IMAGES),
    darker,
)
PAIRS = (
    FlipUpDown(features=IMAGES),
    MixUp(features=IMAGES, labels="labels"),
    CutMix(features=IMAGES, labels="labels"),
)


def by_row(batches):
    """The images of each row, by epoch."""
    result = {}
    for batch in batches:
        for place, n in enumerate(batch["n"].tolist()):
            if "mask" not in batch or batch["mask"][place]:
                result.setdefault(n, []).append((batch[IMAGES][place].tolist(), batch["labels"][place].tolist()))
    return result


def test_neither_batch_size_nor_order_changes_a_row(root):
    def load(split="train", **options):
        return by_row(Loader(root, split, **{"batch_size": 7, "seed": 5, "epochs": 2, "augment": SINGLE} | options))

    whole = load()
    assert len(whole) == 53
    assert all(first != second for first, second in whole.values())
    assert load(batch_size=20) == load(batch_size=1) == load(remainder="pad") == whole
    assert load(batch_size=8, streams=4) == load(shuffle=False) == load(prefetch=0) == whole
    part = load("train[30:40]")
    assert part == {row: whole[row] for row in range(30, 40)}
    other = load(seed=6)
    assert not any(other[row][0] == whole[row][0] for row in range(53))


@pytest.mark.parametrize("augment", [SINGLE, PAIRS], ids=["single", "pairs"])
@pytest.mark.parametrize("remainder", ["keep", "drop", "pad"])
def test_resuming_anywhere_gives_the_same_batches(root, augment, remainder):
    options = {"batch_size": 8, "streams": 2, "seed": 5, "epochs": 2, "augment": augment, "remainder": remainder}
    whole = list(Loader(root, "train", **options))
    loader = Loader(root, "train", **options)
    for step, _ in enumerate(loader):
        restored = Loader(root, "train", **options)
        restored.load_state_dict(loader.state_dict())
        assert_same(restored, whole[step + 1 :])


@settings(max_examples=8)
@given(hosts=st.sampled_from([1, 2, 3, 6]), per_stream=st.integers(1, 4), pairs=st.booleans(), steps=st.integers(0, 3))
def test_hosts_get_what_one_host_gets(tmp_path_factory, hosts, per_stream, pairs, steps):
    with pytest.MonkeyPatch.context() as patch:
        out = write_images(tmp_path_factory.mktemp("data"), patch)

        def load(index, count, state=None):
            shard = ShardOptions(index=index, count=count)
            loader = Loader(
                out,
                "train",
                batch_size=6 * per_stream,
                streams=6,
                shard=shard,
                remainder="pad",
                augment=PAIRS if pairs else SINGLE,
            )
            if state:
                loader.load_state_dict(state)
            return loader

        alone = load(0, 1)
        iterator = iter(alone)
        for _ in range(steps):
            next(iterator, None)
        state = alone.state_dict()
        whole = by_row(iterator)
        shares = [list(load(index, hosts, state)) for index in range(hosts)]
    found = {row: values for share in shares for row, values in by_row(share).items()}
    assert found == whole
    # Also where a host has padding alone, every batch has one shape.
    assert len({tuple((name, batch[name].shape) for name in sorted(batch)) for s in shares for batch in s}) <= 1


def test_rows_that_pad_a_batch_stay_zero_and_take_no_part(root):
    *_, kept = Loader(root, "train", batch_size=10, augment=(*PAIRS, Noise(features=IMAGES, deviation=9)))
    *_, padded = Loader(
        root, "train", batch_size=10, remainder="pad", augment=(*PAIRS, Noise(features=IMAGES, deviation=9))
    )

    assert padded.pop("mask").tolist() == [True] * 3 + [False] * 7
    assert not any(values[3:].any() for values in padded.values())
    assert_same_batch({name: values[:3] for name, values in padded.items()}, kept)


def test_what_a_function_gives_is_what_comes(root):
    def negative(batch, random):
        assert len(random) == len(batch["n"])
        return {
            "labels": batch["labels"],
            IMAGES: -batch[IMAGES].astype(np.int16),
            "n": batch["n"],
            "n2": 2 * batch["n"],
        }

    (plain,) = Loader(root, "train", batch_size=53)
    (found,) = Loader(root, "train", batch_size=53, augment=[negative])
    assert_same_batch(found, negative(plain, rng(53)))
    (inputs, labels) = next(iter(Loader(root, "train", batch_size=53, augment=[negative], as_supervised=True)))
    np.testing.assert_array_equal(inputs[IMAGES], found[IMAGES])
    np.testing.assert_array_equal(labels, found["labels"])


def test_a_loader_with_augmentations_can_be_pickled(root):
    loader = Loader(root, "train", batch_size=7, augment=(*SINGLE, *PAIRS[:1]))
    iterator = iter(loader)
    next(iterator)

    assert_same(pickle.loads(pickle.dumps(loader)), iterator)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: FlipLeftRight(features="x"),
            "augment: FlipLeftRight: expected a feature of images, labels, n; found 'x'",
        ),
        (lambda: FlipUpDown(features="n"), r"FlipUpDown: expected images of shape .*; found int32 of shape \(10,\)"),
        (lambda: RandomCrop(features=IMAGES, size=(5, 4)), "expected images of at least 5 x 4 with a padding of 0"),
        (lambda: BandDropout(features="n"), r"expected numbers of shape \[rows, ..., bands\]; found int32"),
        (lambda: MixUp(features=IMAGES, labels="n"), "MixUp: expected floats as n, or numbers with `classes`; found"),
        (lambda: MixUp(features=IMAGES, labels="n", classes=4), "expected classes of 0 to 3 as n; found int32"),
        (lambda: CutMix(features=("images", "labels"), labels="n"), "CutMix: expected images of shape"),
        (lambda: lambda batch, rng: None, "augment: <function .*: expected a dict of arrays of 10 rows; found None"),
        (lambda: lambda batch, rng: {"x": batch["n"][1:]}, r"expected a dict of arrays of 10 rows; found .*\(9,\)"),
        (lambda: FlipUpDown(features=IMAGES, probability=2), r"FlipUpDown: probability is in \[0, 1\]; found 2"),
        (lambda: BandDropout(features=IMAGES, probability=-1), r"probability is in \[0, 1\]; found -1"),
        (lambda: RandomCrop(features=IMAGES, size=(0, 3)), "RandomCrop: size is two numbers of at least 1"),
        (lambda: RandomCrop(features=IMAGES, size=(1, 3), padding=-1), "padding at least 0; found"),
        (lambda: Contrast(features=IMAGES, low=2, high=1), "Contrast: expected 0 <= low <= high; found 2 and 1"),
        (lambda: Noise(features=IMAGES, deviation=-1), "Noise: deviation is at least 0; found -1"),
        (lambda: MixUp(features=IMAGES, labels="n", alpha=0), "MixUp: alpha is above 0; found 0"),
    ],
)
def test_errors_say_what_was_expected(root, make, message):
    with pytest.raises(ValueError, match=message):
        list(Loader(root, "train", batch_size=10, augment=[make()]))


def test_strings_are_no_numbers():
    values = np.full((3, 4, 4), b"", dtype=object)
    for augmentation in (
        RandomCrop(features=IMAGES, size=(2, 2)),
        Brightness(features=IMAGES, delta=1),
        BandDropout(features=IMAGES),
    ):
        with pytest.raises(ValueError, match=f"{type(augmentation).__name__}: expected .*; found object of shape"):
            apply([augmentation], {IMAGES: values}, seed=0, epoch=0, rows=np.arange(3), groups=(3,))


@pytest.mark.slow
def test_the_script_of_the_page_resumes(tmp_path):
    script = scripts.script("augmented")
    whole = scripts.run(script, tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    assert float(whole.stdout.removeprefix("accuracy ")) > 0.95
    for batches in (40, 30):  # of 72
        killed = scripts.run(scripts.KILL.format(batches=batches) + script, tmp_path / "killed")
        assert killed.returncode == 9, killed.stderr
    resumed = scripts.run(script, tmp_path / "killed")

    assert resumed.returncode == 0, resumed.stderr
    found = [np.load(tmp_path / run / "augmented.npz")["weights"] for run in ("whole", "killed")]
    assert found[0].tobytes() == found[1].tobytes()
