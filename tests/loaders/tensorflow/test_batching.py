import pytest

from loaders.format.spec import FeatureSpec
from loaders.reading.columns import Arrangement


def feature(name, role):
    return FeatureSpec(name=name, dtype="float32", shape=(), role=role)


def test_arranger_gives_all_as_a_dict():
    features = [feature("a", "input"), feature("b", "id")]
    arrange = Arrangement(features, supervised=False)

    assert arrange.features == tuple(features)
    assert arrange({"a": 1, "b": 2}) == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        ({"a": "input", "b": "label"}, ("a", "b")),
        ({"a": "label", "b": "input", "c": "input"}, ({"b": "b", "c": "c"}, "a")),
        ({"a": "input", "b": "label", "c": "label", "d": "weight"}, ("a", {"b": "b", "c": "c"}, "d")),
        ({"a": "input", "b": "id", "c": "label"}, ("a", "c")),
    ],
)
def test_arranger_splits_by_role(roles, expected):
    arrange = Arrangement([feature(*item) for item in roles.items()], supervised=True)

    assert {f.name for f in arrange.features} == {name for name, role in roles.items() if role != "id"}
    assert arrange({f.name: f.name for f in arrange.features}) == expected


@pytest.mark.parametrize(("present", "missing"), [("input", "label"), ("label", "input")])
def test_supervised_needs_an_input_and_a_label(present, missing):
    with pytest.raises(ValueError, match=rf"expects a feature with the role '{missing}'; found a \({present}\)"):
        Arrangement([feature("a", present)], supervised=True)
