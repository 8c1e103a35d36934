"""Adversarial attacks on anything that maps images to logits.

One network:

>>> import attacks, torch
>>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 10))
>>> images, labels = torch.rand(8, 1, 4, 4), torch.zeros(8, dtype=torch.int64)
>>> result = attacks.attack("pgd", network, images, labels, epsilon=0.1, steps=20)
>>> result.robust_mask.shape, result.robust_accuracy.shape
(torch.Size([8]), torch.Size([]))

P networks at once, as one model from images [P,B,C,H,W] in [0, 1] to logits [P,B,K]:

>>> population = lambda images: network(images.flatten(0, 1)).view(*images.shape[:2], -1)
>>> pgd = attacks.build("pgd", attacks.Threat("linf", 0.1), steps=20)
>>> stack = images.expand(3, 8, 1, 4, 4)
>>> pgd(population, stack, labels, seeds=[0, 1, 2]).robust_accuracy.shape
torch.Size([3])

`attacks.base` shows how to write an attack. One that is to be shipped is a file named as the field
names it and a line in `ATTACKS` (attacks/registry.py); tests/attacks/conformance.py then tests it.
"""

from attacks.adaptive import adaptive
from attacks.apgd import APGD, TargetedAPGD
from attacks.base import (
    ActiveSet,
    Attack,
    AttackError,
    AttackResult,
    Model,
    PerNetworkRNG,
    differentiate,
    evaluate,
    misclassified,
)
from attacks.carlini_wagner import CarliniWagner
from attacks.deepfool import DeepFool
from attacks.eot import EOTPGD
from attacks.fab import TargetedFAB
from attacks.fgsm import FGSM, LineSearchFGSM, RandomFGSM
from attacks.lbfgs import LBFGS
from attacks.momentum import MomentumFGSM
from attacks.msd import MSD
from attacks.n_fgsm import NFGSM
from attacks.noise import Noise
from attacks.pgd import PGD
from attacks.rays import RayS
from attacks.registry import ATTACKS, build
from attacks.sampling import SamplingGradient
from attacks.single import attack
from attacks.square import Square
from attacks.suite import Suite, quick, standard
from attacks.threat import Threat
from attacks.trades import TRADES
from attacks.universal import UNIVERSAL, Universal, UniversalDeepFool, UniversalGradient, perturbed

__all__ = [
    "APGD",
    "ATTACKS",
    "EOTPGD",
    "FGSM",
    "LBFGS",
    "MSD",
    "LineSearchFGSM",
    "PGD",
    "ActiveSet",
    "Attack",
    "AttackError",
    "AttackResult",
    "CarliniWagner",
    "DeepFool",
    "Model",
    "MomentumFGSM",
    "NFGSM",
    "Noise",
    "PerNetworkRNG",
    "RandomFGSM",
    "RayS",
    "SamplingGradient",
    "Square",
    "Suite",
    "TRADES",
    "TargetedAPGD",
    "TargetedFAB",
    "Threat",
    "UNIVERSAL",
    "Universal",
    "UniversalDeepFool",
    "UniversalGradient",
    "VERSION",
    "adaptive",
    "attack",
    "build",
    "differentiate",
    "evaluate",
    "misclassified",
    "perturbed",
    "quick",
    "standard",
]

VERSION = 1
"""To be raised when an attack finds other images than before, options being equal: what was found
and kept by another version is not gone on from."""
