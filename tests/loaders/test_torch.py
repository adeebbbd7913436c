"""PyTorch: the same batches in the same order, whatever workers read them."""

import itertools
import pickle

import numpy as np
import pytest

from loaders.numpy import Loader as NumpyLoader
from loaders.order.state import StateError
from loaders.sampling.weighted import WeightedLoader
from tests.support import ragged, scripts
from tests.support.bits import any_bits
from tests.support.numbered import small_chunks, write_numbered

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader  # noqa: E402 - after the check that it is there

from loaders.torch import Loader, ShardOptions, tensors  # noqa: E402

pytestmark = [
    pytest.mark.slow,  # scripts/test.sh installs no PyTorch, .ci/run does
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),
    # TensorFlow's threads are not used here, and a child that was forked does not touch them.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


@pytest.fixture
def root(tmp_path, monkeypatch):
    small_chunks(monkeypatch, chunk_bytes=300, window_bytes=200)
    write_numbered(tmp_path / "out", [20, 0, 30, 3], rows_per_record=4)
    return tmp_path / "out"


def rows_of(batches):
    return [batch["n"].tolist() for batch in batches]


def expected(root, **options):
    return rows_of(NumpyLoader(root, "train", batch_size=7, **options))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "int64", "float16", "float32", "float64", "complex64"])
def test_tensors_share_memory(dtype):
    array = any_bits(dtype, (3, 2))
    array = np.nan_to_num(array) if array.dtype.kind in "fc" else array

    (found,) = tensors((array,))

    assert found.numpy().dtype == array.dtype
    assert np.shares_memory(found.numpy(), array)
    np.testing.assert_array_equal(torch.from_dlpack(found.clone()).numpy(), array)


def test_strings_and_ragged_rows(tmp_path):
    ragged.write(tmp_path / "out", [ragged.lengths_of(9)])
    (plain,) = NumpyLoader(tmp_path / "out", "train", batch_size=9)
    (batch,) = DataLoader(Loader(tmp_path / "out", "train", batch_size=9), batch_size=None)

    assert batch["s"] == plain["s"].tolist()
    assert isinstance(batch["s"][0][0], bytes)
    np.testing.assert_array_equal(batch["v"].numpy(), plain["v"])
    np.testing.assert_array_equal(batch["v_length"].numpy(), plain["v_length"])


@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (1, False), (3, False), (1, True), (3, True)])
def test_workers_change_no_batch_and_passes_go_on(root, workers, persistent):
    whole = expected(root, epochs=6)
    loaded = DataLoader(
        Loader(root, "train", batch_size=7, epochs=2),
        batch_size=None,
        num_workers=workers,
        persistent_workers=persistent,
    )

    assert len(loaded) == 16
    assert rows_of(loaded) + rows_of(loaded) + rows_of(loaded) == whole


@pytest.mark.parametrize("persistent", [False, True])
def test_a_pass_that_was_left_counts(root, persistent):
    loaded = DataLoader(
        Loader(root, "train", batch_size=7), batch_size=None, num_workers=2, persistent_workers=persistent
    )
    next(iter(loaded))

    assert rows_of(loaded) == expected(root, epochs=2)[8:]


def test_spawned_workers(root):
    # They import the package anew, so chunks and windows have their full size.
    loader = Loader(root, "train", batch_size=7, shuffle=False)
    loaded = DataLoader(loader, batch_size=None, num_workers=2, multiprocessing_context="spawn")

    assert rows_of(loaded) == expected(root, shuffle=False)
    assert rows_of(pickle.loads(pickle.dumps(loader))) == expected(root, shuffle=False)


def test_hosts_and_workers_share_every_batch(root):
    def load(index):
        loader = Loader(
            root, "train", batch_size=8, streams=4, remainder="pad", shard=ShardOptions(index=index, count=2)
        )
        return list(DataLoader(loader, batch_size=None, num_workers=2))

    seen = [
        n
        for first, second in zip(load(0), load(1), strict=True)
        for batch in (first, second)
        for n in batch["n"][batch["mask"]].tolist()
    ]

    assert sorted(seen) == [n - 1_000_000 for n in range(53)]


def test_a_plain_state_before_workers_begin(root):
    plain = NumpyLoader(root, "train", batch_size=7)
    for _ in itertools.islice(iter(plain), 3):
        pass
    loader = Loader(root, "train", batch_size=7)
    loader.load_state_dict(plain.state_dict())
    assert loader.state_dict() == plain.state_dict()
    loaded = DataLoader(loader, batch_size=None, num_workers=2)

    assert rows_of(loaded) == expected(root)[3:]
    assert rows_of(loaded) == expected(root, epochs=2)[8:]
    loader.load_state_dict(plain.state_dict())
    assert rows_of(loaded) == expected(root)[3:]


@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
def test_a_state_at_every_step_of_a_stateful_data_loader(root, workers, persistent):
    stateful = pytest.importorskip("torchdata.stateful_dataloader")

    def make():
        return stateful.StatefulDataLoader(
            Loader(root, "train", batch_size=14), batch_size=None, num_workers=workers, persistent_workers=persistent
        )

    whole = rows_of(NumpyLoader(root, "train", batch_size=14, epochs=2))
    for step in range(5):
        loaded = make()
        head = list(itertools.islice(iter(loaded), step))
        restored = make()
        restored.load_state_dict(loaded.state_dict())
        assert rows_of(head) + rows_of(restored) == whole[:4]
        assert rows_of(restored) == whole[4:]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_batches_are_refused(root, workers):
    loader = Loader(root, "train", batch_size=7)
    for options in ({}, {"batch_size": 4}):
        with pytest.raises(ValueError, match=r"DataLoader\(loader, batch_size=None, num_workers=\.\.\.\)"):
            next(iter(DataLoader(loader, num_workers=workers, **options)))
    chained = torch.utils.data.ChainDataset([loader])
    with pytest.raises(ValueError, match="batch_size of DataLoader: expected None"):
        next(iter(DataLoader(chained)))

    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            return next(iter(loader))["n"]

    assert next(iter(DataLoader(Rows()))).shape == (1, 7)  # its own batches, each of which is one element
    assert rows_of(DataLoader(loader, batch_size=None)) == expected(root, epochs=2)[8:]


@pytest.fixture
def two_ranks():
    fake = pytest.importorskip("torch.testing._internal.distributed.fake_pg")
    torch.distributed.init_process_group("fake", store=fake.FakeStore(), rank=1, world_size=2)
    yield
    torch.distributed.destroy_process_group()


def test_a_forgotten_shard_is_refused(root, request):
    early = [kind(root, "train", batch_size=8) for kind in (Loader, NumpyLoader)]
    request.getfixturevalue("two_ranks")

    for loader in early:
        with pytest.raises(
            ValueError, match=r"shard: expected which of the 2 processes of torch this one is.*from_torch"
        ):
            iter(loader) if isinstance(loader, Loader) else next(iter(loader))
    with pytest.raises(ValueError, match="shard: expected"):  # its workers would not know
        next(iter(DataLoader(early[0], batch_size=None, num_workers=1, multiprocessing_context="spawn")))
    with pytest.raises(ValueError, match="shard: expected"):
        Loader(root, "train", batch_size=8)
    with pytest.raises(ValueError, match="shard: expected"):
        WeightedLoader(root, "train", weights=np.ones(53), batch_size=8)
    own = Loader(root, "train", batch_size=8, streams=2, remainder="pad", shard=ShardOptions.from_torch())
    assert {len(batch["n"]) for batch in own} == {4}
    assert len(rows_of(Loader(root, "train", batch_size=8, shard=ShardOptions()))) == 7


def test_another_number_of_workers_is_refused(root):
    loader = Loader(root, "train", batch_size=7)
    with pytest.raises(StateError, match="expected a state, with streams 1; found streams 2"):
        loader.load_state_dict(loader.state_dict() | {"streams": 2})
    loader.load_state_dict({"loader": loader.state_dict(), "workers": 3, "yielded": 1})
    with pytest.raises(ValueError, match="expected a state of 2 workers; found one of 3"):
        list(DataLoader(loader, batch_size=None, num_workers=2))
    with pytest.raises(ValueError, match="expected a state of no workers; found one of 3"):
        iter(loader)


def test_the_script_of_slow_functions(tmp_path):
    done = scripts.run(scripts.script("workers"), tmp_path / "run")

    assert done.returncode == 0, done.stderr
    assert done.stdout == "processes 2 False\n"
