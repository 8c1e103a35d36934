import random

import numpy as np
import pytest

from hypergen.runtime.torch_state import usual_state


@pytest.mark.parametrize("fails", [False, True])
def test_the_random_states_of_python_and_numpy_stay(fails):
    """scikit-learn, imported for the digits, draws from Python's."""
    random.seed(5)
    np.random.seed(5)
    expected = random.random(), np.random.rand()
    random.seed(5)
    np.random.seed(5)
    try:
        with usual_state():
            random.random()
            np.random.rand(3)
            assert not fails
    except AssertionError:
        pass
    assert (random.random(), np.random.rand()) == expected
