"""Computes matrix products: in float32, or from operands in bfloat16.

The models call `affine`, `product`, `permute` and `one_hot_product` without a precision. `PretrainingStep` sets the
precision with `computing_in` while it traces a step.

Processors with AMX (`amx_bf16` among their flags) multiply bfloat16 operands several times as fast as float32 and sum
in float32. XLA uses these units only if the result is float32 and the left operand is not transposed. The gradient of a
kernel, `inputs^T @ by_outputs`, has a transposed left operand, and XLA widens it to float32; TensorFlow's own `MatMul`
does not. So the compiled step returns the two factors of each kernel's gradient (`KernelProducts`), which are
multiplied outside XLA.

Under the policies `mixed_bfloat16` and `mixed_float16` of Keras, which are for GPUs, values already have the 16-bit
dtype, and products are computed in it.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass

import tensorflow as tf

# Products with fewer outputs stay in float32: only heads with one or two outputs have so few, their kernels do not fill
# the matrix units, and their outputs are logits.
_LEAST_OUTPUTS = 32
_ROWS_OF_ONES = 8
_TF32_BITS = 0xFFFFE000 - 2**32  # a mask for the bits that TF32 keeps: sign, exponent and 10 bits of the mantissa


class KernelProducts:
    """Collects the products with kernels during one pass of a tape; the kernels' gradients are computed from them
    later.

    Args:
      variables: the trained variables.
    """

    def __init__(self, variables: list[tf.Variable]) -> None:
        self.outputs: list[tf.Tensor] = []  # `factors` needs the tape's gradients for these
        self._products: list[tuple[tuple[int, ...], tf.Tensor, bool]] = []
        self._places = {id(variable): place for place, variable in enumerate(variables)}

    def takes(self, kernels: list[tf.Variable]) -> bool:
        """Whether all of the kernels are trained. If only some are, the tape computes their gradients."""
        return all(id(kernel) in self._places for kernel in kernels)

    def add(self, inputs: tf.Tensor, kernels: list[tf.Variable], outputs: list[tf.Tensor], is_transposed: bool) -> None:
        self.outputs += outputs
        self._products.append((tuple(self._places[id(kernel)] for kernel in kernels), inputs, is_transposed))

    def factors(self, by_outputs: list[tf.Tensor]) -> dict[tuple[int, ...], list[tuple[tf.Tensor, tf.Tensor]]]:
        """The factors of the kernels' gradients.

        Args:
          by_outputs: the gradients of the loss with respect to `outputs`.

        Returns:
          `{places: [(left, right), ...]}`, all in bfloat16. `places` are the indices of kernels among the variables.
          The sum of `left^T @ right` over the list is the gradient of these kernels, side by side.
        """
        found: dict[tuple[int, ...], list[tuple[tf.Tensor, tf.Tensor]]] = {}
        remaining = iter(by_outputs)
        for places, inputs, is_transposed in self._products:
            by_output = _side_by_side([next(remaining) for _ in places])
            pair = (tf.cast(inputs, tf.bfloat16), by_output)
            found.setdefault(places, []).append(pair[::-1] if is_transposed else pair)
        return found


@dataclass(frozen=True)
class _Arithmetic:
    is_narrow: bool = False
    opaque_true: tf.Tensor | None = None  # given if XLA compiles, which must not know the value
    collected: KernelProducts | None = None


_FLOAT32 = _Arithmetic()
_ARITHMETIC = ContextVar("arithmetic", default=_FLOAT32)


@contextlib.contextmanager
def computing_in(
    precision: str, *, opaque_true: tf.Tensor | None = None, collected: KernelProducts | None = None
) -> Iterator[None]:
    """Compute products of float32 values in a given precision, in the block of this context manager.

    Args:
      precision: `"float32"`, or `"bfloat16"` (operands are rounded to bfloat16, and products are summed in float32).
      opaque_true: if XLA compiles the computation, a bool scalar that is true but computed from an argument of the
        program (see `permute`). Without it, rounded operands are multiplied in float32; this is slow, but gives the
        same numbers up to the order of the sums.
      collected: collects the products with kernels in bfloat16; these kernels then have no gradient on the tape.
    """
    token = _ARITHMETIC.set(_Arithmetic(precision == "bfloat16", opaque_true, collected))
    try:
        yield
    finally:
        _ARITHMETIC.reset(token)


def affine(
    values: tf.Tensor, kernels: list[tf.Variable], biases: list[tf.Variable], *, transpose: bool = False
) -> list[tf.Tensor]:
    """Compute `values @ kernel + bias` for several kernels, as one product.

    Args:
      values: (rows, inputs).
      kernels: each (inputs, outputs). With `transpose`, a single kernel (outputs, inputs), such as word embeddings.
      biases: (outputs,) each.

    Returns:
      (rows, outputs) for each kernel, in the dtype of `values`.
    """
    arithmetic = _ARITHMETIC.get()
    if not arithmetic.is_narrow or values.dtype != tf.float32 or biases[0].shape[0] < _LEAST_OUTPUTS:
        kernel, bias = (
            tf.cast(each[0] if len(each) == 1 else tf.concat(each, axis=-1), values.dtype) for each in (kernels, biases)
        )
        result = tf.matmul(values, kernel, transpose_b=transpose) + bias
        return [result] if len(kernels) == 1 else tf.split(result, len(kernels), axis=-1)
    opaque_true, collected = arithmetic.opaque_true, arithmetic.collected
    collected = collected if collected is not None and collected.takes(kernels) else None

    @tf.custom_gradient
    def compute(values: tf.Tensor, *parameters: tf.Tensor) -> tuple[list[tf.Tensor], Callable]:
        kernel = _side_by_side(parameters[: len(kernels)])
        bias = tf.concat(parameters[len(kernels) :], axis=0)

        def gradient(*by_results: tf.Tensor) -> tuple[tf.Tensor | None, ...]:
            by_result = _side_by_side(by_results)
            by_values = _multiply(by_result, kernel, opaque_true, transpose_b=not transpose)
            by_kernels = [None] * len(kernels)
            if collected is None:
                factors = (by_result, values) if transpose else (values, by_result)
                by_kernel = _multiply(_transposed(factors[0], opaque_true), factors[1], opaque_true)
                by_kernels = tf.split(by_kernel, len(kernels), axis=1)
            # The sum over rows is a product with ones; for a plain sum, XLA would widen the summands and store them.
            by_bias = _multiply(tf.ones((_ROWS_OF_ONES, tf.shape(values)[0])), by_result, opaque_true)[0]
            return by_values, *by_kernels, *tf.split(by_bias, len(kernels))

        return tf.split(
            _multiply(values, kernel, opaque_true, transpose_b=transpose) + bias, len(kernels), axis=-1
        ), gradient

    results = compute(values, *(tf.convert_to_tensor(each) for each in (*kernels, *biases)))
    if collected is not None:
        collected.add(values, kernels, results, transpose)
    return results


def _side_by_side(matrices: Sequence[tf.Tensor]) -> tf.Tensor:
    """Concatenate matrices along their columns, in bfloat16. They are concatenated as integers of the same bits,
    because XLA would widen bfloat16 values for this."""
    matrices = [tf.cast(each, tf.bfloat16) for each in matrices]
    if len(matrices) == 1:
        return matrices[0]
    return tf.bitcast(tf.concat([tf.bitcast(each, tf.uint16) for each in matrices], axis=1), tf.bfloat16)


def product(left: tf.Tensor, right: tf.Tensor, *, transpose_b: bool = False) -> tf.Tensor:
    """Compute `left @ right` (with `transpose_b`, `left @ right^T`) in the dtype of the operands. Batches of matrices
    are allowed."""
    opaque_true = _ARITHMETIC.get().opaque_true
    if not _ARITHMETIC.get().is_narrow or left.dtype != tf.float32:
        return tf.matmul(left, right, transpose_b=transpose_b)

    @tf.custom_gradient
    def compute(left: tf.Tensor, right: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        def gradient(by_result: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            if transpose_b:
                return _multiply(by_result, right, opaque_true), _multiply(
                    _transposed(by_result, opaque_true), left, opaque_true
                )
            by_left = _multiply(by_result, right, opaque_true, transpose_b=True)
            return by_left, _multiply(_transposed(left, opaque_true), by_result, opaque_true)

        return _multiply(left, right, opaque_true, transpose_b), gradient

    return compute(left, right)


def permute(values: tf.Tensor, permutation: tuple[int, ...]) -> tf.Tensor:
    """Transpose values that are used only in products. In bfloat16 precision, they are rounded like operands.

    XLA would fuse the permutation with the product, but its fast products in bfloat16 do not support this. To prevent
    it, the permuted bits are combined (XOR) with zeros that XLA cannot know, because they depend on `opaque_true`.
    """
    opaque_true = _ARITHMETIC.get().opaque_true
    if not _ARITHMETIC.get().is_narrow or values.dtype != tf.float32:
        return tf.transpose(values, permutation)
    inverse = [permutation.index(axis) for axis in range(len(permutation))]

    @tf.custom_gradient
    def compute(values: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        return _permuted(values, permutation, opaque_true), lambda by_result: _permuted(by_result, inverse, opaque_true)

    return compute(values)


def _permuted(values: tf.Tensor, permutation: Sequence[int], opaque_true: tf.Tensor | None) -> tf.Tensor:
    values = tf.cast(values, tf.bfloat16)
    if opaque_true is None:
        return tf.cast(tf.transpose(values, permutation), tf.float32)
    bits = tf.transpose(tf.bitcast(values, tf.uint16), permutation)
    shape = tf.shape(bits)
    bits = tf.reshape(bits, (-1,))
    nothing = tf.cast(tf.range(tf.size(bits)), tf.uint16) * tf.cast(~opaque_true, tf.uint16)
    bits = tf.reshape(tf.bitwise.bitwise_xor(bits, nothing), shape)
    return tf.cast(tf.bitcast(bits, tf.bfloat16), tf.float32)


def _transposed(matrices: tf.Tensor, opaque_true: tf.Tensor | None) -> tf.Tensor:
    rank = matrices.shape.rank
    return _permuted(matrices, [*range(rank - 2), rank - 1, rank - 2], opaque_true)


def _multiply(left: tf.Tensor, right: tf.Tensor, opaque_true: tf.Tensor | None, transpose_b: bool = False) -> tf.Tensor:
    """Round the operands to bfloat16, and return their product in float32."""
    left, right = tf.cast(left, tf.bfloat16), tf.cast(right, tf.bfloat16)
    if opaque_true is not None:
        return tf.matmul(left, right, transpose_b=transpose_b, output_type=tf.float32)
    return tf.matmul(tf.cast(left, tf.float32), tf.cast(right, tf.float32), transpose_b=transpose_b)


def add_kernel_gradients(gradients: list, factors: dict) -> list[tf.Tensor]:
    """Multiply the factors, and add the products to the tape's gradients. Returns the gradients of all variables.

    Args:
      gradients: the tape's gradients, one for each variable; `None` for a kernel whose whole gradient is in `factors`.
      factors: the result of `KernelProducts.factors`.
    """
    gradients = list(gradients)
    for places, pairs in factors.items():
        for left, right in pairs:
            together = tf.matmul(left, right, transpose_a=True)
            by_kernels = [together] if len(places) == 1 else tf.split(together, len(places), axis=1)
            for place, by_kernel in zip(places, by_kernels, strict=True):
                gradients[place] = _add(gradients[place], by_kernel)
    return gradients


def _add(first: tf.Tensor | tf.IndexedSlices | None, second: tf.Tensor) -> tf.Tensor:
    if isinstance(first, tf.IndexedSlices):
        return _add_rows(second, first.indices, first.values)
    second = tf.cast(second, tf.float32)
    return second if first is None else first + second


@tf.function(jit_compile=True, autograph=False)
def _add_rows(matrix: tf.Tensor, indices: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Add the gradient of an embedding lookup to a matrix. XLA compiles this, because it avoids a copy of the
    matrix."""
    return tf.tensor_scatter_nd_add(tf.cast(matrix, tf.float32), indices[:, tf.newaxis], rows)


def one_hot_product(one_hot: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Compute `one_hot @ values`: each row of `one_hot` selects a row of `values`, without rounding on any device.

    A product is used instead of a gather, because its gradient is then a product, too. The gradient of a gather is a
    scatter, which is slow on a CPU and has no fixed order on a GPU.

    Args:
      one_hot: (..., chosen, rows), 0 or 1.
      values: (..., rows, width), of the same dtype and rank.

    Returns:
      (..., chosen, width). GPUs may round float32 operands to TF32. On these, `values` are split into three parts that
      TF32 represents exactly.
    """
    if values.dtype != tf.float32 or not _rounds_to_tf32():
        return tf.matmul(one_hot, values)

    @tf.custom_gradient
    def compute(values: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        def gradient(by_result: tf.Tensor) -> tf.Tensor:
            return tf.add_n(tf.split(tf.matmul(one_hot, _tf32_parts(by_result), transpose_a=True), 3, axis=-1))

        return tf.add_n(tf.split(tf.matmul(one_hot, _tf32_parts(values)), 3, axis=-1)), gradient

    return compute(values)


def _rounds_to_tf32() -> bool:
    is_enabled = tf.config.experimental.tensor_float_32_execution_enabled()
    return is_enabled and bool(tf.config.get_visible_devices("GPU"))


def _tf32_parts(values: tf.Tensor) -> tf.Tensor:
    """Split each number into three summands of 11, 11 and 2 significant bits: (..., width) float32 → (..., 3 *
    width)."""
    parts = []
    for _ in range(2):
        parts.append(tf.bitcast(tf.bitwise.bitwise_and(tf.bitcast(values, tf.int32), _TF32_BITS), tf.float32))
        values -= parts[-1]
    return tf.concat([*parts, values], axis=-1)
