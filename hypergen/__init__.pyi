from hypergen.config import TrainConfig as TrainConfig
from hypergen.data import Dataset as Dataset
from hypergen.errors import InputError as InputError
from hypergen.errors import RunError as RunError
from hypergen.evaluation.sampler import Sampler as Sampler
from hypergen.experiments.api import attack as attack
from hypergen.experiments.api import baseline as baseline
from hypergen.experiments.api import ensemble as ensemble
from hypergen.experiments.api import evaluate as evaluate
from hypergen.experiments.api import load_dataset as load_dataset
from hypergen.experiments.api import register_activation as register_activation
from hypergen.experiments.api import register_attack as register_attack
from hypergen.experiments.api import register_dataset as register_dataset
from hypergen.experiments.api import register_generator as register_generator
from hypergen.experiments.api import register_target as register_target
from hypergen.experiments.api import register_value_network as register_value_network
from hypergen.experiments.api import train as train
from hypergen.experiments.run import Run as Run
from hypergen.experiments.run import load_generator as load_generator
from hypergen.experiments.run_folder import ReportConfig as ReportConfig
from hypergen.plugins import load_plugin as load_plugin
from hypergen.storage.export import export as export
from hypergen.storage.weights import load_network as load_network
from hypergen.training.direct_config import BaselineConfig as BaselineConfig
from targets import Ensemble as Ensemble
from targets import Population as Population

__version__: str
