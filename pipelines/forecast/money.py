"""What a build on Google Cloud Dataflow would be charged for, and what that costs by a table of prices."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated

import pydantic
from pydantic import BeforeValidator, ConfigDict, Field

from pipelines.config.explain import explain
from pipelines.config.yaml_text import read_yaml
from pipelines.errors import ConfigError
from pipelines.forecast.estimate import Calibration, memory, seconds
from pipelines.plan.plan import Plan
from pipelines.storage import files

GB_OF_CORE = (4, 8)
"""The memory that Dataflow's machines have for each core, in GiB: `n2-standard` and `n2-highmem`."""

USABLE = 0.85
"""Of a machine's memory: the rest is the system's, and Dataflow's own."""

TASK_RECORD_BYTES = 1000
"""About what is shuffled of a task: its number, and the names and checksums of its shards."""

Price = Annotated[float, Field(ge=0)]


class Prices(pydantic.BaseModel):
    """A table of prices, as a user writes it in YAML or JSON.

    Attributes:
        currency: What they are counted in.
        vcpu_hour: Of a virtual core for an hour.
        memory_gb_hour: Of a GiB of memory for an hour.
        shuffle_gb: Of a GiB that is shuffled.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    region: str
    date: Annotated[str, BeforeValidator(str)]  # YAML has dates, and years are numbers
    currency: str = "USD"
    vcpu_hour: Price
    memory_gb_hour: Price
    shuffle_gb: Price


DEFAULT = Prices(region="us-central1", date="2025", vcpu_hour=0.056, memory_gb_hour=0.003557, shuffle_gb=0.011)
"""List prices of batch jobs, from cloud.google.com/dataflow/pricing, without discounts. They change, so they are shown
with their date, and a user gives others."""


def read_prices(path: str) -> Prices:
    """Reads a table of prices.

    Raises:
        ConfigError: If there is none, or it has other keys or values.
    """
    try:
        value = read_yaml(files.read_text(path), path)
    except OSError as error:
        raise ConfigError(f"{path}: expected a table of prices; found {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8 text; found {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected a table of prices; found {type(value).__name__}")
    try:
        return Prices.model_validate(value)
    except pydantic.ValidationError as error:
        wrong = explain(error, {"": Prices}).partition("\n")[2]
        raise ConfigError(f"{path}: expected a table of prices; found others\n{wrong}") from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class Usage:
    """What is charged for; a GB is one of 2**30 bytes."""

    vcpu_hours: float
    memory_gb_hours: float
    shuffle_gb: float

    def cost(self, prices: Prices) -> float:
        """The sum, in the currency of the prices."""
        hours = self.vcpu_hours * prices.vcpu_hour, self.memory_gb_hours * prices.memory_gb_hour
        return math.fsum((*hours, self.shuffle_gb * prices.shuffle_gb))


def usage(plan: Plan, calibration: Calibration, *, workers: int) -> Usage:
    """What a build by so many worker processes is charged for, all of which are there from its begin to its end.

    Each has a core like the one that was measured. No rows are shuffled: sums of units and records of tasks are.
    """
    hours = seconds(plan, calibration, workers=workers, forked=False).total / 3600
    needed = memory(plan, calibration) / 2**30 / USABLE
    core = next((size for size in GB_OF_CORE if size >= needed), GB_OF_CORE[-1])
    cores = math.ceil(needed / core)  # of a process that needs more memory than any core has
    shuffled = calibration.sum_bytes * len(plan.training_units.runs()) + TASK_RECORD_BYTES * plan.task_count
    return Usage(
        vcpu_hours=workers * cores * hours,
        memory_gb_hours=workers * cores * core * hours,
        shuffle_gb=shuffled / 2**30,
    )
