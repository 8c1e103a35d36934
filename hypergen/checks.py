"""Checks that a robustness figure is real, each with a verdict and its reason.

A network can defeat an attack without being robust: by gradients that vanish or mislead, by logits
so large that cross-entropy saturates, by randomness. Each check looks for one symptom (Carlini et
al. 2019, "On evaluating adversarial robustness"; Croce, Hein 2020, and the flags of AutoAttack).
The figure of a network that has not passed them all needs a stronger attack to be believed.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

import attacks
from attacks.base import differentiate
from attacks.losses import cross_entropy, margin
from hypergen.measure import attacked_batch, for_all, piecewise, predictions, survivors
from targets import Population, outside_dictionary

VERDICTS = ("passed", "suspicious", "masked")
"""From good to bad."""
STEPS = 1, 5, 20, 50, 100
"""Of the attacks whose success is followed."""
RADII = 0.25, 0.5, 1.0, 2.0, 4.0
"""Of the threats whose success is followed, relative to the one in question."""
RESTARTS = 5
QUERIES = 1000


@dataclass(frozen=True)
class Finding:
    """What one check says of one network.

    Attributes:
        verdict: one of `VERDICTS`.
        reason: one line, empty where it passed.
        figures: what was measured, shares of images in [0,1] unless named otherwise.
    """

    verdict: str
    reason: str
    figures: dict[str, Any]


@dataclass
class Case:
    """Networks under suspicion, the images to try them on, and what each attack leaves of these.

    Attributes:
        population: P networks.
        images: [N,C,H,W] in [0,1]; labels [N].
        threat: the one that the figure in question stands for.
        seed: of the attacks' random numbers.
    """

    population: Population
    images: Tensor
    labels: Tensor
    threat: attacks.Threat
    seed: int = 0
    _left: dict[attacks.Attack, Tensor] = field(default_factory=dict)

    def left(self, attack: attacks.Attack) -> Tensor:
        """Which images survive, bool [P,N]; every attack is run once."""
        if attack not in self._left:
            table = survivors(self.population, self.images, self.labels, attack, self.seed)
            self._left[attack] = list(table.values())[-1]
        return self._left[attack]

    def pgd(self, loss: str = "ce", steps: int = 50, radius: float = 1.0) -> attacks.PGD:
        """The white-box attack that the checks vary."""
        threat = replace(self.threat, epsilon=radius * self.threat.epsilon)
        return attacks.PGD(threat, steps=steps, loss=loss)

    def white_box(self, radius: float = 1.0) -> Tensor:
        """Which images survive both losses, bool [P,N]."""
        return self.left(self.pgd(radius=radius)) & self.left(self.pgd("margin", radius=radius))

    def logits(self) -> Tensor:
        """Of the clean images, [P,N,K]."""

        def answer(piece: Population, part: slice) -> Tensor:
            return piece(for_all(self.images[part], piece))

        with torch.no_grad():
            return piecewise(answer, self.population, self.images)

    def flat(self, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """At which clean images the loss has no gradient at all, bool [P,N]."""

        def zero(piece: Population, part: slice) -> Tensor:
            images, labels = (for_all(t[part], piece) for t in (self.images, self.labels))
            slope = differentiate(piece, images, lambda logits: loss(logits, labels))[2]
            return (slope.flatten(2) == 0).all(-1)

        return piecewise(zero, self.population, self.images)


def graded(
    shares: Tensor, limits: tuple[float, float], said: str, **figures: Tensor
) -> list[Finding]:
    """A finding a network: suspicious or masked from `limits` on, `said` of its share [P]."""
    found = []
    for index, share in enumerate(shares.tolist()):
        verdict = VERDICTS[sum(share > limit for limit in limits)]
        reason = "" if verdict == "passed" else said.format(f"{100 * share:.1f} %")
        own = {name: values[index].tolist() for name, values in figures.items()}
        found.append(Finding(verdict, reason, {"share": share, **own}))
    return found


def share(which: Tensor) -> Tensor:
    """bool [P,N] -> [P]."""
    return which.float().mean(1)


def one_step(case: Case) -> list[Finding]:
    """Many steps must break whatever one step breaks."""
    missed = ~case.left(attacks.FGSM(case.threat)) & case.white_box()
    return graded(share(missed), (0.01, 0.05), "one step breaks {} of images that 50 steps leave")


def gradient_free(case: Case) -> list[Finding]:
    """What needs no gradient must not do better than what has it."""
    missed = ~case.left(attacks.Square(case.threat, queries=QUERIES)) & case.white_box()
    said = "Square, without gradients, breaks {} of images that PGD leaves"
    return graded(share(missed), (0.05, 0.1), said)


def noise(case: Case) -> list[Finding]:
    """Random points must break next to nothing that gradients leave."""
    missed = ~case.left(attacks.build("noise", case.threat)) & case.white_box()
    return graded(share(missed), (0.01, 0.05), "noise breaks {} of images that PGD leaves")


def transfer(case: Case) -> list[Finding]:
    """Attacks made for another network must not do better than those made for this one."""
    if len(case.population) < 2:
        return graded(torch.zeros(1), (1, 1), "")
    points = attacked_batch(
        case.population, case.images, case.labels, case.pgd(), case.seed
    ).attacked.roll(1, 0)
    pieces = zip(case.population.pieces(1), points, strict=True)
    right = torch.cat([predictions(piece, own) for (_, piece), own in pieces]) == case.labels
    said = "images attacked for another network break {} that PGD leaves"
    return graded(share(~right & case.white_box()), (0.03, 0.1), said)


def losses(case: Case) -> list[Finding]:
    """Cross-entropy must break about what the margin breaks, which cannot saturate."""
    missed = ~case.left(case.pgd("margin")) & case.left(case.pgd())
    said = "the margin loss breaks {} of images that cross-entropy leaves"
    return graded(share(missed), (0.1, 0.25), said)


def steps(case: Case) -> list[Finding]:
    """Twice the steps must change little."""
    curve = torch.stack([share(case.left(case.pgd(steps=count))) for count in STEPS], dim=1)
    said = f"{STEPS[-1]} steps break {{}} more than {STEPS[-2]}"
    return graded(curve[:, -2] - curve[:, -1], (0.03, 0.1), said, left_after_steps=curve)


def restarts(case: Case) -> list[Finding]:
    """More restarts must change little."""
    once = case.pgd()
    gained = share(case.left(once)) - share(case.left(replace(once, restarts=RESTARTS)))
    return graded(gained, (0.05, 0.15), f"{RESTARTS} restarts break {{}} more than one")


def radius(case: Case) -> list[Finding]:
    """A larger radius must break whatever a smaller one breaks."""
    left = torch.stack([case.white_box(size) for size in RADII])
    worst = torch.stack(
        [share(~small & large) for small, large in zip(left, left[1:], strict=False)]
    )
    said = "a larger radius spares {} of images that a smaller one breaks"
    return graded(worst.amax(0), (0.02, 0.1), said, left_at_radii=left.float().mean(2).T)


def boundless(case: Case) -> list[Finding]:
    """Without a bound nothing must survive."""
    size = float(case.threat.length(torch.ones_like(case.images[0]))) / case.threat.epsilon
    said = "{} survive an attack that may change everything"
    return graded(share(case.white_box(size)), (0.01, 0.1), said)


def gradient(case: Case) -> list[Finding]:
    """The margin must have a gradient in the image, nearly everywhere."""
    said = "the gradient is exactly 0 at {} of images"
    return graded(share(case.flat(margin)), (0.01, 0.1), said)


def logits(case: Case) -> list[Finding]:
    """The outputs must be logits that leave soft-max room: neither saturated nor probabilities."""
    values = case.logits()
    sums = (values.sum(-1) - 1).abs() < 1e-4
    if bool((sums & (values >= 0).all(-1)).all()):
        reason = "the outputs are probabilities, not logits"
        return [Finding("suspicious", reason, {})] * len(values)
    said = "cross-entropy is saturated, its gradient exactly 0, at {} of images"
    spread = values.std(-1).mean(1)
    return graded(share(case.flat(cross_entropy)), (0.1, 1), said, logit_spread=spread)


def randomness(case: Case) -> list[Finding]:
    """Two calls must give the same answer, or a lucky draw counts as robust."""
    differ = (case.logits() != case.logits()).any(-1)
    said = "the answer changes from call to call at {} of images: attack it with eot-pgd"
    return graded(share(differ), (0, 1), said)


def kaf_range(case: Case) -> list[Finding]:
    """Activations must lie inside the dictionary of their KAF: beyond it both value and gradient
    vanish. Judged by the layer where most do not; networks without KAFs pass.
    """
    networks = [case.population.module_at(index) for index in range(len(case.population))]
    by_layer = torch.tensor([list(outside_dictionary(n, case.images).values()) for n in networks])
    worst = by_layer.amax(1) if by_layer.numel() else torch.zeros(len(networks))
    # Ordinary training puts up to .18 outside in a layer.
    said = "{} of the activations of a layer lie outside the dictionary of its KAF"
    return graded(worst, (0.25, 1), said, by_layer=by_layer)


CHECKS: dict[str, Callable[[Case], list[Finding]]] = {
    "one step": one_step,
    "gradient-free": gradient_free,
    "noise": noise,
    "transfer": transfer,
    "losses": losses,
    "steps": steps,
    "restarts": restarts,
    "radius": radius,
    "boundless": boundless,
    "gradient": gradient,
    "logits": logits,
    "randomness": randomness,
    "kaf range": kaf_range,
}
"""Every check by its name; each takes a case to one finding a network."""


def check(case: Case) -> list[dict[str, Any]]:
    """A report a network: its verdict (the worst of all), the reasons, and every finding."""
    found = {name: run(case) for name, run in CHECKS.items()}
    reports = []
    for index in range(len(case.population)):
        own = {name: findings[index] for name, findings in found.items()}
        reports.append(
            {
                "verdict": max((f.verdict for f in own.values()), key=VERDICTS.index),
                "reasons": [f"{name}: {f.reason}" for name, f in own.items() if f.reason],
                "checks": {name: asdict(f) for name, f in own.items()},
            }
        )
    return reports
