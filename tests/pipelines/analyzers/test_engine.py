"""The stages of an analyzer, and analyzers in pipelines of tf.transform that know nothing of npyflow."""

import math
import pickle
import tempfile

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from tensorflow_transform.beam import analyzer_cache

from pipelines import analyzers as npa
from pipelines.analyzers import engine
from pipelines.statistics.passes import Pass, Subject
from pipelines.statistics.summary import ColumnMoments
from tests.support.eagerly import analyzing
from tests.support.transforming import Storable, adapter_config, as_tensors, batches_of, transform

ROWS = 200


def columns():
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (ROWS, 3)).astype(np.float32)
    x[rng.random(x.shape) < 0.2] = math.nan
    word = np.array([b"ash", b"beech", b"cedar"])[rng.integers(0, 3, ROWS)]
    return {"x": x, "site": rng.integers(0, 4, ROWS), "word": word}


def everything(inputs):
    x, site, wide = inputs["x"], inputs["site"], {"dtype": tf.float64}
    filled = npa.impute(x, "median", **wide)
    scaled = npa.scale_to_z_score({"raw": x, "filled": filled}, **wide)
    moments = npa.moments(x, over="all")
    return {
        "filled": filled,
        **scaled,
        "of_site": npa.scale_to_z_score(x, by=site, **wide),
        "of_word": npa.mean(x, by=inputs["word"]),
        "mean": moments.mean,
        "count": moments.count,
        "word": npa.vocabulary(inputs["word"]),
        "bucket": npa.bucketize(x, 4),
        "expected": npa.impute(x, "regression"),
        "rank": npa.quantile_transform(x, "normal", **wide),
        "white": npa.whiten(filled, 2),
        "absent": npa.missing_indicator(x),
        "most": npa.most_frequent(site),
        "values": tf.reduce_sum(npa.frequencies(site)[1]),
    }


@pytest.fixture
def expected():
    with analyzing(cuts=(17, 90)):
        return {name: tensor.numpy() for name, tensor in everything(as_tensors(columns())).items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cuts", "options"),
    [((), ()), ((17, 90), ("--direct_num_workers=2", "--direct_running_mode=multi_threading"))],
)
def test_in_a_pipeline_of_tf_transform(expected, cuts, options):
    found = transform(everything, columns(), cuts=cuts, options=options)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], np.broadcast_to(array, found[name].shape), err_msg=name)
        assert found[name].dtype == array.dtype


def scale(inputs):
    return {"z": npa.scale_to_z_score(inputs["x"], dtype=tf.float64), "m": npa.median(inputs["x"])}


def analyze_with_cache(datasets, cache, directory):
    """Analyzes some datasets with what is known of them; the transform, and what is known now."""
    adapter, storable = adapter_config(columns()), Storable(scale)
    with (
        tft_beam.Context(temp_dir=f"{directory}/analysis"),
        beam.Pipeline(runner=FnApiRunner()) as pipeline,
    ):
        keys = {name: analyzer_cache.DatasetKey(name) for name in datasets}
        read = {
            keys[name]: pipeline | name >> beam.Create(batches_of(rows, (), adapter.arrow_schema))
            for name, rows in datasets.items()
        }
        known = pipeline | analyzer_cache.ReadAnalysisCacheFromFS(cache, list(keys.values()))
        learned, found = (read, known, adapter) | tft_beam.AnalyzeDatasetWithCache(storable, pipeline=pipeline)
        _ = found | analyzer_cache.WriteAnalysisCacheToFS(pipeline, cache)
        _ = learned | tft_beam.WriteTransformFn(f"{directory}/out")
    layer = tft.TFTransformOutput(f"{directory}/out").transform_features_layer()
    found = layer(as_tensors(columns()))
    return storable.back({name: tensor.numpy() for name, tensor in found.items()})


@pytest.mark.slow
def test_accumulators_are_cached(monkeypatch, tmp_path):
    """What was accumulated of a dataset is taken from the cache by a later analysis of it and of another."""
    rows = columns()
    first, second = ({name: array[part] for name, array in rows.items()} for part in (slice(120), slice(120, None)))
    seen = tmp_path / "seen"
    whole = engine.accumulate

    def counting(batch, one):
        batch = tuple(batch)
        with open(seen, "a") as file:
            file.write(f"{one.number} {len(batch[0])}\n")
        return whole(batch, one)

    monkeypatch.setattr(engine, "accumulate", counting)
    with analyzing():
        expected = {name: tensor.numpy() for name, tensor in scale(as_tensors(rows)).items()}
    for round_ in range(2):
        seen.write_text("")
        datasets = {"a": first} if round_ == 0 else {"a": first, "b": second}
        found = analyze_with_cache(datasets, str(tmp_path / "cache"), str(tmp_path / str(round_)))
        firsts = sorted(line for line in seen.read_text().splitlines() if line.startswith("0 "))
        assert firsts == (["0 120"] * 2 if round_ == 0 else ["0 80"] * 2)  # two analyzers in the first phase
    np.testing.assert_array_equal(found["z"], expected["z"])
    np.testing.assert_array_equal(found["m"], np.broadcast_to(expected["m"], found["m"].shape))


def subject(over="element"):
    return Subject(
        label="x",
        dtype="float32",
        shape=(3,),
        estimator=ColumnMoments(over=over),
        finish=dict,
        outputs=(("mean", False, (3,)),),
    )


def test_a_stage_is_known_by_what_it_computes():
    """tf.transform knows cached accumulators by it."""
    stage, same, other = (engine.Stage("merge", Pass((subject(over),), 0)) for over in ("element", "element", "all"))
    assert repr(stage) == repr(same)
    assert repr(stage) != repr(other)
    assert " at 0x" not in repr(stage)


def test_the_cache_holds_accumulators_and_nothing_else():
    added = engine.accumulate((columns()["x"],), Pass((subject(),), 0))
    back = engine.CacheCoder().decode_cache(engine.CacheCoder().encode_cache(added))
    once, twice = (engine.extract(one, Pass((subject(),), 0)) for one in (added, back))
    np.testing.assert_array_equal(once, twice)
    for value in (tempfile.mkdtemp, print, pickle.Pickler):
        with pytest.raises(pickle.UnpicklingError, match="expected accumulators"):
            engine.CacheCoder().decode_cache(pickle.dumps(value))


def test_no_batch_at_all_is_no_row():
    found = engine.extract(None, Pass((subject(),), 0))
    assert np.isnan(found[1:].view(np.float64)).all()
