"""A user's own `preprocessing_fn`: loaded from a file, called as is declared, and traced to learn what it gives."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import pathlib
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from loaders.format.spec import FeatureSpec
from pipelines.analyze.function_constants import constants_of, describe
from pipelines.analyze.graph import prepare
from pipelines.config.resolved import ResolvedFeature, TracedFunction, UserFunction
from pipelines.config.schema import DatasetConfig
from pipelines.errors import ConfigError, DataError
from pipelines.lazy import tf
from pipelines.plan.resolve import resolve_features
from pipelines.runners.beam import SHARED_BYTES
from pipelines.runners.pool import WorkerPool
from pipelines.runners.process_setup import quick_imports
from pipelines.runners.worker import can_fork
from pipelines.sources.table import SourceTable
from pipelines.storage import files
from pipelines.storage.npz_bytes import load_arrays
from pipelines.storage.temporary import temporary_directory

PreprocessingFn = Callable[[dict[str, Any]], Mapping[str, Any]]

SHOWN_FEATURES = 50

OUTPUT_DTYPES = ("float32", "int64", "string")
"""The dtypes that tf.transform's schema has."""


def load_function(place: str) -> PreprocessingFn:
    """Loads `path/to/module.py:function`, which may import modules that lie beside its file.

    Pickled for a worker, the function travels whole, with what it uses of its file and of those beside it: the worker
    needs neither. What they import from elsewhere must be installed there.

    Raises:
        ConfigError: If there is no such file or function, or the file does not run.
    """
    return _load(place)[0]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A user's function that is called with features as their declared `missing`, `mask` and `dtype` leave them."""

    function: PreprocessingFn
    features: tuple[ResolvedFeature, ...]
    fitted: str | None = None  # the `fitted.npz` of what its analyzers have learned; None: still to learn

    def __call__(self, inputs: dict[str, Any]) -> Mapping[str, Any]:
        """Calls the function with what the sources hold."""
        return self.noted(inputs)[0]

    def noted(self, inputs: dict[str, Any], *, fed: bool = False) -> tuple[Mapping[str, Any], Any]:
        """Calls the function; what it returns, and its analyzers, noted; `fed` is as in `recorded_calls.Notes`."""
        from pipelines.analyzers.recorded_calls import noted

        given = prepare(inputs, self.features)
        known = None if self.fitted is None else constants_of(load_arrays(files.read_bytes(self.fitted)))
        with noted(given, known=known, fed=fed) as notes:
            return self.function(dict(given)), notes


def load_traced(traced: TracedFunction) -> PreprocessingFn:
    """A function that has travelled."""
    from apache_beam.internal import pickler

    function: PreprocessingFn = pickler.loads(traced.function)
    return function


def _load(place: str) -> tuple[PreprocessingFn, dict[str, pathlib.Path]]:
    """Loads a function; the files of the modules beside its own that were imported for it, by the modules' names."""
    path, name = _parts(place)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None, "the file's name ends in .py"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        with _importing_from(path.resolve().parent) as beside:
            spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"preprocessing_fn: {path} failed: {type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ConfigError(f"preprocessing_fn: expected a function {name} in {path}; found none")
    return function, beside  # what it gives is checked where it is traced


@contextmanager
def _importing_from(directory: pathlib.Path) -> Iterator[dict[str, pathlib.Path]]:
    """Makes the modules in a directory importable inside the context.

    Afterwards nobody finds them by name, in this process or another; so what is used of them is pickled by value. What
    is given has, when the context is left, the files of the modules that were imported, by their names.
    """
    found: dict[str, pathlib.Path] = {}
    before = {name.partition(".")[0] for name in sys.modules}
    importlib.invalidate_caches()
    sys.path.insert(0, str(directory))
    try:
        yield found
    finally:
        sys.path.remove(str(directory))
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if name.partition(".")[0] not in before and file and _top(name, pathlib.Path(file)) == directory:
                found[name] = pathlib.Path(file)
                del sys.modules[name]


def _top(name: str, file: pathlib.Path) -> pathlib.Path:
    """The directory that was searched for a module's first name."""
    depth = name.count(".") + (file.name == "__init__.py")
    return file.resolve().parents[depth]


def _parts(place: str) -> tuple[pathlib.Path, str]:
    file, _, name = place.rpartition(":")
    path = pathlib.Path(file)
    if not file.endswith(".py") or not name.isidentifier() or not path.is_file():
        raise ConfigError(f"preprocessing_fn: expected FILE.py:FUNCTION, the file being there; found {place!r}")
    return path, name


def trace_configured(config: DatasetConfig, table: SourceTable) -> UserFunction | None:
    """What the function that a configuration names gives, by `trace`; None where it names none.

    Tracing uses TensorFlow, and a process that has used it cannot fork. So a worker traces, where there is enough to do
    for workers to be forked later.
    """
    if config.preprocessing_fn is None:
        return None
    features = resolve_features(config, table)
    if table.nbytes < SHARED_BYTES or not can_fork():
        return trace(config.preprocessing_fn, features)
    with quick_imports():
        import apache_beam  # noqa: F401  # once for all processes; the build needs all three
        import tensorflow  # noqa: F401
        import tensorflow_transform.beam  # noqa: F401
    with WorkerPool(features) as pool:
        (found,) = pool.start(1).map(trace, [config.preprocessing_fn])
    assert isinstance(found, UserFunction)
    return found


def trace(place: str, features: Sequence[ResolvedFeature]) -> UserFunction:
    """Finds out what a function, as `load_function` has it, gives of features, without running it on data.

    Raises:
        ConfigError: If there is no such function, it fails, cannot be pickled, or gives something else than dense
            tensors of known shape of float32, int64 or string.
    """
    with quick_imports():
        from apache_beam.internal import pickler
        from tensorflow_transform import impl_helper

        from pipelines.analyze.phases import asked_of, learns_alone, read_in_phases

    function, beside = _load(place)
    arguments = tuple(feature for feature in features if feature.takes_part)
    specs = {f.name: tf.TensorSpec([None, *f.value_shape], f.graph_kind) for f in arguments}
    noted: list[tuple[dict[str, Any], Mapping[str, Any], Any]] = []

    def call(inputs: dict[str, Any]) -> Mapping[str, Any]:
        outputs, notes = Prepared(function, arguments).noted(inputs)
        noted.append((inputs, outputs, notes))
        return outputs

    with temporary_directory("trace") as directory:
        try:
            graph, inputs, outputs = impl_helper.trace_preprocessing_function(
                call, specs, use_tf_compat_v1=False, base_temp_dir=directory
            )
        except Exception as error:
            own = [_parts(place)[0], *beside.values()]
            raise ConfigError(f"preprocessing_fn: {_where(error, own, place)}{_why(error, features)}") from error
    if not isinstance(outputs, Mapping) or not outputs:
        raise ConfigError(f"preprocessing_fn: expected {place} to return a dict of tensors; found {outputs!r}")
    try:
        pickled = pickler.dumps(function)
    except Exception as error:
        raise ConfigError(
            f"preprocessing_fn: expected {place} to use only what can be sent to workers; found {error}"
        ) from error
    known = {feature.name: feature.spec for feature in features}
    given = tuple(_spec(place, name, outputs[name], known.get(name)) for name in sorted(outputs))
    _check_names(place, outputs, features)
    raw, made, notes = noted[-1]
    traced = TracedFunction(place=place, function=pickled, features=arguments) if learns_alone(graph, notes) else None
    return UserFunction(
        place=place,
        digest=_digest(place, beside),
        specs=given,
        phases=read_in_phases(graph, inputs, outputs),
        learned=describe(notes, made),
        traced=traced,
        asked=() if traced is None else asked_of(notes, raw, traced),
    )


def _check_names(place: str, outputs: Iterable[str], features: Sequence[ResolvedFeature]) -> None:
    """Raises a ConfigError where a name is given by both the function and the configuration."""
    for feature in features:
        both = sorted({spec.name for spec in feature.outputs} & set(outputs))
        if both and feature.has_steps:
            raise ConfigError(
                f"preprocessing_fn: expected {place} to give other names than {', '.join(both)}, as features."
                f"{feature.name} has steps: the configuration makes it, or the function does"
            )
        if both and not feature.takes_part and feature.store != "none":
            raise ConfigError(
                f"preprocessing_fn: expected {place} to give another name than {feature.name}, a feature that it "
                f"cannot take and that is stored as it is (`features.{feature.name}.store: none` leaves it out)"
            )


def _where(error: Exception, paths: Sequence[pathlib.Path], place: str) -> str:
    """The last line of the user's files that an error came through; only what the function is called where none is."""
    own = {str(path.resolve()) for path in paths}
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if str(pathlib.Path(frame.filename).resolve()) in own:
            return f"{frame.filename}, line {frame.lineno}, in {frame.name}: "
    return f"{place}: "


def _why(error: Exception, features: Sequence[ResolvedFeature]) -> str:
    arguments = [f"{f.name} ({f.taken_kind} {list(f.value_shape)})" for f in features if f.takes_part]
    there = ", ".join(arguments[:SHOWN_FEATURES]) + (", …" if arguments[SHOWN_FEATURES:] else "")
    if not isinstance(error, KeyError) or not error.args or not isinstance(error.args[0], str):
        return f"{type(error).__name__}: {error} (the features are {there})"
    name = error.args[0]
    text = f"expected one of the features {there}; found {name!r}"
    if any(f.name == name for f in features):
        return f"{text}, whose rows are no dense real numbers or strings: it is stored as it is"
    return text


TRACED = ("Graph execution error", "Detected at node", "File ")
"""How the lines begin in which TensorFlow says where in the graph it was, before it says what is wrong."""


def function_failed(place: str, text: str) -> DataError:
    """What TensorFlow says of rows that a traced function cannot take, in one line: no line of Python is known then."""
    lines = [line.strip() for line in (text.partition("<stack traces unavailable>")[2] or text).splitlines()]
    line = next((line for line in lines if line and not line.startswith(TRACED)), "")
    return DataError(f"preprocessing_fn: {place}, of rows: {line}")


def _digest(place: str, beside: Mapping[str, pathlib.Path]) -> str:
    """Of the function's file and of those beside it that it uses."""
    digest = hashlib.blake2b(_parts(place)[0].read_bytes(), digest_size=16)
    for name, path in sorted(beside.items()):
        data = path.read_bytes()
        digest.update(f"\n{name} {len(data)}\n".encode() + data)
    return digest.hexdigest()


def _spec(place: str, name: str, tensor: Any, source: FeatureSpec | None) -> FeatureSpec:
    dtype = tensor.dtype.name if isinstance(tensor, tf.Tensor) else ""
    shape = tuple(tensor.shape[1:]) if dtype and tensor.shape.rank else (None,)
    if dtype not in OUTPUT_DTYPES or None in shape or tensor.shape[0] is not None:
        dtypes = f"{', '.join(OUTPUT_DTYPES[:-1])} or {OUTPUT_DTYPES[-1]}"
        raise ConfigError(
            f"preprocessing_fn: expected {place} to give dense {dtypes} tensors [batch, ...] of known shape, with a "
            f"value for each row of the batch; found {name}: {f'{dtype} {tensor.shape}' if dtype else tensor}"
        )
    role = source.role if source is not None else "input"
    class_names = source.class_names if source is not None and dtype == "int64" else ()
    return FeatureSpec(name=name, dtype=dtype, shape=shape, role=role, class_names=class_names)
