"""Products in bfloat16 give what rounded operands give; selections are exact; the gradients of models are close."""

import re

import numpy as np
import pytest
import tensorflow as tf

import keras_pretrain as kp
from keras_pretrain.models import precision, products
from keras_pretrain.models.products import (
    KernelProducts,
    add_kernel_gradients,
    affine,
    computing_in,
    one_hot_product,
    permute,
    product,
)

ROWS, INPUTS, OUTPUTS = 24, 40, 64
SIZE = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def rounded(values):
    return tf.cast(tf.cast(values, tf.bfloat16), tf.float32).numpy()


def known_true(values):
    """A condition that XLA does not know to be true."""
    return tf.reshape(values, (-1,))[0] > -1e9


@pytest.fixture
def layers():
    """Kernels and biases."""
    kernels = [tf.Variable(random(INPUTS, OUTPUTS, seed=seed)) for seed in (1, 2)]
    return kernels, [tf.Variable(random(OUTPUTS, seed=seed)) for seed in (3, 4)]


def differentiate(compute, values, variables, precision, jit_compile=True):
    """The results of `compute(values)`, and the gradients of a random linear function of them."""

    @tf.function(jit_compile=jit_compile, autograph=False)
    def run(values):
        collected = KernelProducts(variables)
        arithmetic = computing_in(
            precision, opaque_true=known_true(values) if jit_compile else None, collected=collected
        )
        with tf.GradientTape() as tape, arithmetic:
            tape.watch(values)
            results = compute(values)
            loss = tf.add_n([tf.reduce_sum(each * random(*each.shape, seed=i)) for i, each in enumerate(results)])
        by_values, *gradients = tape.gradient(loss, [values, *variables, *collected.outputs])
        factors = collected.factors(gradients[len(variables) :])
        return results, by_values, gradients[: len(variables)], factors

    results, by_values, gradients, factors = run(tf.constant(values))
    return results, by_values, add_kernel_gradients(gradients, factors)


def assert_near(got, expected, tolerance=0.01):
    assert tf.norm(got - expected) < tolerance * tf.norm(expected)


@pytest.mark.parametrize("jit_compile", [True, False])
@pytest.mark.parametrize("transpose", [False, True])
def test_results_and_gradients_are_those_of_rounded_operands(layers, transpose, jit_compile):
    values = random(ROWS, OUTPUTS if transpose else INPUTS)
    kernels, biases = layers
    if transpose:
        kernels, biases = kernels[:1], [tf.Variable(random(INPUTS, seed=3))]
    results, by_values, gradients = differentiate(
        lambda x: affine(x, kernels, biases, transpose=transpose), values, kernels + biases, "bfloat16", jit_compile
    )
    by_kernels, by_biases = gradients[: len(kernels)], gradients[len(kernels) :]
    expected_by_values = 0
    for i, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
        kernel = rounded(kernel).T if transpose else rounded(kernel)
        weights = rounded(random(ROWS, kernel.shape[1], seed=i))
        np.testing.assert_allclose(results[i], rounded(values) @ kernel + bias, rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(by_biases[i], weights.sum(axis=0), rtol=1e-5, atol=1e-4)
        by_kernel = rounded(values).T @ weights
        # TensorFlow rounds these to bfloat16, whose mantissa has 8 bits.
        np.testing.assert_allclose(by_kernels[i], by_kernel.T if transpose else by_kernel, rtol=2**-8, atol=1e-4)
        expected_by_values += weights @ kernel.T
    np.testing.assert_allclose(by_values, expected_by_values, rtol=1e-5, atol=1e-4)


def test_in_float32_nothing_is_rounded_or_collected(layers):
    values, (kernels, biases) = random(ROWS, INPUTS), layers
    results, _, gradients = differentiate(lambda x: affine(x, kernels, biases), values, kernels + biases, "float32")
    for i in range(2):
        np.testing.assert_allclose(results[i], values @ kernels[i].numpy() + biases[i], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(gradients[i], values.T @ random(ROWS, OUTPUTS, seed=i), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_products_and_permutations_of_batches_of_matrices(transpose_b, jit_compile):
    left, right = random(2, 3, 16, 8), random(2, 3, *((16, 8) if transpose_b else (8, 16)), seed=1)

    def run(precision):
        @tf.function(jit_compile=jit_compile, autograph=False)
        def compute(left, right):
            arithmetic = computing_in(precision, opaque_true=known_true(left) if jit_compile else None)
            with tf.GradientTape() as tape, arithmetic:
                tape.watch([left, right])
                result = permute(product(left, right, transpose_b=transpose_b), (0, 2, 1, 3))
                loss = tf.reduce_sum(tf.sin(result))
            return result, *tape.gradient(loss, [left, right])

        return compute(tf.constant(left), tf.constant(right))

    expected = rounded(left) @ (rounded(right).swapaxes(-1, -2) if transpose_b else rounded(right))
    np.testing.assert_allclose(run("bfloat16")[0], rounded(expected.swapaxes(1, 2)), rtol=2**-7)
    for got, wanted in zip(run("bfloat16"), run("float32"), strict=True):
        assert_near(got, wanted, 0.02)


def test_a_kernel_that_is_used_twice_gets_both_gradients(layers):
    """As word embeddings do that are looked up and predict."""
    kernel, bias = layers[0][0], tf.Variable(random(INPUTS))

    def compute(values):
        hidden = tf.gather(kernel, [3, 0, 3]) * tf.reduce_sum(values)
        return affine(hidden, [kernel], [bias], transpose=True)

    got, expected = (
        differentiate(compute, random(2, INPUTS), [kernel, bias], name)[2] for name in ("bfloat16", "float32")
    )
    for ours, theirs in zip(got, expected, strict=True):
        assert_near(ours, theirs)


@pytest.mark.parametrize("trained", [[0], [1], []])
def test_kernels_that_are_not_trained_need_no_gradient(layers, trained):
    variables = [layers[0][place] for place in trained]
    got, expected = (
        differentiate(lambda x: affine(x, *layers), random(ROWS, INPUTS), variables, name)
        for name in ("bfloat16", "float32")
    )
    for ours, theirs in zip([got[1], *got[2]], [expected[1], *expected[2]], strict=True):
        assert_near(ours, theirs)


def test_logits_of_a_few_classes_are_computed_in_float32():
    kernel, bias = tf.Variable(random(INPUTS, 2)), tf.Variable(random(2))
    values = random(ROWS, INPUTS)
    ((result,), _, _) = differentiate(lambda x: affine(x, [kernel], [bias]), values, [kernel, bias], "bfloat16")
    np.testing.assert_allclose(result, values @ kernel.numpy() + bias, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("has_tf32", [False, True])
def test_selections_are_exact(monkeypatch, has_tf32):
    monkeypatch.setattr(products, "_rounds_to_tf32", lambda: has_tf32)
    values, rows = random(3, 12, 5) * 1e3, np.array([[3, 0], [11, 11], [5, 7]])
    one_hot = tf.one_hot(rows, 12)
    with tf.GradientTape() as tape, computing_in("bfloat16"):
        variable = tf.Variable(values)
        result = one_hot_product(one_hot, tf.convert_to_tensor(variable))
        loss = tf.reduce_sum(result * random(3, 2, 5, seed=1))
    np.testing.assert_array_equal(result, tf.gather(values, rows, batch_dims=1))
    expected = np.zeros_like(values)
    for batch in range(3):
        np.add.at(expected[batch], rows[batch], random(3, 2, 5, seed=1)[batch])
    np.testing.assert_allclose(tape.gradient(loss, variable), expected, rtol=1e-7)


def test_tf32_holds_the_parts_exactly():
    values = tf.constant(random(1000) * np.float32(10) ** np.arange(-20, 20).repeat(25), tf.float32)
    parts = tf.split(products._tf32_parts(values), 3)
    np.testing.assert_array_equal(parts[0] + parts[1] + parts[2], values)
    for part in parts:
        assert not np.any(tf.bitcast(part, tf.int32).numpy() & 0x1FFF)  # the 13 bits that TF32 does not have


def make(kind, tokenizer, precision="float32", **settings):
    tf.keras.utils.set_random_seed(0)
    size = {**SIZE, **settings}
    model = kp.BertPretrainer if kind == "bert" else kp.ElectraPretrainer
    model = model.from_size("tiny", tokenizer, **size)
    rng = np.random.default_rng(1)
    for variable in model.trainable_variables:  # started small, attention's gradients are all but 0
        variable.assign_add(rng.normal(0, 0.1, variable.shape))
    model.compile(tf.keras.optimizers.SGD(0.1), precision=precision)
    return model


@pytest.fixture(scope="module")
def batches(sentences, tokenizer):
    found = {}
    for kind, objective in (("bert", "mlm+nsp"), ("electra", "rtd")):
        features = kp.build_features(sentences, tokenizer, block_size=32, objective=objective)
        found[kind] = next(iter(kp.to_tf_dataset(features, tokenizer, batch_size=8)))
    return found


def gradients_of(model, data):
    batch = model._checked(model._unpack(data))
    sums, gradients = model._gradients(batch, model._counts(batch), tf.constant([0, 0]), None)
    return {name: float(total) for name, total in sums.items() if name.endswith("loss")}, gradients


@pytest.mark.parametrize("kind", ["bert", "electra"])
def test_the_gradients_of_models_are_close_to_those_of_float32(kind, tokenizer, batches):
    # Without masks, an ELECTRA's draws do not depend on rounding.
    settings = {} if kind == "bert" else {"replace_prob": 1e-6}
    losses, exact = gradients_of(make(kind, tokenizer, **settings), batches[kind])
    model = make(kind, tokenizer, "bfloat16", **settings)
    close_losses, close = gradients_of(model, batches[kind])
    assert close_losses == pytest.approx(losses, rel=5e-3)
    scale = max(float(tf.norm(gradient)) for gradient in exact)
    for variable, got, expected in zip(model.trainable_variables, close, exact, strict=True):
        error = float(tf.norm(got - expected) / tf.maximum(tf.norm(expected), 1e-3 * scale))
        assert error < 0.03, variable.name


def test_a_batch_in_parts_has_the_gradients_of_the_whole(tokenizer, batches):
    _, whole = gradients_of(make("bert", tokenizer, "bfloat16"), batches["bert"])
    _, parts = gradients_of(make("bert", tokenizer, "bfloat16", gradient_accumulation_steps=4), batches["bert"])
    scale = max(float(tf.norm(gradient)) for gradient in whole)
    for got, expected in zip(parts, whole, strict=True):
        assert tf.norm(got - expected) < 0.01 * tf.maximum(tf.norm(expected), 1e-3 * scale)


def test_on_a_gpu_only_named_products_are_in_float32_and_selections_in_parts(monkeypatch, tokenizer, batches):
    """In the program before XLA optimizes it, of a step under the policy for GPUs, as it is where TF32 is used."""
    monkeypatch.setattr(products, "_rounds_to_tf32", lambda: True)
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = make("bert", tokenizer)
        batch = model._checked(model._unpack(batches["bert"]))
        program = model._forward_backward.experimental_get_compiler_ir(
            batch, model._counts(batch), tf.constant([0, 0]), tf.constant(0), None
        )(stage="hlo")
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    products_found = re.findall(r"= (\w+)\[([\d,]*)\]\S* dot\((.*?)\)", program)
    assert len(products_found) > 20
    in_float32 = [shape for dtype, shape, _ in products_found if dtype == "f32"]
    width = 3 * SIZE["hidden_size"]
    assert sorted(in_float32) == sorted([f"256,{width}", f"2,{width}"])  # token types, and their gradient


def test_the_fastest_precision_is_chosen_and_a_wrong_one_is_not(monkeypatch, package_log):
    for found, chosen in (
        ((None, 2.5), "bfloat16"),
        ((None, 1.1), "float32"),
        (("Products are wrong", 9.0), "float32"),
    ):
        monkeypatch.setattr(precision, "_compare_precisions", lambda found=found: found)
        assert precision.choose_precision("auto") == chosen
    assert "Products are wrong" in package_log.messages[-1]
    with pytest.raises(ValueError, match=r"bfloat16.*Products are wrong.*float32"):
        precision.choose_precision("bfloat16")
    with pytest.raises(ValueError, match=r"precision.*auto.*float8"):
        precision.choose_precision("float8")


@pytest.mark.parametrize(("capability", "chosen"), [((8, 0), "mixed_bfloat16"), ((7, 5), "float32")])
def test_on_gpus_the_policy_is_chosen_by_their_generation(monkeypatch, capability, chosen):
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: ["GPU:0"])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda device: {"compute_capability": capability})
    assert precision.choose_precision("auto") == chosen


def test_the_test_of_products_finds_wrong_results_and_failures(monkeypatch):
    compare = precision._compare_precisions.__wrapped__
    assert compare()[0] is None
    multiply = products._multiply
    monkeypatch.setattr(products, "_multiply", lambda *args, **kwargs: 1.1 * multiply(*args, **kwargs))
    assert "wrong" in compare()[0]

    def fail(*args, **kwargs):
        raise tf.errors.UnimplementedError(None, None, "no such units")

    monkeypatch.setattr(products, "_multiply", fail)
    assert "no such units" in compare()[0]


def test_a_policy_of_keras_is_no_argument_of_compile(tokenizer):
    with pytest.raises(ValueError, match=r"mixed_bfloat16.*policy.*set_global_policy"):
        make("bert", tokenizer, "mixed_bfloat16")
