"""What a build on Dataflow would be charged for, and the sum by a table of prices."""

import dataclasses

import numpy as np
import pytest

from pipelines.cli.main import main
from pipelines.config.schema import parse_config
from pipelines.errors import ConfigError
from pipelines.forecast.estimate import seconds
from pipelines.forecast.money import DEFAULT, read_prices, usage
from pipelines.plan.plan import make_plan
from pipelines.plan.resolve import resolve_config
from pipelines.sources.table import scan
from tests.support.arrays import write_files
from tests.support.calibrations import MEASURED

TABLE = """
region: europe-west4
date: 2026-11-01
currency: EUR
vcpu_hour: 1
memory_gb_hour: 0.25
shuffle_gb: 1000
"""


@pytest.fixture
def plan(tmp_path):
    config = parse_config({"shard_bytes": 100_000})
    table = scan(write_files(tmp_path / "src", {"x.npy": np.zeros((20_000, 8), np.float32)}), config)
    return make_plan(table, resolve_config(config, table))


def test_workers_are_paid_for_all_the_time_and_sums_are_shuffled(plan):
    for workers in (1, 3):
        found = usage(plan, MEASURED, workers=workers)
        hours = workers * seconds(plan, MEASURED, workers=workers, forked=False).total / 3600
        assert found.vcpu_hours == pytest.approx(hours)
        assert found.memory_gb_hours == pytest.approx(4 * hours)
    sums = len(plan.training_units.runs()) * 50_000
    assert found.shuffle_gb == pytest.approx((sums + 1000 * plan.task_count) / 2**30)
    for gigabytes, cores, memory in ((5, 1, 8), (20, 3, 24)):  # with what a system needs beside it
        large = dataclasses.replace(MEASURED, base_bytes=gigabytes * 2**30)
        more = usage(plan, large, workers=3)
        assert more.vcpu_hours == pytest.approx(cores * hours)
        assert more.memory_gb_hours == pytest.approx(memory * hours)


def test_other_prices_give_another_sum(plan, tmp_path):
    (tmp_path / "prices.yaml").write_text(TABLE)
    prices = read_prices(str(tmp_path / "prices.yaml"))
    found = usage(plan, MEASURED, workers=2)
    cost = found.vcpu_hours + 0.25 * found.memory_gb_hours + 1000 * found.shuffle_gb
    assert found.cost(prices) == pytest.approx(cost)
    usual = 0.056 * found.vcpu_hours + 0.003557 * found.memory_gb_hours + 0.011 * found.shuffle_gb
    assert found.cost(DEFAULT) == pytest.approx(usual)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TABLE.replace("vcpu_hour: 1", "vcpu: 1"), "unknown key; the keys are region, date, currency, vcpu_hour"),
        (TABLE.replace("0.25", "-1"), "expected at least 0.0; found -1"),
        (TABLE.replace("region: europe-west4", ""), "expected the key region"),
        ("[]", "expected a table of prices; found list"),
        (None, "expected a table of prices; found No such file or directory"),
    ],
)
def test_what_is_no_table_is_said(tmp_path, text, message):
    path = tmp_path / "prices.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_prices(str(path))
    assert str(path) in str(error.value)
    assert message in str(error.value)


def test_prices_are_for_a_dry_run(tmp_path, capsys):
    assert main(["build", str(tmp_path), str(tmp_path / "out"), "--prices", "prices.yaml"]) == 2
    assert "--prices: expected --dry_run with it; found none" in capsys.readouterr().err
