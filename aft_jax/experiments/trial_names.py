"""What the directory of a training run is called."""


def trial_name(what: str, beta: float, seed: int) -> str:
    """The name of a run; two betas never share one.

    Args:
        what: is compared: a method, a set of teachers.
        beta: of the run.
        seed: of the run.

    Returns:
        The name.
    """
    short = f"{beta:g}"
    return f"{what}-beta{short if float(short) == beta else repr(beta)}-seed{seed}"
