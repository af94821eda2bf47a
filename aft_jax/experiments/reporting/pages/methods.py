"""What each method is, in a few words, for the notes below a table."""

from collections.abc import Iterable, Mapping

MEANINGS: Mapping[str, str] = {
    "stl": "plain fine-tuning of the student, without a teacher",
    "aft": "Adaptive Feature Transfer, which adds beta times the distance R between the kernel of "
    "the student's features and that of the teachers' features weighted by learned gates",
    "aft_rbf": "AFT with a Gaussian kernel",
    "aft_dense": "AFT with a learned matrix in place of the gates",
    "aft_uniform": "AFT without gates: all features of the teachers count alike",
    "aft_no_kernel": "a learned linear map from the teachers' features to the student's, no kernel",
    "kkd": "kernels again, with the learned linear map on the student's side",
    "kd": "a learned linear map from the student's features to the teachers'",
    "rkd": "relational distillation: distances and angles between examples",
    "ft": "factor transfer: the student predicts codes of the teachers' features",
    "btune": "B-Tuning: the student predicts what a Bayesian linear model on the teachers' "
    "features says",
    "kd_logits": "distillation of softened class probabilities, from a probe on the features",
    "spkd": "similarity-preserving distillation: row-normalised similarities of the batch",
    "cka": "centred kernel alignment of the student's and the teachers' features",
    "fconcat": "a linear probe on the teachers' features; no student is trained",
    "concat": "the teachers fine-tuned themselves, their features side by side",
}
"""Method -> what it is, without a full stop."""


def meanings(methods: Iterable[str]) -> list[str]:
    """One note for each method that has a meaning here.

    Args:
        methods: their names.

    Returns:
        Sentences.
    """
    return [f"{name}: {MEANINGS[name]}." for name in methods if name in MEANINGS]
