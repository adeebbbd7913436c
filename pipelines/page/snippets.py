"""What one writes to build from sources, or to load a data set, as the page shows it."""

from __future__ import annotations

from pipelines.page.facts import Facts


def snippets_of(facts: Facts) -> list[tuple[str, str]]:
    """How the data set is loaded, for each framework."""
    if not facts.built:
        return [
            ("Build it", "npyflow build SRC OUT"),
            ("in Python", 'import pipelines\n\npipelines.build("SRC", "OUT")'),
        ]
    split = facts.training
    supervised = any(feature.batch and feature.batch.role == "label" for feature in facts.features.values())
    more = ", as_supervised=True" if supervised else ""
    batch = "inputs, labels" if supervised else "batch"
    said = f'"OUT", "{split}", batch_size=256, seed=1{more}'
    return [
        ("TensorFlow, Keras", f"import loaders\n\ntrain = loaders.load({said})\nmodel.fit(train)"),
        ("NumPy", f"from loaders.numpy import Loader\n\nfor {batch} in Loader({said}):\n    ..."),
        (
            "PyTorch",
            "from loaders.torch import Loader\nfrom torch.utils.data import DataLoader\n\n"
            f"for {batch} in DataLoader(Loader({said}), batch_size=None):\n    ...",
        ),
        ("JAX", f"from loaders.jax import Loader\n\nfor {batch} in Loader({said}):\n    ..."),
        ("a row", f'import loaders\n\nloaders.open("OUT")["{split}"][0]'),
    ]
