"""Exports that go on, and exports that are refused."""

import json
import shutil
import sys

import pyarrow.parquet as pq
import pytest

import pipelines
from pipelines.cli import main
from tests.support import ragged
from tests.support.numbered import write_numbered


@pytest.fixture
def root(tmp_path):
    write_numbered(tmp_path / "set", [20, 0, 30, 3, 40], rows_per_record=4)
    return tmp_path / "set"


def export(root, output, to="parquet", **options):
    return pipelines.export(root, output, to=to, **{"workers": 1} | options)


def numbers_in(output):
    return (pq.ParquetDataset(output / "train").read()["n"].to_numpy() + 1_000_000).tolist()


def test_an_export_goes_on_where_it_stopped(root, tmp_path):
    last = max((root / "train").iterdir())
    good = last.read_bytes()
    last.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))

    with pytest.raises(pipelines.DataError, match=r"train-00004.*expected in record 9 checksum"):
        export(root, tmp_path / "out", workers=2)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/train").iterdir()}
    last.write_bytes(good)
    export(root, tmp_path / "out")

    assert written
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert numbers_in(tmp_path / "out") == list(range(93))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"train", "croissant.json"}
    listed = json.loads((tmp_path / "out" / "croissant.json").read_bytes())["distribution"]
    assert len([file for file in listed if "sha256" in file]) == len(list((tmp_path / "out/train").iterdir()))


def test_what_is_there_already_is_refused(root, tmp_path):
    export(root, tmp_path / "out")
    with pytest.raises(pipelines.OutputError, match="out: expected a directory that is empty or new; found files"):
        export(root, tmp_path / "out")
    shard = max((root / "train").iterdir())
    shutil.move(shard, tmp_path / "away")
    with pytest.raises(OSError, match=shard.name):
        export(root, tmp_path / "begun")
    with pytest.raises(pipelines.OutputError, match="begun: expected what this export has begun; found what other"):
        export(root, tmp_path / "begun", to="npy")


def test_what_a_format_cannot_hold_is_refused(tmp_path):
    ragged.write(tmp_path / "set", [[1, 2]])
    unfit = (
        ("npy", "v", "rows of any length"),
        ("zarr", "s", "text or bytes"),
        ("mds", "s", "several texts or bytes a row"),
    )
    for to, feature, found in unfit:
        with pytest.raises(pipelines.ConfigError, match=rf"to {to} \(feature {feature}\): .*found {found} \(export to"):
            export(tmp_path / "set", tmp_path / "out", to=to)
    with pytest.raises(pipelines.ConfigError, match=r"to: expected one of arrayrecord, .*; found 'csv'"):
        export(tmp_path / "set", tmp_path / "out", to="csv")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("to", "package"), [("zarr", "zarr"), ("arrayrecord", "array_record")])
def test_a_library_that_is_missing_is_named_with_its_extra(to, package, root, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, f"pipelines.exports.{to}", raising=False)
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(pipelines.ConfigError, match=rf"to {to}: {package}.* is not installed; .*'npyflow\[{to}\]'"):
        export(root, tmp_path / "out", to=to)


def test_the_command(root, tmp_path, capsys):
    assert main.main(["export", str(root), str(tmp_path / "out"), "--to=parquet", "--workers=2", "--json=-"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["rows"], done["pieces"]) == ({"train": 93}, {"train": 4})
    assert numbers_in(tmp_path / "out") == list(range(93))
    assert main.main(["export", str(root), str(tmp_path / "out"), "--to=parquet"]) == 2
    assert "found files" in capsys.readouterr().err
