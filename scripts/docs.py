"""What the site is built from, under `out/docs`: the pages as they lie in the repository, and a generated reference.

Pages keep their places (README.md, docs/…), so a link is the same on the site and on a code host.
"""

from __future__ import annotations

import os
import pathlib
import shutil

import griffe

ROOT = pathlib.Path(__file__).resolve().parent.parent
STAGE = ROOT / "out" / "docs"
LINKED = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "LICENSE", "docs")
OPTIONS = """## Options

`loaders.load` and all loaders take these as keywords:

::: loaders.options.Options
    options: {heading_level: 3, members: false}

`loaders.load` and `loaders.Loader` take these, too:

::: loaders.options.TensorFlowOptions
    options: {heading_level: 3, members: false}
"""
CONFIGURATION = """# Configuration

The keys of `dataset.yaml`, of `--set KEY=VALUE`, and of the mapping that `pipelines.build` takes.
`pipelines.DatasetConfig` holds them, checked. All are optional: where nothing is said, npyflow chooses, and
`npyflow inspect` says what and why. [What each changes, with examples](../docs/options.md).
"""
PARTS = (
    "window.Patch",
    "window.Window",
    "split_rules.GroupSplits",
    "split_rules.StratifiedSplits",
    "split_rules.ColumnSplits",
    "split_rules.TimeSplits",
    "split_rules.BlockSplits",
)
"""What the values of `patch`, `window` and `splits` may be."""
SHOWN = "{members: false, show_signature: false, show_root_full_path: false, merge_init_into_class: false}"
MODULES = (
    "pipelines",
    "pipelines.analyzers",
    "loaders",
    "loaders.numpy",
    "loaders.torch",
    "loaders.jax",
    "loaders.augment",
)


def module_page(name: str, module: griffe.Module) -> str:
    """A page that has mkdocstrings show what a module says, then each of its public names but modules."""
    names = [public for public in module.exports or () if f"{name}.{public}" not in MODULES]
    about = f"::: {name}\n    options: {{members: false, heading_level: 1}}\n"
    shown = [f"::: {name}.{public}\n" for public in map(str, names)]
    return "\n".join([about, *shown, *([OPTIONS] if name == "loaders" else [])])


def command_page() -> str:
    """The help of `npyflow` and of each command, as the terminal shows it."""
    os.environ["COLUMNS"] = "100"  # argparse folds its lines to the terminal's width
    from pipelines.cli.options import make_parser

    parser = make_parser()
    (commands,) = parser._subparsers._group_actions  # argparse has no public way to them
    sections = {"npyflow": parser} | {f"npyflow {name}": command for name, command in commands.choices.items()}
    shown = [f"## {title}\n\n```text\n{section.format_help()}```\n" for title, section in sections.items()]
    return "\n".join(["# Command line\n", *shown])


def configuration_page() -> str:
    """The keys of a configuration: all fields of `DatasetConfig`, and of what lies in it."""
    from pipelines.config.schema import DatasetConfig, FeatureConfig
    from pipelines.interface.as_yaml import OF_DATASET, OF_FEATURE

    lines = [CONFIGURATION]
    for title, model, about in (
        ("Of the data set", DatasetConfig, {"features": "what is said of each feature, by its name"} | OF_DATASET),
        ("Of a feature", FeatureConfig, OF_FEATURE),
    ):
        lines.append(f"## {title}\n\n| key | if it is not said | what it is |\n| --- | --- | --- |")
        for name, field in model.model_fields.items():
            default = field.get_default(call_default_factory=True)
            said = "" if default is None else "none" if default in ((), {}) else f"`{default}`"
            lines.append(f"| `{name}` | {said} | {about[name]} |")
        lines.append("")
    lines += [f"::: pipelines.config.{name}\n    options: {SHOWN}\n" for name in PARTS]
    return "\n".join(lines)


def write(stage: pathlib.Path) -> None:
    """Lays out the site's pages in a directory, in place of what is there."""
    shutil.rmtree(stage, ignore_errors=True)
    (stage / "reference").mkdir(parents=True)
    for name in LINKED:
        (stage / name).symlink_to(ROOT / name)
    loaded = griffe.GriffeLoader(search_paths=[ROOT])
    for name in MODULES:
        (stage / "reference" / f"{name}.md").write_text(module_page(name, loaded.load(name)), encoding="utf-8")
    (stage / "reference" / "configuration.md").write_text(configuration_page(), encoding="utf-8")
    (stage / "reference" / "cli.md").write_text(command_page(), encoding="utf-8")


if __name__ == "__main__":
    write(STAGE)
