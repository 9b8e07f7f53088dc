"""The networks in PyTorch: pure functions of a list of tensors, equal to fedmeta's for the same weights.

Functions in place of modules: `torch.func.functional_call` gives the same gradients and costs more for each call.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from works import CLASSES, HIDDEN, PIXELS, VOCABULARY

Params = list[Tensor]


@dataclass(frozen=True)
class Network:
    """A network.

    Args:
        init: returns new parameters.
        forward: (parameters, x) -> logits [examples, classes].
        from_fedmeta: the parameters (or a direction) from fedmeta's arrays by name.
    """

    init: Callable[[], Params]
    forward: Callable[[Params, Tensor], Tensor]
    from_fedmeta: Callable[[Mapping[str, np.ndarray]], Params]


def mean_loss(network: Network, params: Params, x: Tensor, y: Tensor) -> Tensor:
    """Return the mean cross-entropy."""
    return F.cross_entropy(network.forward(params, x), y)


def _dense(inputs: int, outputs: int, gain: float = 1.0) -> Params:
    return [torch.randn(outputs, inputs) * math.sqrt(gain / inputs), torch.zeros(outputs)]


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def _dense_from(arrays: Mapping[str, np.ndarray], name: str) -> Params:
    return [_tensor(arrays[f"{name}/weight"].T), _tensor(arrays[f"{name}/bias"])]


def _cnn_init() -> Params:
    def convolution(inputs: int, outputs: int) -> Params:
        return [torch.randn(outputs, inputs, 5, 5) * math.sqrt(2 / (25 * inputs)), torch.zeros(outputs)]

    return [*convolution(1, 32), *convolution(32, 64), *_dense(3136, 2048, 2.0), *_dense(2048, CLASSES, 2.0)]


def _cnn(params: Params, x: Tensor) -> Tensor:
    w1, b1, w2, b2, w3, b3, w4, b4 = params
    # One channel: examples, height, width, channels is examples, channels, height, width.
    x = x.reshape(-1, 1, 28, 28)
    # The maximum and ReLU commute, and after pooling there are four times fewer values to rectify.
    x = F.relu(F.max_pool2d(F.conv2d(x, w1, b1, padding=2), 2))
    x = F.relu(F.max_pool2d(F.conv2d(x, w2, b2, padding=2), 2))
    return F.linear(F.relu(F.linear(x.flatten(1), w3, b3)), w4, b4)


def _cnn_from(arrays: Mapping[str, np.ndarray]) -> Params:
    def convolution(name: str, inputs: int) -> Params:
        kernel = arrays[f"{name}/weight"].reshape(5, 5, inputs, -1)
        return [_tensor(kernel.transpose(3, 2, 0, 1)), _tensor(arrays[f"{name}/bias"])]

    # fedmeta flattens height, width, channels; here the channels come first.
    dense = arrays["dense/weight"].reshape(7, 7, 64, -1).transpose(3, 2, 0, 1).reshape(-1, 3136)
    return [
        *convolution("conv1", 1),
        *convolution("conv2", 32),
        _tensor(dense),
        _tensor(arrays["dense/bias"]),
        *_dense_from(arrays, "classes"),
    ]


def _lstm_init() -> Params:
    params = [torch.randn(VOCABULARY, 8)]
    for inputs in (8, 256):
        weight, bias = _dense(inputs, 1024)
        bias[256:512] = 1.0
        params += [weight, bias, torch.randn(1024, 256) / 16]
    return params + _dense(256, VOCABULARY)


def _lstm(params: Params, x: Tensor) -> Tensor:
    sequence = F.embedding(x.t(), params[0])
    for level in (1, 4):
        sequence = _lstm_layer(*params[level : level + 3], sequence)
    return F.linear(sequence[-1], *params[7:])


def _lstm_layer(weight: Tensor, bias: Tensor, recurrent: Tensor, sequence: Tensor) -> Tensor:
    """Run one layer by hand: to double backward as fast as `nn.LSTM`, or faster, and with one bias as in fedmeta."""
    recurrent = recurrent.t()
    output = memory = None
    outputs = []
    for gates in F.linear(sequence, weight, bias).unbind(0):
        i, f, g, o = (gates if output is None else torch.addmm(gates, output, recurrent)).chunk(4, 1)
        new = i.sigmoid() * g.tanh()
        memory = new if memory is None else f.sigmoid() * memory + new
        output = o.sigmoid() * memory.tanh()
        outputs.append(output)
    return torch.stack(outputs)


def _lstm_from(arrays: Mapping[str, np.ndarray]) -> Params:
    params = [_tensor(arrays["embedding"])]
    for level in ("lstm/0", "lstm/1"):
        params += [*_dense_from(arrays, level), _tensor(arrays[f"{level}/recurrent"].T)]
    return params + _dense_from(arrays, "classes")


def _softmax(params: Params, x: Tensor) -> Tensor:
    return F.linear(x.flatten(1), *params)


def _mlp(params: Params, x: Tensor) -> Tensor:
    return F.linear(F.relu(F.linear(x.flatten(1), *params[:2])), *params[2:])


NETWORKS = {
    "cnn": Network(_cnn_init, _cnn, _cnn_from),
    "lstm": Network(_lstm_init, _lstm, _lstm_from),
    "softmax": Network(
        lambda: [torch.zeros(CLASSES, PIXELS), torch.zeros(CLASSES)],
        _softmax,
        lambda arrays: [_tensor(arrays["weight"].T), _tensor(arrays["bias"])],
    ),
    "mlp": Network(
        lambda: [*_dense(PIXELS, HIDDEN, 2.0), *_dense(HIDDEN, CLASSES)],
        _mlp,
        lambda arrays: [*_dense_from(arrays, "0"), *_dense_from(arrays, "1")],
    ),
}


def softmax_to_fedmeta(weight: Tensor, bias: Tensor) -> dict[str, np.ndarray]:
    """Return softmax regression's parameters by fedmeta's names."""
    return {"weight": weight.detach().numpy().T, "bias": bias.detach().numpy()}


def num_parameters(params: Params) -> int:
    """Return how many numbers the tensors hold."""
    return sum(tensor.numel() for tensor in params)


def relative_error(found: Params, right: Params) -> float:
    """Return |found - right| / |right| over all tensors together."""
    difference = sum(float((a - b).square().sum()) for a, b in zip(found, right, strict=True))
    return math.sqrt(difference / sum(float(b.square().sum()) for b in right))
