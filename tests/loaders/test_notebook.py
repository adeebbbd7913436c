"""What a notebook shows of a data set, its rows and its statistics."""

import dataclasses

import numpy as np

import loaders
from loaders import notebook
from loaders.data_set import Statistics


def test_a_data_set_and_its_rows_show_themselves(root):
    shown = loaders.open(root)._repr_html_()
    assert '<td style="text-align: right">53</td>' in shown
    features = loaders.open(root).manifest.features
    assert all(f">{feature.name}</td>" in shown for feature in features)
    rows = loaders.open(root)["train"]
    assert "53 rows" in rows._repr_html_()
    assert rows._repr_html_().count("<tr>") == 6


def test_names_are_escaped(root):
    data_set = loaders.open(root)
    hostile = dataclasses.replace(data_set.manifest.features[0], name="<script>")
    features = (hostile, *data_set.manifest.features[1:])
    object.__setattr__(data_set.manifest, "features", features)
    assert "<script>" not in data_set._repr_html_()
    assert "&lt;script&gt;" in data_set._repr_html_()
    assert "<b>" not in notebook.table(["<b>"], [["<b>"]], right=[False], title="<b>")


def test_statistics_are_a_table_of_ranges():
    found = Statistics(
        {
            "x": {"count": np.array([4000, 4000]), "mean": np.array([1.5, np.nan])},
            "label": {"count": np.array(7), "class_values": np.array([b"a"])},
        }
    )
    shown = found._repr_html_()
    assert ">4,000<" in shown
    assert ">1.5<" in shown
    assert found["x"]["count"].tolist() == [4000, 4000]
