"""Hooks of pytest: where `NPYFLOW_SKIPS` is set, a test skipped for a reason that it does not name is a failure."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest

VARIABLE = "NPYFLOW_SKIPS"
"""A regular expression; empty where no test may be skipped."""


def unexpected(config: pytest.Config) -> list[str]:
    """The reasons of skipped tests that are not allowed; workers of pytest-xdist leave it to the process above them.

    The reason of a module that was skipped as a whole has "module: " before it.
    """
    allowed = os.environ.get(VARIABLE)
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    if allowed is None or reporter is None:
        return []
    reasons = map(_reason, reporter.stats.get("skipped", ()))
    return [reason for reason in reasons if not (allowed and re.search(allowed, reason))]


def _reason(report: Any) -> str:
    reason = report.longrepr[2].removeprefix("Skipped: ")
    return f"module: {reason}" if isinstance(report, pytest.CollectReport) else reason


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if unexpected(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    for reason in sorted(set(unexpected(config))):
        terminalreporter.line(f"skipped, which {VARIABLE} does not allow: {reason}", red=True)
