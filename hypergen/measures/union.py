"""Robustness to attacks in several norms at once (Tramer, Boneh 2019, "Adversarial training and
robustness for multiple perturbations").
"""

import attacks
from hypergen.catalog import MEASURES
from hypergen.errors import InputError
from hypergen.measures.base import Stage
from hypergen.measures.robustness import AttackedMeasure, Robustness


@MEASURES.register("union")
class Union(AttackedMeasure):
    """Share of images that survive attacks in every norm; options linf, l2, l1 (radii), attack.

    Of an image attacked in each norm the one that a network is most wrong about counts, by the
    margin of its logits: it is right about that one only if it is right about all, and about the
    clean image. Its cross-entropy is what `direct` descends, "MAX" in the paper.

    Args:
        threat: of the run, which nothing here depends on.
        linf, l2, l1: radius in that norm, for pixels in [0,1]; norms without one are left out.
        attack: as of `Robustness`, the same in every norm.
    """

    name = "union"

    def __init__(
        self,
        threat: attacks.Threat,
        linf: float | None = None,
        l2: float | None = None,
        l1: float | None = None,
        attack: str | None = None,
    ):
        radii = {"linf": linf, "l2": l2, "l1": l1}
        self.parts = [
            Robustness(threat, norm, radius, attack)
            for norm, radius in radii.items()
            if radius is not None
        ]
        if not self.parts:
            raise InputError("it needs norms with their radii, as in union:linf=0.2,l2=1.5,l1=8")
        self.only_broken = attack is not None

    def attack_at(self, stage: Stage) -> attacks.Attack:
        return attacks.Suite(*(part.attack_at(stage) for part in self.parts))
