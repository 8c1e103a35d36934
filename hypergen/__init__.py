"""Learn the distribution of robust networks: a weight generator and its value network.

import hypergen
population = hypergen.load_generator("runs/my-run").sample(8, beta=0.5)
network = hypergen.load_network("runs/my-run/samples/sample-0000.safetensors")
"""

__version__ = "0.1.0"

from hypergen.errors import InputError, RunError
from hypergen.sample import Sampler, load_generator
from hypergen.weights_file import load_network

__all__ = [
    "InputError",
    "RunError",
    "Sampler",
    "__version__",
    "load_generator",
    "load_network",
]
