"""FLOPs and bytes, against counts made by hand.

A multiply-add is two operations; only products count.
"""

import jax
import jax.numpy as jnp
import pytest

import fedmeta as fm
from fedmeta import accounting, pytrees
from fedmeta._engine.rewrite.interpreter import Options, rewrite, trace
from tests import toys
from tests.examples import cells

# The paper's CNN, an example: outputs * (inputs to each) * 2.
CONV1, CONV2, DENSE, CLASSES = 784 * 25 * 32 * 2, 196 * 800 * 64 * 2, 3136 * 2048 * 2, 2048 * 62 * 2
CNN = CONV1 + CONV2 + DENSE + CLASSES
# The paper's LSTM, an example: 80 characters through two layers of 256 units with four gates, then the classes.
LSTM = 80 * (8 * 1024 + 256 * 1024 + 256 * 1024 + 256 * 1024) * 2 + 256 * 80 * 2


def spec(shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


def batch(size, example, dtype):
    return fm.Batch.tree_unflatten(None, (spec((size, *example), dtype), spec((size,), jnp.int32), spec((size,))))


def cnn():
    return fm.models.leaf_cnn(), (28, 28, 1), jnp.float32


def lstm():
    return fm.models.char_lstm(80), (80,), jnp.int32


def flops(algorithm, network, support, query):
    model, example, dtype = network()
    phi = jax.eval_shape(lambda: algorithm.init(model, jax.random.key(0)))
    task = fm.Task(batch(support, example, dtype), batch(query, example, dtype))
    return accounting.count_flops(lambda phi, task: algorithm.update(model, phi, task, jax.random.key(0))[0], phi, task)


@pytest.mark.parametrize(("network", "by_hand"), [(cnn, CNN), (lstm, LSTM)])
def test_a_forward_pass_of_the_papers_networks(network, by_hand):
    model, example, dtype = network()
    params = jax.eval_shape(model.init, jax.random.key(0))
    for examples in (1, 3):
        counted = accounting.count_flops(model.apply, params, spec((examples, *example), dtype))
        assert counted == examples * by_hand


def test_the_cnn_has_the_papers_size():
    phi = jax.eval_shape(fm.models.leaf_cnn().init, jax.random.key(0))
    by_hand = (25 * 32 + 32) + (25 * 32 * 64 + 64) + (3136 * 2048 + 2048) + (2048 * 62 + 62)
    assert accounting.num_parameters(phi) == by_hand == 6_603_710


def test_first_order_gradients_cost_three_passes_an_example():
    """Forward, and one product each for the gradients in the weights and in the layer's inputs.

    The first layer's inputs are the data, in which no gradient is taken.
    """
    gradient = 3 * CNN - CONV1
    assert flops(fm.FOMAML(), cnn, 5, 3) == (5 + 3) * gradient


@pytest.mark.parametrize(("support", "query"), cells([(4, 3)], [(1, 1), (4, 3)]))
@pytest.mark.parametrize("algorithm", [fm.MAML(), fm.MetaSGD()], ids=["maml", "meta-sgd"])
def test_a_maml_gradient_costs_nine_passes_a_support_and_three_a_query_example(algorithm, support, query):
    """A layer's support gradient is three products, y = x W, dW = x' d and dx = d W'.

    Each has two factors that depend on the parameters, so going backward through it takes two more: 3 + 6. In the
    CNN's first layer x is the data: dx is not needed, and x' needs no gradient in y and dW: 2 + 2. The LSTM's first
    layer reads an embedding, which is trained.
    """
    by_hand = support * (9 * (CNN - CONV1) + 4 * CONV1) + query * (3 * CNN - CONV1)
    assert flops(algorithm, cnn, support, query) == by_hand
    assert flops(algorithm, lstm, support, query) == (9 * support + 3 * query) * LSTM


def test_convolutions_count_as_the_products_they_are():
    x, kernel = spec((2, 9, 9, 3)), spec((5, 5, 3, 4))

    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    assert accounting.count_flops(convolve, x, kernel) == 2 * (2 * 9 * 9 * 4) * (5 * 5 * 3)


def test_a_convolution_whose_kernel_and_image_change_places_costs_the_same():
    """As in a derivative of a derivative: each number of the image meets each output once, the kernel is larger."""
    x, kernel = spec((2, 4, 5, 3)), spec((7, 8, 3, 6))

    def convolve(x, kernel):
        order = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), ((4, 4), (4, 4)), dimension_numbers=order)

    by_hand = 2 * (2 * 3 * 6) * (4 * 6) * (5 * 6)
    assert jax.eval_shape(convolve, x, kernel).shape == (2, 6, 6, 6)
    assert accounting.count_flops(convolve, x, kernel) == by_hand
    exchanged = rewrite(trace(convolve, x, kernel), Options())
    (equation,) = [
        equation
        for equation in jax.make_jaxpr(exchanged)(x, kernel).eqns
        if equation.primitive.name == "custom_vmap_call"
    ]
    assert [variable.aval.shape for variable in equation.invars] == [(6, 7, 8, 3), (4, 5, 3, 2)]
    assert accounting.count_flops(exchanged, x, kernel) == by_hand


def test_a_loop_counts_as_often_as_it_runs():
    square = spec((4, 4))

    def loop(a):
        return jax.lax.scan(lambda b, _: (jax.jit(jnp.matmul)(a, b), None), a, None, length=7)[0]

    assert accounting.count_flops(loop, square) == 7 * 2 * 4**3
    assert accounting.count_flops(lambda a: jax.lax.fori_loop(0, 3, lambda _, b: a @ b, a), square) == 6 * 4**3


def test_a_loop_of_unknown_length_is_refused_and_a_branch_counts_as_the_dearer():
    square = spec((4, 4))
    with pytest.raises(ValueError, match="known only when it runs"):
        accounting.count_flops(lambda a: jax.lax.while_loop(lambda b: b[0, 0] < 9, lambda b: a @ b, a), square)
    branches = accounting.count_flops(lambda a: jax.lax.cond(a[0, 0] > 0, lambda: a @ a @ a, lambda: a @ a), square)
    assert branches == 2 * 2 * 4**3


def test_elementwise_work_does_not_count():
    assert accounting.count_flops(lambda a: jnp.tanh(a) * a + a.sum(), spec((8, 8))) == 0


def test_a_message_holds_its_arrays_bytes_and_meta_sgds_is_twice_mamls(model):
    shapes = [fm.MAML().init(model, jax.random.key(0)), fm.MetaSGD().init(model, jax.random.key(0))]
    numbers = (toys.FEATURES + 1) * 4 + (4 + 1) * toys.CLASSES
    assert [pytrees.payload(phi) for phi in shapes] == [4 * numbers, 8 * numbers]
    assert pytrees.payload({"a": spec((3,), jnp.float16), "b": spec((), jnp.float64)}) == 3 * 2 + 8


@pytest.mark.parametrize("algorithm", [fm.MAML(), fm.MetaSGD()], ids=["maml", "meta-sgd"])
def test_the_history_carries_bytes_and_flops(algorithm, model):
    data = toys.classification((8, 8, 8))
    run = fm.train(algorithm, model, data, rounds=2, cohort_size=3, support=0.5)
    sent = pytrees.payload(run.state.phi)
    assert run.history["bytes_down"].to_pylist() == [3 * sent] * 2
    # With each message goes its weight.
    assert run.history["bytes_up"].to_pylist() == [3 * (sent + 4)] * 2
    # All clients are of one size, so nothing is padded: 4 support and 4 query examples, 3 clients.
    layers = [2 * toys.FEATURES * 4, 2 * 4 * toys.CLASSES]
    client = 4 * (4 * layers[0] + 9 * layers[1]) + 4 * (2 * layers[0] + 3 * layers[1])
    assert run.history["flops"].to_pylist() == [3 * client] * 2
