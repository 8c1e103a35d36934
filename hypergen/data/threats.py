"""What attacks may do to the images of a data set, unless told otherwise."""

import attacks
from hypergen.data.loading import require_there, usual_epsilon
from hypergen.errors import InputError


def threat_on(dataset: str, norm: str, epsilon: float | None) -> attacks.Threat:
    """The threat of that norm and radius; in linf, the data set's usual radius unless given.

    `InputError`: no radius where there is no usual one, or one in linf beyond [0,1].
    """
    if epsilon is None:
        epsilon = usual_epsilon(dataset) if norm == "linf" else None
    if epsilon is None:
        require_there(dataset)  # where that is the mistake, a radius would not help
        raise InputError(
            f"`epsilon` is needed: there is no usual radius in {norm} on {dataset}; for pixels in "
            "[0,1], such as 0.1 or 8/255"
        )
    return pixel_threat(norm, epsilon)


def pixel_threat(norm: str, epsilon: float) -> attacks.Threat:
    """The threat of that norm and radius; `InputError` for a linf radius that is none in [0,1]."""
    if norm == "linf" and epsilon > 1:
        raise InputError(
            f"`epsilon` in linf is for pixels in [0,1], got {epsilon:g}; did you mean "
            f"{epsilon:g}/255?"
        )
    return attacks.Threat(norm, epsilon)
