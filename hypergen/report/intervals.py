"""What a number of images leaves open of a share of them."""


def interval(share: float, images: int) -> list[float]:
    """Wilson's 95 % confidence interval of a share in [0,1] found on so many images."""
    from scipy.stats import binomtest  # here, for it is slow to load

    found = binomtest(round(share * images), images).proportion_ci(method="wilson")
    return [float(found.low), float(found.high)]
