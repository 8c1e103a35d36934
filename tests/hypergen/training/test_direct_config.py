import pytest
import torch

from attacks import MSD, PGD, AttackError, Threat
from hypergen.data.builtin import INFOS
from hypergen.errors import InputError
from hypergen.training.direct_config import BaselineConfig, DirectPlan

DIGITS = INFOS["digits"]


def planned(**settings) -> DirectPlan:
    return DirectPlan.of(BaselineConfig.of(**settings), DIGITS, 1168)


@pytest.mark.parametrize("method", ["fbf", "n-fgsm", "pgd", "trades"])
def test_the_radius_trained_against_grows_until_the_learning_rate_falls(method):
    def radius(progress, **settings):
        return planned(method=method, **settings).training_attack(progress).threat.epsilon

    radii = [radius(p, epsilon=0.2, epsilon_factor=1.25) for p in (0.1, 0.2, 0.4, 0.7, 1)]
    assert radii == pytest.approx([0.0625, 0.125, 0.25, 0.25, 0.25])
    assert radius(1, epsilon=0.2) == pytest.approx(0.23)


def test_the_share_of_kwta_falls_evenly_over_the_first_half():
    settings = {"activation": "kwta-0.1", "share_start": 1.0, "epochs": 10}
    shares = [planned(**settings).share(epoch) for epoch in range(10)]
    assert shares == pytest.approx([1.0, 0.82, 0.64, 0.46, 0.28, *[0.1] * 5])
    assert planned(activation="kwta-0.1").share(0) is None
    assert planned(activation="kwta-0.1").config.final_share == 0.1
    assert planned().config.final_share is None
    before = torch.get_rng_state()
    assert planned(activation="kaf").config.final_share is None  # whose weights are drawn
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "fgsm"}, 'unknown method "fgsm"'),
        ({"method": "pdg"}, r'unknown method "pdg" \(did you mean "pgd"\?\)'),
        ({"dataset": "x"}, "unknown data set"),
        ({"target": "x"}, 'unknown target "x"'),
        ({"activation": "rleu"}, r'unknown activation "rleu" \(did you mean "relu"\?\)'),
        ({"epochs": 0}, "`epochs` must be at least 1, got 0"),
        ({"epsilon_factor": -1}, "`epsilon_factor` must be at least 0, got -1"),
        ({"epsilon_factor": -1, "method": "pgd", "epsilon": 0.0}, "`epsilon_factor` must be"),
        ({"method": "standard", "epsilon_factor": 2.0}, "`beta` and `epsilon_factor` are of"),
        ({"method": "standard", "beta": 0.5}, "`beta` and `epsilon_factor` are of"),
        ({"learning_rate": 0.0}, "`learning_rate` must be above 0, got 0"),
        ({"beta": 1.5}, r"`beta` must lie in \[0,1\], got 1.5"),
        ({"ema_decay": 1.0}, r"`ema_decay` must lie in \[0,1\), got 1"),
        ({"ema_decay": float("nan")}, r"`ema_decay` must lie in \[0,1\), got nan"),
        ({"label_smoothing": 1.0}, r"`label_smoothing` must lie in \[0,1\), got 1"),
        ({"awp": -1.0}, "`awp` must be at least 0, got -1"),
        ({"method": "trades", "beta": 0.5}, "by `trades_weight`: leave out `beta`"),
        ({"method": "ibp", "beta": 0.5}, "the weight of ibp's bounds is published: leave out"),
        ({"method": "ibp", "norm": "l2", "epsilon": 1.0}, "ibp bounds what happens in linf, not"),
        ({"trades_weight": 3.0}, "`trades_weight` is of trades: leave it out with fbf"),
        ({"method": "standard", "trades_weight": 3.0}, "of trades: leave it out with standard"),
        ({"method": "n-fgsm", "norms": "l2=1"}, "leave it out with n-fgsm"),
        ({"method": "msd"}, "msd needs `norms`, such as linf=0.3,l2=1.5,l1=10"),
        ({"method": "avg", "epsilon": 0.1}, "avg needs `norms`, such as"),
        ({"method": "avg", "norms": ""}, 'unknown norm ""; known: linf, l2, l1'),
        ({"method": "msd", "norms": "l3=1"}, 'unknown norm "l3"; known: linf, l2, l1'),
        ({"method": "msd", "norms": "l2"}, "`norms`: l2 needs a radius"),
        ({"method": "pgd", "norms": "l2=1"}, "`norms` is of avg and msd: leave it out with pgd"),
        ({"method": "msd", "norms": "l2=1", "epsilon": 0.1}, "leave out `norm` and `epsilon`"),
        ({"method": "msd", "norms": "l2=1", "norm": "l1"}, "leave out `norm` and `epsilon`"),
        ({"share_start": 0.5}, "`share_start` needs k-WTA, such as kwta-0.1, not relu"),
        ({"share_start": 0.05, "activation": "kwta-0.1"}, r"must lie in \[0.1,1\], got 0.05"),
    ],
)
def test_wrong_settings_are_refused(wrong, message):
    with pytest.raises(InputError, match=message) as caught:
        BaselineConfig.of(**wrong)
    assert "\n" not in str(caught.value)


def test_norms_other_than_linf_need_an_epsilon_and_fbf_has_no_recipe_in_l1():
    with pytest.raises(InputError, match="`epsilon` is needed: there is no usual radius in l2"):
        BaselineConfig(norm="l2")
    with pytest.raises(AttackError, match="random-fgsm knows the norms linf and l2 only"):
        BaselineConfig(norm="l1", epsilon=5)
    with pytest.raises(AttackError, match="n-fgsm knows the norms linf and l2 only"):
        BaselineConfig(method="n-fgsm", norm="l1", epsilon=5)
    plan = planned(method="pgd", norm="l1", epsilon=5, epsilon_factor=1.2)
    assert plan.training_attack(1.0) == PGD(Threat("l1", 6), steps=7)


def test_the_metadata_say_what_was_trained_whatever_was_left_to_the_recipe():
    given = planned(method="pgd", epsilon=0.2, beta=0.5, seed=3).metadata()
    assert given == {
        "method": "pgd",
        "epochs": 40,
        "epsilon_trained": pytest.approx(0.23),
        "learning_rate": 5e-3,
        "beta": 0.5,
        "share_start": None,
        "ema_decay": 0.0,
        "label_smoothing": 0.0,
        "awp": 0.0,
        "lipschitz_bound": None,
        "trades_weight": None,
        "pretrained": False,
        "seed": 3,
        "epsilon": 0.2,
        "norm": "linf",
        "norms_trained": None,
    }
    standard = planned(method="standard").metadata()
    assert standard["beta"] == standard["epsilon_trained"] == 0.0
    assert planned(method="ibp").metadata()["beta"] == 0.5


@pytest.mark.parametrize("settings", [{"method": "standard"}, {"beta": 0.0}, {"epsilon": 0.0}])
def test_nothing_is_attacked_without_a_reason(settings):
    assert planned(**settings).training_attack(1.0) is None


def test_the_average_is_kept_on_colour_images_unless_it_is_said():
    cifar, plain = INFOS["cifar10"], BaselineConfig.of(target="resnet20", dataset="cifar10")
    assert DirectPlan.of(plain, cifar, 45000).ema_decay == 0.9995 and planned().ema_decay == 0
    assert DirectPlan.of(plain.replace(ema_decay=0.0), cifar, 45000).ema_decay == 0
    assert planned(ema_decay=0.5).metadata()["ema_decay"] == 0.5


def test_a_gradient_costs_what_is_forwarded_and_differentiated():
    def cost(**settings):
        return planned(epochs=1, **settings).cost / (3 * 1168)

    assert cost(method="standard") == 1 and cost(method="n-fgsm") == 2
    assert cost(method="trades") == 12 and cost(method="trades", awp=0.01) == 14
    assert cost(method="pgd", awp=0.01) == 9


def test_losses_on_clean_and_attacked_images_both_take_gradients():
    images = 1168
    assert planned(method="fbf", epochs=2, beta=0.5).gradient_evaluations == 2 * 3 * images
    assert planned(method="fbf", epochs=1, beta=0.0).gradient_evaluations == images
    assert planned(method="pgd", epochs=3, awp=0.01, beta=0.5).gradient_evaluations == 33 * images


def test_steps_are_those_of_all_epochs():
    assert planned(epochs=5).steps == 5 * 12  # 1,168 images in batches of 100


def test_several_norms_are_trained_against_at_their_grown_radii():
    settings = {"norms": "l2=1,linf=0.125", "epsilon_factor": 1.5}
    half = Threat("l2", 0.75), Threat("linf", 0.09375)
    msd, avg = (planned(method=name, **settings).training_attack(0.2) for name in ("msd", "avg"))
    assert msd == MSD(half, steps=7)
    assert avg == tuple(PGD(threat, steps=7) for threat in half)
    plan = planned(method="msd", **settings)
    assert plan.config.threats == [Threat("l2", 1.0), Threat("linf", 0.125)]
    told = plan.metadata()
    assert (told["norms_trained"], told["norm"], told["epsilon"]) == ("l2=1,linf=0.125", "l2", 1.0)
    assert told["epsilon_trained"] == 1.5


def test_several_norms_cost_what_their_gradients_and_looks_do():
    """In forward passes for each image and epoch; a gradient costs three."""
    norms = {"norms": "l2=1,linf=0.1,l1=4", "epochs": 1}
    pgd, avg, msd = (
        planned(method=name, **(norms if name != "pgd" else {"epochs": 1})).cost
        for name in ("pgd", "avg", "msd")
    )
    assert pgd == 1168 * 3 * (7 + 1) and avg == 3 * pgd
    assert msd == pytest.approx(1168 * (3 + 7 * (3 + 3)))
