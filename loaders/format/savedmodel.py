"""The SavedModel of a data set's transform: a program, which is run only if all that it does is to compute.

TensorFlow's operations read and write files too, call Python, and reach the network. What is loaded is exactly the
files that the manifest lists, as it lists them; of their graphs each operation has to be one that `COMPUTING` names.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from loaders.format.manifest import Manifest, ManifestError

MODEL = "transform_fn"
"""The directory of the SavedModel, below that of the transform."""

GRAPHS = "saved_model.pb"
"""The file of the SavedModel that says what is run."""

_KNOWN = {
    "graphs and calls": """
    Assert Const EnsureShape Identity IdentityN If NoOp PartitionedCall Placeholder PreventGradient
    StatefulPartitionedCall StatelessIf StatelessWhile StopGradient TensorListFromTensor TensorListGetItem
    TensorListReserve TensorListSetItem TensorListStack While
    """,
    "shapes, places, types": """
    ArgMax ArgMin Bitcast BroadcastArgs BroadcastTo Cast Concat ConcatV2 Diag DiagPart ExpandDims Fill GatherNd
    GatherV2 InvertPermutation LowerBound MatrixBandPart MatrixDiagV3 MirrorPad OneHot OnesLike Pack Pad PadV2 Range
    Rank Reshape ReverseV2 Roll ScatterNd Select SelectV2 Shape ShapeN Size Slice Split SplitV Squeeze StridedSlice
    TensorScatterAdd TensorScatterUpdate Tile TopKV2 Transpose Unique UniqueV2 Unpack UpperBound Where ZerosLike
    """,
    "numbers": """
    Abs Acos Acosh Add AddN AddV2 Angle Asin Asinh Atan Atan2 Atanh BatchMatMulV2 BiasAdd BitwiseAnd BitwiseOr
    BitwiseXor Bucketize Ceil Cholesky ClipByValue Complex ComplexAbs Conj Cos Cosh Cross Cumprod Cumsum Digamma Div
    DivNoNan Einsum Elu Erf Erfc Erfinv Exp Expm1 Floor FloorDiv FloorMod Igamma Igammac Imag Inv Invert L2Loss
    LeftShift Lgamma LinSpace Log Log1p LogSoftmax MatMul MatrixInverse MatrixSolve MatrixTriangularSolve Maximum
    Mean Minimum Mod Mul MulNoNan Ndtri Neg NextAfter Polygamma Pow Prod Real RealDiv Reciprocal Relu Relu6
    RightShift Rint Round Rsqrt SegmentMax SegmentMean SegmentMin SegmentSum Selu Sigmoid Sign Sin Sinh Softmax
    Softplus Softsign Sqrt Square SquaredDifference Sub Sum Tan Tanh TruncateDiv TruncateMod UnsortedSegmentMax
    UnsortedSegmentMin UnsortedSegmentSum Xdivy Xlog1py Xlogy Zeta
    """,
    "truth and order": """
    All Any ApproximateEqual Equal Greater GreaterEqual IsFinite IsInf IsNan Less LessEqual LogicalAnd LogicalNot
    LogicalOr Max Min NotEqual
    """,
    "text": """
    AsString DecodeRaw RegexFullMatch RegexReplace StaticRegexFullMatch StaticRegexReplace StringFormat StringJoin
    StringLength StringLower StringSplitV2 StringStrip StringToHashBucketFast StringToHashBucketStrong
    StringToNumber StringUpper Substr UnicodeTranscode
    """,
}

COMPUTING = frozenset(name for operations in _KNOWN.values() for name in operations.split())
"""The operations that compute values of values and do nothing else: those of npyflow's own steps, and the usual ones of
a user's function."""

ONLY_COMPUTES = "a transform that only computes"

_SAVING = frozenset({"MergeV2Checkpoints", "RestoreV2", "SaveV2", "ShardedFilename"})
"""Operations that each SavedModel has for writing itself anew; nothing that is loaded calls them."""


_OBJECTS = frozenset({"user_object", "function", "bare_concrete_function", "constant", "captured_tensor"})
_IDENTIFIERS = frozenset(
    {"", "_generic_user_object", "signature_map", *(f"trackable_{kind}_wrapper" for kind in ("list", "dict", "tuple"))}
)
"""Objects that hold others or are called; a class that a program has registered could be anything."""


def read_model(manifest: Manifest, read: Callable[[str], bytes], *, root: str, trust: bool = False) -> dict[str, bytes]:
    """Reads the SavedModel of a data set's transform, which may have any operation where it is trusted.

    `read` reads a file by its path from the data set's root, which is for messages.

    Returns:
        The content of each file by its path from the SavedModel's directory.

    Raises:
        ManifestError: If a file is not as the manifest lists it, or what it says does more than compute.
    """
    above = f"{manifest.transform}/{MODEL}/"
    found = {}
    for file in manifest.files:
        if file.file.startswith(above):
            content = found[file.file.removeprefix(above)] = read(file.file)
            manifest.check_file(file.file, content, f"{root}/{file.file}")
    if GRAPHS not in found:
        raise ManifestError(f"{root}: expected a manifest that lists {above}{GRAPHS}; found none")
    if not trust and (others := find_other(found[GRAPHS])):
        path, more = f"{root}/{above}{GRAPHS}", "; a data set that is trusted as a program is: --trust, or trust=True"
        raise ManifestError(f"{path}: expected {ONLY_COMPUTES}; found {', '.join(others)}{more}")
    return found


def load_model(contents: Mapping[str, bytes]) -> Any:
    """Loads a SavedModel of what `read_model` has returned, and nothing else that may lie beside it."""
    import tensorflow as tf  # only here: most readers apply no transform

    with tempfile.TemporaryDirectory(prefix="npyflow-transform-") as directory:
        for name, content in contents.items():
            path = os.path.join(directory, *name.split("/"))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(content)
        return tf.saved_model.load(directory)


def find_other(graphs: bytes) -> list[str]:
    """What the graphs of a SavedModel, its `saved_model.pb`, do beside computing; nothing where they only compute.

    Raises:
        ManifestError: If it is no SavedModel.
    """
    from google.protobuf.message import DecodeError

    try:
        return sorted(set(_others(graphs)))
    except DecodeError as error:
        raise ManifestError(f"{GRAPHS}: expected a SavedModel; found {error}") from error


def _others(graphs: bytes) -> Iterator[str]:
    """What may do more than compute: operations, and objects that TensorFlow makes of what a SavedModel says."""
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow.python.framework import op_def_registry

    model = saved_model_pb2.SavedModel()
    model.ParseFromString(graphs)
    if len(model.meta_graphs) != 1 or not model.meta_graphs[0].HasField("object_graph_def"):
        yield "a SavedModel as TensorFlow 1 wrote it"
        return
    (graph,) = model.meta_graphs
    for object_node in graph.object_graph_def.nodes:
        kind = object_node.WhichOneof("kind")
        if kind not in _OBJECTS or object_node.user_object.identifier not in _IDENTIFIERS:
            yield f"the object {object_node.user_object.identifier or kind}"
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    # A function that has the name of an operation could stand for either.
    own = {name for name in functions if op_def_registry.get(name) is None}
    called = _reachable(functions, graph.object_graph_def.concrete_functions)
    for name, function in functions.items():
        for node in function.node_def:
            if node.op not in COMPUTING | own and (name in called or node.op not in _SAVING):
                yield f"the operation {node.op}"
    # The nodes outside of functions are not run: they are what TensorFlow 1 and a server of models would take.
    others = {node.op for node in graph.graph_def.node} - COMPUTING - own - _SAVING
    yield from (f"the operation {name}" for name in others)


def _reachable(functions: Mapping[str, Any], roots: Mapping[str, Any]) -> set[str]:
    """The functions that are called from some, directly or by others."""
    found: set[str] = set()
    left = [name for name in roots if name in functions]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += [called for node in functions[name].node_def for called in _named(node) if called in functions]
    return found


def _named(node: Any) -> Iterator[str]:
    """The functions that a node may call."""
    yield node.op
    for value in node.attr.values():
        yield value.func.name
        yield from (function.name for function in value.list.func)
