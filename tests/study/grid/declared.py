"""A study so small that it takes seconds."""

SMALL = """
seeds = 1

[data.digits]
source = "digits"
options = { num_clients = 12, classes_per_client = 3 }
fractions = [0.5, 0.25, 0.25]
model = "softmax_regression"
rounds = 4
cohort_size = 2
looks = { early = 2, every = 2 }
targets = [0.2]
comparisons = [["maml", "fedavg"]]

[procedures.fedavg]
options = { inner_epochs = 1 }

[procedures.maml]
options = { inner_steps = 1 }
"""


def changed(*pairs):
    text = SMALL
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text
