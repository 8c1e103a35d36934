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
from hypergen.measures.attacked import attack_population, attacked_images, predictions
from hypergen.runtime.batching import for_all, map_chunks
from hypergen.runtime.precision import full_precision
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
class CheckResult:
    """What one check says of one network.

    Attributes:
        verdict: one of `VERDICTS`.
        reason: one line, empty where it passed.
        metrics: what was measured, shares of images in [0,1] unless named otherwise.
    """

    verdict: str
    reason: str
    metrics: dict[str, Any]


@dataclass
class CheckContext:
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
    _masks: dict[attacks.Attack, Tensor] = field(default_factory=dict)

    def robust_mask(self, attack: attacks.Attack) -> Tensor:
        """Which images survive, bool [P,N]; every attack is run once."""
        if attack not in self._masks:
            masks = attack_population(self.population, self.images, self.labels, attack, self.seed)
            self._masks[attack] = masks.robust
        return self._masks[attack]

    def pgd(self, loss: str = "ce", steps: int = 50, radius: float = 1.0) -> attacks.PGD:
        """The white-box attack that the checks vary."""
        threat = replace(self.threat, epsilon=radius * self.threat.epsilon)
        return attacks.PGD(threat, steps=steps, loss=loss)

    def white_box(self, radius: float = 1.0) -> Tensor:
        """Which images survive both losses, bool [P,N]."""
        cross_entropy = self.robust_mask(self.pgd(radius=radius))
        return cross_entropy & self.robust_mask(self.pgd("margin", radius=radius))

    def logits(self) -> Tensor:
        """Of the clean images, [P,N,K]."""

        def answer(chunk: Population, image_slice: slice) -> Tensor:
            return chunk(for_all(self.images[image_slice], chunk))

        with torch.no_grad():
            return map_chunks(answer, self.population, self.images)

    def flat(self, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """At which clean images the loss has no gradient at all, bool [P,N]."""

        def zero(chunk: Population, image_slice: slice) -> Tensor:
            own = self.images[image_slice], self.labels[image_slice]
            images, labels = (for_all(tensor, chunk) for tensor in own)
            slope = differentiate(chunk, images, lambda logits: loss(logits, labels))[2]
            return (slope.flatten(2) == 0).all(-1)

        return map_chunks(zero, self.population, self.images)


def grade(
    shares: Tensor, limits: tuple[float, float], reason: str, **metrics: Tensor
) -> list[CheckResult]:
    """A result a network: suspicious or masked beyond `limits` of its share [P], and why."""
    results = []
    for index, share in enumerate(shares.tolist()):
        verdict = VERDICTS[sum(share > limit for limit in limits)]
        told = "" if verdict == "passed" else reason.format(f"{100 * share:.1f} %")
        own = {name: values[index].tolist() for name, values in metrics.items()}
        results.append(CheckResult(verdict, told, {"share": share, **own}))
    return results


def share(which: Tensor) -> Tensor:
    """bool [P,N] -> [P]."""
    return which.double().mean(1)


def one_step(context: CheckContext) -> list[CheckResult]:
    """Many steps must break whatever one step breaks."""
    missed = ~context.robust_mask(attacks.FGSM(context.threat)) & context.white_box()
    return grade(share(missed), (0.01, 0.05), "one step breaks {} of images that 50 steps leave")


def gradient_free(context: CheckContext) -> list[CheckResult]:
    """What needs no gradient must not do better than what has it."""
    missed = (
        ~context.robust_mask(attacks.Square(context.threat, queries=QUERIES)) & context.white_box()
    )
    reason = "Square, without gradients, breaks {} of images that PGD leaves"
    return grade(share(missed), (0.05, 0.1), reason)


def noise(context: CheckContext) -> list[CheckResult]:
    """Random points must break next to nothing that gradients leave."""
    missed = ~context.robust_mask(attacks.build("noise", context.threat)) & context.white_box()
    return grade(share(missed), (0.01, 0.05), "noise breaks {} of images that PGD leaves")


def transfer(context: CheckContext) -> list[CheckResult]:
    """Attacks made for another network must not do better than those made for this one."""
    if len(context.population) < 2:
        return grade(torch.zeros(1), (1, 1), "")
    points = attacked_images(
        context.population, context.images, context.labels, context.pgd(), context.seed
    ).roll(1, 0)
    chunks = zip(context.population.chunks(1), points, strict=True)
    right = torch.cat([predictions(chunk, own) for (_, chunk), own in chunks]) == context.labels
    reason = "images attacked for another network break {} that PGD leaves"
    return grade(share(~right & context.white_box()), (0.03, 0.1), reason)


def losses(context: CheckContext) -> list[CheckResult]:
    """Cross-entropy must break about what the margin breaks, which cannot saturate."""
    missed = ~context.robust_mask(context.pgd("margin")) & context.robust_mask(context.pgd())
    reason = "the margin loss breaks {} of images that cross-entropy leaves"
    return grade(share(missed), (0.1, 0.25), reason)


def steps(context: CheckContext) -> list[CheckResult]:
    """Twice the steps must change little."""
    curve = torch.stack(
        [share(context.robust_mask(context.pgd(steps=count))) for count in STEPS], dim=1
    )
    reason = f"{STEPS[-1]} steps break {{}} more than {STEPS[-2]}"
    return grade(curve[:, -2] - curve[:, -1], (0.03, 0.1), reason, robust_after_steps=curve)


def restarts(context: CheckContext) -> list[CheckResult]:
    """More restarts must change little."""
    once = context.pgd()
    gained = share(context.robust_mask(once)) - share(
        context.robust_mask(replace(once, restarts=RESTARTS))
    )
    return grade(gained, (0.05, 0.15), f"{RESTARTS} restarts break {{}} more than one")


def radius(context: CheckContext) -> list[CheckResult]:
    """A larger radius must break whatever a smaller one breaks."""
    robust = torch.stack([context.white_box(size) for size in RADII])
    worst = torch.stack(
        [share(~small & large) for small, large in zip(robust, robust[1:], strict=False)]
    )
    reason = "a larger radius spares {} of images that a smaller one breaks"
    return grade(worst.amax(0), (0.02, 0.1), reason, robust_at_radii=robust.double().mean(2).T)


def boundless(context: CheckContext) -> list[CheckResult]:
    """Without a bound nothing must survive."""
    size = float(context.threat.length(torch.ones_like(context.images[0]))) / context.threat.epsilon
    reason = "{} survive an attack that may change everything"
    return grade(share(context.white_box(size)), (0.01, 0.1), reason)


def gradient(context: CheckContext) -> list[CheckResult]:
    """The margin must have a gradient in the image, nearly everywhere."""
    reason = "the gradient is exactly 0 at {} of images"
    return grade(share(context.flat(margin)), (0.01, 0.1), reason)


def logits(context: CheckContext) -> list[CheckResult]:
    """The outputs must be logits that leave soft-max room: neither saturated nor probabilities."""
    values = context.logits()
    sums = (values.sum(-1) - 1).abs() < 1e-4
    if bool((sums & (values >= 0).all(-1)).all()):
        reason = "the outputs are probabilities, not logits"
        return [CheckResult("suspicious", reason, {})] * len(values)
    reason = "cross-entropy is saturated, its gradient exactly 0, at {} of images"
    spread = values.std(-1).mean(1)
    return grade(share(context.flat(cross_entropy)), (0.1, 1), reason, logit_spread=spread)


def randomness(context: CheckContext) -> list[CheckResult]:
    """Two calls must give the same answer, or a lucky draw counts as robust."""
    differ = (context.logits() != context.logits()).any(-1)
    reason = "the answer changes from call to call at {} of images: attack it with eot-pgd"
    return grade(share(differ), (0, 1), reason)


def kaf_range(context: CheckContext) -> list[CheckResult]:
    """Activations must lie inside the dictionary of their KAF: beyond it both value and gradient
    vanish. Judged by the layer where most do not; networks without KAFs pass.
    """
    shares = [outside_dictionary(network, context.images) for network in context.population]
    by_layer = torch.tensor([list(own.values()) for own in shares])
    worst = by_layer.amax(1) if by_layer.numel() else torch.zeros(len(shares))
    # Ordinary training puts up to 0.18 outside in a layer.
    reason = "{} of the activations of a layer lie outside the dictionary of its KAF"
    return grade(worst, (0.25, 1), reason, by_layer=by_layer)


CHECKS: dict[str, Callable[[CheckContext], list[CheckResult]]] = {
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
"""Every check by its name; each takes a context to one result a network."""


def check(context: CheckContext) -> list[dict[str, Any]]:
    """A report a network: its verdict (the worst of all), the reasons, and every result."""
    with full_precision():
        results = {name: run(context) for name, run in CHECKS.items()}
    reports = []
    for index in range(len(context.population)):
        own = {name: each[index] for name, each in results.items()}
        reports.append(
            {
                "verdict": max((r.verdict for r in own.values()), key=VERDICTS.index),
                "reasons": [f"{name}: {r.reason}" for name, r in own.items() if r.reason],
                "checks": {name: asdict(r) for name, r in own.items()},
            }
        )
    return reports
