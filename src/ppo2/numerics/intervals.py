"""Intervals of confidence."""

CONFIDENCE = 0.95


def half_width(error: float, freedom: float) -> float:
    """Half of the interval that holds a mean with 95 % confidence (Student's t).

    Args:
        error: standard error of the mean.
        freedom: degrees of freedom.
    """
    from scipy.special import stdtrit  # here, as importing it takes a tenth of a second: a training starts without

    return error * float(stdtrit(freedom, (1 + CONFIDENCE) / 2))
