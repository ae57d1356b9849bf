"""Bounds on the mean squared error of any code of an iid source."""

import math


def shannon_lower_bound(entropy_bits: float, rate: float) -> float:
    """The mean squared error that no code of ``rate`` bits per element can go below.

    D(R) >= 2^(2 h) / (2 pi e) * 4^-R, with h the differential entropy in bits; equal for a Gaussian.

    >>> round(shannon_lower_bound(math.log2(math.sqrt(2 * math.pi * math.e)), 2.0), 12)
    0.0625

    Reference: C. E. Shannon, Coding theorems for a discrete source with a fidelity criterion, 1959.
    """
    return float(2.0 ** (2 * (entropy_bits - rate)) / (2 * math.pi * math.e))
