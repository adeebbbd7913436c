"""Pass 1: the training rows, read once for each round, and what was learned exported by tf.transform."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import apache_beam as beam

from loaders.format.names import FITTED, MOMENTS, SAMPLE, STATISTICS
from pipelines.analyze import fit, graph, rounds
from pipelines.analyze.accumulate import add_units
from pipelines.analyze.classes import check_names
from pipelines.analyze.export import ExportSavedModel
from pipelines.analyze.fit import Known
from pipelines.analyze.function_constants import as_fitted
from pipelines.analyze.rounds import Accumulated, Analyzed
from pipelines.config.resolved import ResolvedFeature
from pipelines.errors import DataError
from pipelines.output.directory import Output
from pipelines.output.tasks import mark_learned
from pipelines.plan.plan import Plan
from pipelines.runners.combine import Merge
from pipelines.runners.distribute import Begun, Distribute
from pipelines.runners.failures import Recorded
from pipelines.runners.handoff import Handoff
from pipelines.runners.pool import Workers
from pipelines.runners.process_setup import give_memory_back
from pipelines.statistics.recorded import TrainingStatistics, dump_moments
from pipelines.statistics.sample import dump_samples
from pipelines.statistics.summary import summarize
from pipelines.storage import files
from pipelines.storage.npz_bytes import dump_arrays


@dataclasses.dataclass(eq=False)
class Analyze(beam.PTransform):  # type: ignore[misc]
    """Writes the transform (where a feature is transformed) and the statistics of the training rows.

    Expects a pipeline. Outputs a PCollection of one element, there when all has been written.
    """

    plan: Handoff[Plan]
    output: Output
    workers: Workers | None = None  # who has the plan and does the work; None: the runner places it
    first_round: Iterator[Accumulated] | None = None  # what it adds up, where it has been begun already

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection[Any]:
        """Wires the pass."""
        errors = self.output.errors
        known = pipeline | "LearnFromRows" >> Fit(self.plan, self.workers, self.first_round, errors)
        written = known | "KeepLearned" >> beam.Map(Recorded(write_fitted, errors), self.plan, self.output.staged)
        if self.plan.load().config.has_transform:
            written = written | "ExportTransform" >> ExportSavedModel(self.plan, self.output)
        return written | "MarkDone" >> beam.Map(Recorded(_mark_done, errors), self.plan, self.output)


def _mark_done(_: object, plan: Plan, output: Output) -> None:
    mark_learned(output)
    check_names(plan, output)  # last, as nothing has to be learned again once the names are right


@dataclasses.dataclass(eq=False)
class Fit(beam.PTransform):  # type: ignore[misc]
    """Fits the steps to the training rows, in as many rounds as `rounds.schedule` says.

    Expects a pipeline. Outputs a PCollection of one element, what is `Known` of each feature.
    """

    plan: Handoff[Plan]
    workers: Workers | None
    first_round: Iterator[Accumulated] | None
    errors: str

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection[Known]:
        """Wires the rounds; each reads the rows anew, so that no runner has to hold them."""
        features = rounds.analyzed_features(plan := self.plan.load())
        # The first round is given a value: a side input would make a runner keep, and copy, what was added up.
        before: Any = fit.begin(features.values())
        known = None
        for number, needs in enumerate(rounds.schedule(features.values())):
            if number == 0 and self.first_round is not None:  # and added up, which Beam would copy
                added = pipeline | f"AddUnits{number}" >> Begun(self.first_round, self.errors)
            else:
                where: Any = {"workers": self.workers, "errors": self.errors}
                known_to_rows = before
                if known is not None:
                    known_to_rows = beam.pvalue.AsSingleton(known | f"LeaveSample{number}" >> beam.Map(fit.for_rows))
                add = Distribute(add_units, plan.training_units.runs(), self.plan, needs, known_to_rows, **where)
                merged = beam.CombineGlobally(Merge(functools.partial(rounds.merge, features)))
                added = pipeline | f"AddUnits{number}" >> add | f"AddUp{number}" >> merged
            known = added | f"LearnRound{number}" >> beam.Map(Recorded(fit_round, self.errors), features, before)
            before = beam.pvalue.AsSingleton(known)
        return pipeline | "KnowNothing" >> beam.Create([before], reshuffle=False) if known is None else known


def fit_round(added: Accumulated, features: Mapping[str, Analyzed], known: Known) -> Known:
    """What is known after a round."""
    give_memory_back()
    return fit.update(features, known, added)


def write_fitted(known: Known, plan: Plan, directory: str) -> str:
    """Writes statistics, moments and constants to files, and returns the file of the constants.

    It is there when steps, or analyzers of a user's function, have learned. They travel in it: a runner copies what
    passes between its steps several times, and there may be 10 MB and more.
    """
    features = rounds.analyzed_features(plan)
    moments = {name: own.moments for name, own in known.items() if own.moments is not None}
    described = {name: own for name, own in features.items() if isinstance(own, ResolvedFeature)}
    dense = [own for name, own in moments.items() if not described[name].ragged]
    if dense and not any((own.count + own.missing).any() for own in dense):
        raise DataError(f"split {plan.training_split}: expected training rows; found none")
    recorded = TrainingStatistics(
        statistics={name: summarize(own) for name, own in moments.items() if described[name].described},
        classes={name: own.classes for name, own in known.items() if own.classes is not None},
    )
    files.write_bytes(files.join(directory, STATISTICS), recorded.dump())
    files.write_bytes(files.join(directory, MOMENTS), dump_moments(moments))
    samples = {name: own.sample for name, own in known.items() if own.sample is not None}
    if samples:
        files.write_bytes(files.join(directory, SAMPLE), dump_samples(samples))
    path, arrays = files.join(directory, FITTED), graph.fitted_arrays(plan.config.transformed, known)
    custom = plan.config.custom
    if custom is not None and custom.traced is not None:
        arrays |= as_fitted(custom, [known[asked.name].constants[0] for asked in custom.asked])
    if arrays or plan.config.transformed:
        files.write_bytes(path, dump_arrays(arrays))
    return path
