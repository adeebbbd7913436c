"""`npyflow view`: rows as a person sees them, in the terminal and on a contact sheet."""

import io

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from pipelines.cli import main, view
from tests.support import shards
from tests.support.arrays import write_files


def run(*arguments):
    return main.main([str(argument) for argument in arguments])


@pytest.fixture
def source(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (300, 12, 9, 3), dtype=np.uint8)
    return write_files(
        tmp_path / "src",
        {
            "image.npy": images,
            "x.npy": np.where(np.arange(300) % 5 == 0, np.nan, np.arange(300)),
            "wave.npy": np.sin(np.arange(64) / 8) + np.zeros((300, 1)),
            "label.npy": np.arange(300) % 3,
        },
    )


def test_rows_of_sources_are_those_of_the_split_in_their_order(source, capsys):
    assert (
        run("view", source, "all", "5:8", "--set", "splits={all: 1}", "--set", "features.label.class_names=[a,b,c]")
        == 0
    )
    said = capsys.readouterr().out
    lines = [line.split() for line in said.splitlines() if line.strip()]
    assert [line[0] for line in lines[-3:]] == ["5", "6", "7"]
    assert ["missing" in line for line in lines[-3:]] == [True, False, False]
    assert [next(cell for cell in line[1:] if cell in "abc") for line in lines[-3:]] == ["c", "a", "b"]
    assert "█" in said  # the curve


def test_rows_of_a_split_are_its_own(source, capsys):
    assert run("view", source, "test", "4") == 0
    shown = capsys.readouterr().out
    assert run("view", source, "test", "2:4") == 0
    assert shown.split()[-1] == capsys.readouterr().out.split()[-1]
    assert run("view", source, "nosuch") == 2
    assert "expected one of train, validation, test" in capsys.readouterr().err


@pytest.mark.parametrize("rows", ["x", "5:5", "0", "-3"])
def test_rows_that_mean_none_are_an_error(source, rows, capsys):
    assert run("view", source, "train", "--", rows) == 2
    assert "expected" in capsys.readouterr().err


def test_a_contact_sheet_has_a_picture_of_each_row(source, tmp_path, capsys):
    assert run("view", source, "train", "5", "--png", tmp_path / "sheet.png") == 0
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    first = np.load(f"{source}/image.npy")
    side = 96 // 12
    tile = sheet[14 : 14 + 96 : side, 8 : 8 + 9 * side : side]
    assert any((tile == image).all() for image in first[:20])


def test_a_contact_sheet_needs_pictures(tmp_path, capsys):
    source = write_files(tmp_path / "src", {"x.npy": np.arange(30.0)})
    assert run("view", source, "--png", tmp_path / "sheet.png") == 2
    assert "x (number)" in capsys.readouterr().err
    assert not (tmp_path / "sheet.png").exists()


def test_rows_of_a_data_set(tmp_path, capsys):
    rows = {"n": np.arange(20, dtype=np.int32)}
    shards.write(tmp_path / "o", {"train": [rows]}, rows_per_record=4, features=shards.specs(rows))
    assert run("view", tmp_path / "o", "train", "7:9") == 0
    lines = capsys.readouterr().out.split()
    assert lines[-4:] == ["7", "7", "8", "8"]
    assert run("view", tmp_path / "o", "valid") == 2


def test_two_pixels_are_one_character(source):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    out = io.StringIO()
    Console(file=out, force_terminal=True, color_system="truecolor", width=80).print(view.half_blocks(pixels))
    assert out.getvalue().count("▀") == 3 * 4
    red, green, blue = pixels[0, 0]
    assert f"38;2;{red};{green};{blue}" in out.getvalue()
