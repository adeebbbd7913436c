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


def write(stage: pathlib.Path) -> None:
    """Lays out the site's pages in a directory, in place of what is there."""
    shutil.rmtree(stage, ignore_errors=True)
    (stage / "reference").mkdir(parents=True)
    for name in LINKED:
        (stage / name).symlink_to(ROOT / name)
    loaded = griffe.GriffeLoader(search_paths=[ROOT])
    for name in MODULES:
        (stage / "reference" / f"{name}.md").write_text(module_page(name, loaded.load(name)), encoding="utf-8")
    (stage / "reference" / "cli.md").write_text(command_page(), encoding="utf-8")


if __name__ == "__main__":
    write(STAGE)
