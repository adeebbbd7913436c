"""Prints options of Dataflow for the machines that a build needs: their type, and how many of them at most.

Takes the arguments of `npyflow build` without the output, reads the headers of the sources, and plans.
"""

from __future__ import annotations

import math
import sys

from pipelines.cli.common import settings_of
from pipelines.cli.options import make_parser
from pipelines.errors import NpyflowError
from pipelines.forecast.estimate import describe
from pipelines.interface.arguments import read_config
from pipelines.maintain.append import plan_sources
from pipelines.plan.plan import Plan
from pipelines.sources.worker_headers import header_reader
from pipelines.storage.file_systems import configure

CORES = 4

BASE_BYTES = 2**30
"""A worker's process before it has read a row; measured: 0.85 GiB for Python with TensorFlow and Beam."""

PER_TASK = 2
"""Measured: 1.25. The rows of a task are there as read and, a batch at a time, as they are transformed and written."""

FAMILIES = {"n2-standard": 4 * 2**30, "n2-highmem": 8 * 2**30}
"""The memory that a machine has for each core."""

USABLE = 0.85
"""Of a machine's memory: the rest is the system's, and Dataflow's own."""

MOST_MACHINES = 1000
"""What Dataflow begins with is few, and what it adds is limited by the project's quota as well."""

ONE_PROCESS = "--experiments=no_use_multiple_sdk_containers"
"""Instead of one process a core."""


def main(arguments: list[str]) -> int:
    """Prints the options in one line."""
    options, beam_options = make_parser().parse_known_args(["build", *arguments[:1], "-", *arguments[1:]])
    try:
        config = read_config(options.config, settings_of(options))
        configure(config.storage_options)
        plan = plan_sources(options.source, config, read_headers=header_reader(beam_options))
    except NpyflowError as error:
        print(f"npyflow: {error}", file=sys.stderr)
        return error.exit_code
    print(*suggest(plan))
    return 0


def suggest(plan: Plan) -> list[str]:
    """The options for a plan: a core for each process, or a machine where a core has too little memory."""
    process = BASE_BYTES + PER_TASK * describe(plan)["task_bytes"]
    tasks = sum(group.tasks for group in plan.groups)
    for family, memory in FAMILIES.items():
        if process <= USABLE * memory:
            return [f"--machine_type={family}-{CORES}", f"--max_num_workers={_machines(tasks / CORES)}"]
    cores = CORES
    while process > USABLE * memory * cores:
        cores *= 2
    return [f"--machine_type={family}-{cores}", f"--max_num_workers={_machines(tasks)}", ONE_PROCESS]


def _machines(needed: float) -> int:
    return min(max(1, math.ceil(needed)), MOST_MACHINES)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
