"""Pipelines in a notebook, which are run as in any other program."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def not_interactive() -> Iterator[None]:
    """Keeps Beam from making an interactive pipeline of one that is built inside the context.

    In an IPython kernel Beam puts the cell's number before the names of steps, which are to be the same everywhere. For
    that it imports its interactive runner and DataFrames, which fails without the extra `interactive`, and with pandas
    from 2.4 on: Beam 2.77 has no option for it.
    """
    if "IPython" not in sys.modules:
        yield
        return
    from apache_beam import pipeline
    from apache_beam.utils import interactive_utils

    modules, asks = (pipeline, interactive_utils), interactive_utils.is_in_ipython
    for module in modules:
        module.is_in_ipython = lambda: False
    try:
        yield
    finally:
        for module in modules:
            module.is_in_ipython = asks
