"""SIMD primitives for numba kernels: short vectors of float32 that live in registers.

Each primitive emits LLVM vector instructions of a width known at compile time, so that nothing depends on what the
auto-vectoriser makes of a loop. A `Lanes(n)` value is an LLVM `<n x float>`; LLVM splits it when the machine's
registers are narrower. Offsets are in elements; no bounds are checked here (`fit` and `predict_proba` check ids).
The arithmetic may be reordered, contracted and use reciprocal estimates with a Newton step, but NaN and infinity are
kept, so that a diverging run can be seen.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.extending import intrinsic, models, register_model

FLAGS = ("nsz", "arcp", "contract", "afn", "reassoc")
FLOAT = ir.FloatType()
INT32 = ir.IntType(32)


class Lanes(types.Type):
    """numba type of `count` float32 lanes held in registers."""

    def __init__(self, count):
        self.count = count
        super().__init__(name=f"Lanes({count})")


@register_model(Lanes)
class LanesModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.VectorType(FLOAT, fe_type.count))


def _constant(argument):
    if not isinstance(argument, types.IntegerLiteral):
        raise TypingError("this argument must be a constant known at compile time")
    return argument.literal_value


def _count(argument):
    return argument.count if isinstance(argument, Lanes) else _constant(argument)


def _bytes(array_type):
    return 2 if array_type.dtype == types.uint16 else 4


def _pointer(context, builder, array_type, array, offset):
    data = cgutils.create_struct_proxy(array_type)(context, builder, value=array).data
    return builder.gep(data, [offset])


def _load(context, builder, array_type, array, offset, count):
    """`<count x float>` at `offset`, widened when the array holds float16 (seen as uint16: numba has no float16)."""
    element = ir.HalfType() if array_type.dtype == types.uint16 else FLOAT
    pointer = _pointer(context, builder, array_type, array, offset)
    lanes = ir.VectorType(element, count)
    value = builder.load(builder.bitcast(pointer, lanes.as_pointer()), align=_bytes(array_type))
    return value if element is FLOAT else builder.fpext(value, ir.VectorType(FLOAT, count))


def _store(context, builder, array_type, array, offset, value):
    pointer = _pointer(context, builder, array_type, array, offset)
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=4)


def _shuffle(builder, value, lanes):
    mask = ir.Constant(ir.VectorType(INT32, len(lanes)), lanes)
    return builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), mask)


def _splat(builder, scalar, count):
    one = ir.VectorType(FLOAT, 1)
    vector = builder.insert_element(ir.Constant(one, ir.Undefined), scalar, ir.Constant(INT32, 0))
    return _shuffle(builder, vector, [0] * count)


def _multiply_add(builder, a, b, c):
    """a * b + c; `contract` lets LLVM fuse it where the machine can."""
    return builder.fadd(builder.fmul(a, b, flags=FLAGS), c, flags=FLAGS)


def _group_sums(builder, value, group):
    """Sums of each run of `group` lanes, as a vector with one lane per run."""
    count = value.type.count
    while group > 16:  # whole registers first
        count, group = count // 2, group // 2
        if count < group:
            raise AssertionError("a group wider than 16 lanes must fill the vector")
        low, high = list(range(count)), list(range(count, 2 * count))
        value = builder.fadd(_shuffle(builder, value, low), _shuffle(builder, value, high), flags=FLAGS)
    step = group // 2
    while step:
        value = builder.fadd(value, _shuffle(builder, value, [i ^ step for i in range(count)]), flags=FLAGS)
        step //= 2
    return _shuffle(builder, value, list(range(0, count, group)))


def _inverse_sqrt(builder, value):
    function_type = ir.FunctionType(value.type, [value.type])
    function = cgutils.get_or_insert_function(builder.module, function_type, f"llvm.sqrt.v{value.type.count}f32")
    root = builder.call(function, [value], fastmath=FLAGS)
    return builder.fdiv(ir.Constant(value.type, [1.0] * value.type.count), root, flags=FLAGS)


@intrinsic(prefer_literal=True)
def zeros(typingctx, count):
    """`count` lanes of zero."""
    n = _constant(count)

    def codegen(context, builder, signature, args):
        return ir.Constant(ir.VectorType(FLOAT, n), [0.0] * n)

    return Lanes(n)(count), codegen


@intrinsic
def lanes(typingctx, value):
    """Number of lanes of `value`."""

    def codegen(context, builder, signature, args):
        return ir.Constant(ir.IntType(64), value.count)

    return types.int64(value), codegen


@intrinsic(prefer_literal=True)
def load(typingctx, array, offset, count):
    """`count` lanes from `array[offset:]` (float32, or float16 widened); `count` may be lanes of that many."""
    n = _count(count)

    def codegen(context, builder, signature, args):
        return _load(context, builder, signature.args[0], args[0], args[1], n)

    return Lanes(n)(array, types.int64, count), codegen


@intrinsic
def store(typingctx, array, offset, value):
    """Writes the lanes of `value` to `array[offset:]`."""

    def codegen(context, builder, signature, args):
        _store(context, builder, signature.args[0], *args)
        return context.get_dummy_value()

    return types.void(array, types.int64, value), codegen


@intrinsic
def multiply_add(typingctx, a, b, c):
    """a * b + c, lane by lane."""

    def codegen(context, builder, signature, args):
        return _multiply_add(builder, *args)

    return a(a, b, c), codegen


@intrinsic
def scaled(typingctx, value, factor):
    """value * factor, every lane by the same float32."""

    def codegen(context, builder, signature, args):
        return builder.fmul(args[0], _splat(builder, args[1], value.count), flags=FLAGS)

    return value(value, types.float32), codegen


@intrinsic
def total(typingctx, value):
    """Sum of all lanes (float32)."""

    def codegen(context, builder, signature, args):
        return builder.extract_element(_group_sums(builder, args[0], value.count), ir.Constant(INT32, 0))

    return types.float32(value), codegen


@intrinsic
def prefetch(typingctx, array, offset):
    """Asks for the cache line of `array[offset]` to be brought to the second-level cache.

    Not to the first: the blocks of a wide row alone would fill it and push out the row being worked on.
    """

    def codegen(context, builder, signature, args):
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1])
        raw = builder.bitcast(pointer, ir.IntType(8).as_pointer())
        function_type = ir.FunctionType(ir.VoidType(), [raw.type, INT32, INT32, INT32])
        function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
        builder.call(function, [raw, INT32(0), INT32(2), INT32(1)])
        return context.get_dummy_value()

    return types.void(array, types.int64), codegen


@intrinsic(prefer_literal=True)
def update(typingctx, other, kappa, eta, l2, inverse_k, per_weight, group, array, offset, sums):
    """One AdaGrad step on the latent vectors at `array[offset:]`, `group` lanes each; `other` holds their partners.

    gradient = kappa * other + l2 * own. The sums of squared gradients are at `array[sums:]`: one per lane if
    `per_weight`, else one per vector, which grows by the mean square over its `1 / inverse_k` true lanes.
    """
    n, width, each = other.count, _constant(group), _constant(per_weight)

    def codegen(context, builder, signature, args):
        partner, kappa_, eta_, l2_, inverse_k_, _, _, W, at, at_sums = args
        array_type = signature.args[7]
        own = _load(context, builder, array_type, W, at, n)
        decay = builder.fmul(_splat(builder, l2_, n), own, flags=FLAGS)
        gradient = _multiply_add(builder, _splat(builder, kappa_, n), partner, decay)
        square = builder.fmul(gradient, gradient, flags=FLAGS)
        if not each:
            square = _group_sums(builder, square, width)
            square = builder.fmul(square, _splat(builder, inverse_k_, n // width), flags=FLAGS)
        before = _load(context, builder, array_type, W, at_sums, square.type.count)
        after = builder.fadd(before, square, flags=FLAGS)
        _store(context, builder, array_type, W, at_sums, after)
        step = builder.fmul(_inverse_sqrt(builder, after), _splat(builder, eta_, square.type.count), flags=FLAGS)
        if not each:
            step = _shuffle(builder, step, [i // width for i in range(n)])
        moved = builder.fsub(own, builder.fmul(step, gradient, flags=FLAGS), flags=FLAGS)
        _store(context, builder, array_type, W, at, moved)
        return context.get_dummy_value()

    real = types.float32
    arguments = (other, real, real, real, real, per_weight, group, array, types.int64, types.int64)
    return types.void(*arguments), codegen
