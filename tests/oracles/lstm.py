"""A stacked LSTM, one character and one layer at a time, in NumPy."""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def forward(params, codes):
    """Return the logits [examples, classes] for codes [examples, characters]."""
    logits = []
    for sequence in codes:
        inputs = [params["embedding"][code] for code in sequence]
        for cell in params["lstm"]:
            units = cell["recurrent"].shape[0]
            output, memory, outputs = np.zeros(units), np.zeros(units), []
            for x in inputs:
                gates = x @ cell["weight"] + output @ cell["recurrent"] + cell["bias"]
                write, forget, new, show = (gates[k * units : (k + 1) * units] for k in range(4))
                memory = sigmoid(forget) * memory + sigmoid(write) * np.tanh(new)
                output = sigmoid(show) * np.tanh(memory)
                outputs.append(output)
            inputs = outputs
        logits.append(inputs[-1] @ params["classes"]["weight"] + params["classes"]["bias"])
    return np.array(logits)
