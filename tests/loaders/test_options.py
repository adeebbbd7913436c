"""One set of options: the same for every loader, shown by `help`, and checked by name."""

import dataclasses
import inspect
import sys
import types

import pytest

import loaders
from loaders import Loader, ShardOptions
from loaders import numpy as numpy_loader
from loaders.options import Keywords, Options, TensorFlowKeywords, TensorFlowOptions
from loaders.order.epoch import ShardOptions as Shard
from tests.support.numbered import write_numbered

DOORS = pytest.mark.parametrize("door", [loaders.load, Loader, numpy_loader.Loader])


def doors():
    found = {loaders.load: TensorFlowOptions, Loader: TensorFlowOptions, numpy_loader.Loader: Options}
    found[loaders.DataSet.load] = TensorFlowOptions
    for name in ("torch", "jax"):
        if name in dir(loaders):
            found[getattr(loaders, name).Loader] = Options
    return found


@pytest.mark.parametrize(("door", "options"), doors().items())
def test_all_options_are_shown_and_described(door, options):
    shown, fields = inspect.signature(door).parameters, {field.name: field for field in dataclasses.fields(options)}

    assert {name for name, parameter in shown.items() if parameter.kind is parameter.KEYWORD_ONLY} >= set(fields)
    assert not any(parameter.kind is parameter.VAR_KEYWORD for parameter in shown.values())
    for name, field in fields.items():
        default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
        assert shown[name].default == default
        if door is not loaders.DataSet.load:  # which says where they are described
            assert f"    {name}: " in inspect.getdoc(door)
    assert "{options}" not in inspect.getdoc(door)


@pytest.mark.parametrize(("options", "keywords"), [(Options, Keywords), (TensorFlowOptions, TensorFlowKeywords)])
def test_type_checkers_know_the_same_keywords(options, keywords):
    assert set(keywords.__annotations__) == {field.name for field in dataclasses.fields(options)}


@DOORS
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch_size": "32"}, TypeError, "batch_size is an integer; found '32'"),
        ({"batch_size": 2.0}, TypeError, r"batch_size is an integer; found 2\.0"),
        ({"batch_size": True}, TypeError, "batch_size is an integer; found True"),
        ({"seed": None}, TypeError, "seed is an integer; found None"),
        ({"streams": "2"}, TypeError, "streams is an integer; found '2'"),
        ({"prefetch": None}, TypeError, "prefetch is an integer; found None"),
        ({"epochs": "2"}, TypeError, "epochs is an integer or None; found '2'"),
        ({"cache_bytes": 0.5}, TypeError, r"cache_bytes is an integer or None; found 0\.5"),
        ({"shuffle": "no"}, TypeError, "shuffle is True or False or 'global'; found 'no'"),
        ({"as_supervised": 1}, TypeError, "as_supervised is True or False; found 1"),
        ({"in_memory": None}, TypeError, "in_memory is True or False; found None"),
        ({"shard": (0, 2)}, TypeError, r"shard is a loaders.ShardOptions, or None; found \(0, 2\)"),
        ({"augment": len}, TypeError, "augment is a list of functions; found <built-in function len>"),
        ({"augment": ["flip"]}, TypeError, r"augment is a list of functions; found \['flip'\]"),
        ({"augment": None}, TypeError, "augment is a list of functions; found None"),
        ({"features": "n"}, TypeError, "features is a list of names of features or None; found 'n'"),
        ({"features": 3}, TypeError, "features is a list of names of features or None; found 3"),
        ({"cache_dir": 3}, TypeError, "cache_dir is a path, or None; found 3"),
        ({"cache_dir": ""}, TypeError, "cache_dir is a path, or None; found ''"),
        (
            {"split": None},
            TypeError,
            r"split is the name of a split, or rows of it such as 'train\[:10%\]'; found None",
        ),
        ({"remainder": "fill"}, ValueError, "remainder is one of keep, drop, pad; found 'fill'"),
        ({"on_corrupt": "warn"}, ValueError, "on_corrupt is one of error, skip; found 'warn'"),
        ({"epoch": 2}, TypeError, "unexpected keyword argument 'epoch'"),
    ],
)
def test_wrong_options_are_named(root, door, options, error, message):
    with pytest.raises(error, match=message):
        door(root, **{"split": "train", "batch_size": 10} | options)


@pytest.mark.parametrize("shard", [{"index": "0"}, {"index": None}, {"count": 2.0}, {"index": True, "count": 2}])
def test_hosts_are_numbered_by_integers(shard):
    with pytest.raises(TypeError, match=f"shard: (index|count) is an integer; found {next(iter(shard.values()))!r}"):
        ShardOptions(**shard)


@pytest.mark.parametrize("door", [loaders.load, Loader])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"transform": "no"}, TypeError, "transform is True or False; found 'no'"),
        ({"map_fn": "double"}, TypeError, "map_fn is a function, or None; found 'double'"),
        ({"bucket_boundaries": 3}, TypeError, "bucket_boundaries is a list of lengths or None; found 3"),
        ({"bucket_boundaries": "3"}, TypeError, "bucket_boundaries is a list of lengths or None; found '3'"),
        ({"bucket_boundaries": [2.5]}, TypeError, r"bucket_boundaries: each is an integer; found 2\.5"),
        ({"device": 0}, TypeError, "device is a name, or None; found 0"),
        ({"device": "GPU:7"}, ValueError, r"device is one of /cpu:0.*, 'auto', or None; found 'GPU:7'"),
        ({"device": "nowhere"}, ValueError, r"device is one of /cpu:0.*; found 'nowhere'"),
    ],
)
def test_wrong_options_of_tensors_are_named(root, door, options, error, message):
    with pytest.raises(error, match=message):
        door(root, "train", batch_size=10, **options)


def test_load_takes_what_a_loader_takes(root):
    options = {"batch_size": 8, "streams": 4, "shard": ShardOptions(index=1, count=2), "remainder": "pad"}
    loaded = loaders.load(root, "train", features=["n"], **options)
    expected = list(numpy_loader.Loader(root, "train", features=["n"], **options))

    assert int(loaded.map(lambda batch: batch).cardinality()) == len(expected)
    for found, batch in zip(loaded, expected, strict=True):
        assert set(found) == set(batch) == {"n", "mask"}
        assert found["n"].numpy().tolist() == batch["n"].tolist()


def test_buckets_are_of_data_sets_alone(ragged_root):
    options = {"batch_size": 4, "bucket_boundaries": [3], "bucket_by": "v"}
    with pytest.raises(ValueError, match=r"bucket_boundaries: expected a loop over dataset\(\)"):
        next(iter(Loader(ragged_root, "train", **options)))
    with pytest.raises(ValueError, match=r"bucket_boundaries expects one stream, no padded batches.*; found streams=2"):
        Loader(ragged_root, "train", streams=2, **options)
    assert sum(len(batch["n"]) for batch in Loader(ragged_root, "train", **options).dataset()) == 53


def test_arrays_can_be_kept_in_memory(root):
    whole = [batch["n"].tolist() for batch in numpy_loader.Loader(root, "train", batch_size=7, epochs=3)]
    loader = numpy_loader.Loader(root, "train", batch_size=7, epochs=2, in_memory=True)
    iterator = iter(loader)
    found = [next(iterator)["n"].tolist()]
    for path in (root / "train").iterdir():
        path.unlink()

    found += [batch["n"].tolist() for batch in iterator]
    found += [batch["n"].tolist() for batch in loader]
    assert found[: len(whole)] == whole


def test_shards_of_the_processes_of_frameworks(monkeypatch):
    jax = types.SimpleNamespace(process_index=lambda: 2, process_count=lambda: 4)
    monkeypatch.setitem(sys.modules, "jax", jax)
    assert Shard.from_jax() == Shard(index=2, count=4)

    begun = types.SimpleNamespace(
        is_available=lambda: True, is_initialized=lambda: True, get_rank=lambda: 1, get_world_size=lambda: 3
    )
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(distributed=begun))
    assert Shard.from_torch() == Shard(index=1, count=3)
    begun.is_initialized = lambda: False
    assert Shard.from_torch() == Shard()

    context = types.SimpleNamespace(input_pipeline_id=1, num_input_pipelines=2)
    assert Shard.from_tensorflow(context) == Shard(index=1, count=2)


@DOORS
def test_several_hosts_make_as_many_batches(tmp_path, door):
    """Of 5 rows in 2 streams one host would have a batch more than the other."""
    write_numbered(tmp_path / "out", [5], rows_per_record=1)
    shards = [ShardOptions(index=index, count=2) for index in range(2)]
    with pytest.raises(ValueError, match=r"remainder is 'drop' or 'pad' where 2 hosts share batches: .*; found 'keep'"):
        door(tmp_path / "out", "train", batch_size=2, streams=2, shard=shards[0])
    for remainder, count in (("drop", 2), ("pad", 3)):
        options = {"batch_size": 2, "streams": 2, "remainder": remainder}
        assert [len(list(door(tmp_path / "out", "train", shard=shard, **options))) for shard in shards] == [count] * 2
