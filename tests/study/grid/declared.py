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


SEVERAL = (
    changed(
        ('comparisons = [["maml", "fedavg"]]', 'comparisons = [["maml", "majority"]]'),
        (
            "rounds = 4",
            """rounds = 4
evaluate_at = [2, 4]
compare_at = 4
dose = { rates = [1, 3], steps = 2, parts = ["all"] }""",
        ),
        ("[procedures.fedavg]\noptions = { inner_epochs = 1 }\n", ""),
        ("inner_steps = 1 }", 'inner_steps = 1 }\nalso = ["masked", "prior", "knn-per"]'),
    )
    + """
[procedures.majority]
baseline = "majority"
"""
)
"""One model that is tested at several supports, with doses, what stands beside it, and a baseline."""
