"""What FLamby published for the same four hospitals, to stand beside what is found here."""

SOURCE = (
    "FLamby's Fed-Heart-Disease (Ogier du Terrail et al., NeurIPS 2022, arXiv 2210.04620), from its published result "
    "files: test accuracy in %, the mean of five seeds on one split"
)

PROTOCOL = (
    "On the patients of FLamby's protocol: those of whom the files have all ten values; two thirds train. FLamby "
    "splits once and scales each hospital by its own training patients; here splits are repeated, and the public "
    "ranges scale. Zurich/Basel has one healthy patient among 46 there: its figure is about the ill alone."
)

PUBLISHED: dict[str, dict[str, float]] = {
    "FLamby: all pooled": {"cleveland": 78.3, "budapest": 76.4, "zurich": 75.0, "long-beach": 64.4, "mean": 73.5},
    "FLamby: alone": {"cleveland": 74.6, "budapest": 74.6, "zurich": 72.5, "long-beach": 70.2, "mean": 73.0},
    "FLamby: FedAvg": {"cleveland": 73.1, "budapest": 71.9, "zurich": 65.0, "long-beach": 64.0, "mean": 68.5},
    "FLamby: FedYogi, its best": {
        "cleveland": 76.0,
        "budapest": 75.3,
        "zurich": 73.8,
        "long-beach": 67.6,
        "mean": 73.2,
    },
}
"""By method, the accuracy at each hospital and in the mean, in per cent."""
