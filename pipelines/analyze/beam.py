"""Pass 1: the training rows, read once for each round of `fit`, and what was learned exported by tf.transform."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt

from pipelines.analyze import fit, graph
from pipelines.analyze.export import Export
from pipelines.analyze.fit import Accumulated, Knowledge
from pipelines.analyze.passes import add_units, learning
from pipelines.config.resolved import ResolvedFeature
from pipelines.output.directory import FITTED, MOMENTS, STATISTICS, Output
from pipelines.plan.plan import Plan
from pipelines.runners.distribute import Begun, Distribute
from pipelines.runners.failures import Recorded
from pipelines.runners.pool import WorkerPool
from pipelines.statistics.summary import Statistics, summarize
from pipelines.storage import files
from pipelines.storage.archive import dump_arrays, load_arrays


class Analyze(beam.PTransform):  # type: ignore[misc]
    """Writes the transform (where a feature is transformed) and the statistics of the training rows.

    Expects a pipeline. Outputs a PCollection of one element, there when all has been written.

    Attributes:
        plan: The plan.
        output: Where the data set is written.
        workers: Workers of this machine that have the plan, or None.
        first_round: What the first round adds up, where it has been begun already.
    """

    def __init__(
        self,
        plan: Plan,
        output: Output,
        *,
        workers: WorkerPool | None = None,
        first_round: Future[Accumulated] | None = None,
    ) -> None:
        super().__init__()
        self.plan = plan
        self.output = output
        self.workers = workers
        self.first_round = first_round

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection[Any]:
        """Wires the pass."""
        errors = self.output.errors
        learn_from_rows = Learn(self.plan, workers=self.workers, first_round=self.first_round, errors=errors)
        known = pipeline | "LearnFromRows" >> learn_from_rows
        kept = known | "KeepLearned" >> beam.Map(Recorded(keep, errors), self.plan, self.output.statistics)
        if self.plan.config.has_transform:
            kept = kept | "ExportTransform" >> Export(self.plan, self.output)
        return kept | "MarkDone" >> beam.Map(Recorded(_mark_done, errors), self.output)


def _mark_done(_: object, output: Output) -> None:
    files.write_text(output.analysis_done, "")


class Learn(beam.PTransform):  # type: ignore[misc]
    """Learns from the training rows, in as many rounds as `fit.schedule` says.

    Expects a pipeline. Outputs a PCollection of one element, the `Knowledge`.
    """

    def __init__(
        self, plan: Plan, *, workers: WorkerPool | None, first_round: Future[Accumulated] | None, errors: str
    ) -> None:
        super().__init__()
        self._plan = plan
        self._errors = errors
        self._workers = workers
        self._first_round = first_round

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection[Knowledge]:
        """Wires the rounds; each reads the rows anew, so that no runner has to hold them."""
        plan, features = self._plan, learning(self._plan)
        known = pipeline | "KnowNothing" >> beam.Create([fit.begin(features.values())], reshuffle=False)
        for number, needs in enumerate(fit.schedule(tuple(features.values()))):
            before = beam.pvalue.AsSingleton(known)
            if number == 0 and self._first_round is not None:
                add: beam.PTransform = Begun(self._first_round, errors=self._errors)
            else:
                where: Any = {"workers": self._workers, "errors": self._errors}
                add = Distribute(add_units, plan.training_units.runs(), plan, needs, before, **where)
            added = pipeline | f"AddUnits{number}" >> add | f"AddUp{number}" >> beam.CombineGlobally(AddUp(features))
            known = added | f"LearnRound{number}" >> beam.Map(Recorded(learn, self._errors), features, before)
        return known


class AddUp(beam.CombineFn):  # type: ignore[misc]
    """Merges what units have added; exact, so that the order does not matter."""

    def __init__(self, features: Mapping[str, ResolvedFeature]) -> None:
        self._features = features

    def create_accumulator(self) -> None:
        """Nothing."""

    def add_input(self, accumulator: Accumulated | None, added: Accumulated) -> Accumulated:
        """Adds what some units have added."""
        return added if accumulator is None else fit.merge_accumulated(self._features, accumulator, added)

    def merge_accumulators(self, accumulators: Iterable[Accumulated | None]) -> Accumulated | None:
        """Adds up accumulators."""
        found = (accumulator for accumulator in accumulators if accumulator is not None)
        return functools.reduce(self.add_input, found, None)

    def extract_output(self, accumulator: Accumulated | None) -> Accumulated | None:
        """The sum."""
        return accumulator


def learn(added: Accumulated, features: Mapping[str, ResolvedFeature], known: Knowledge) -> Knowledge:
    """What is known after a round."""
    return fit.update(features, known, added)


def keep(known: Knowledge, plan: Plan, directory: str) -> npt.NDArray[np.float64]:
    """Writes statistics, moments and constants to files.

    Returns:
        The constants of the transformed features, packed.
    """
    features = learning(plan)
    statistics = {
        name: summarize(found.moments)
        for name, found in known.items()
        if features[name].described and found.moments is not None
    }
    classes = {
        f"{name}/class_{key}": array
        for name, found in known.items()
        if found.classes is not None
        for key, array in found.classes.items()
    }
    files.write_bytes(files.join(directory, STATISTICS), dump_arrays(flat(statistics) | classes))
    moments = {
        f"{name}/{key}": array
        for name, found in known.items()
        if found.moments is not None
        for key, array in found.moments.to_arrays().items()
    }
    files.write_bytes(files.join(directory, MOMENTS), dump_arrays(moments))
    transformed = plan.config.transformed
    if transformed and plan.config.custom is None:
        constants = graph.keep_constants(transformed, known)
        files.write_bytes(files.join(directory, FITTED), dump_arrays(constants))
    return graph.pack(transformed, known)


def flat(statistics: Mapping[str, Statistics]) -> dict[str, npt.NDArray[Any]]:
    """Statistics as arrays by `<feature>/<statistic>`."""
    return {f"{name}/{key}": array for name, value in statistics.items() for key, array in value.arrays().items()}


def load_statistics(data: bytes) -> dict[str, Statistics]:
    """The statistics of an `.npz` archive with keys `<feature>/<statistic>`; other arrays are left."""
    known = {field.name for field in dataclasses.fields(Statistics)}
    values: dict[str, dict[str, Any]] = {}
    for key, array in load_arrays(data).items():
        name, _, statistic = key.rpartition("/")
        if statistic in known:
            values.setdefault(name, {})[statistic] = array
    return {name: Statistics(**arrays) for name, arrays in values.items()}
