"""Every registered attack against every check any attack must pass."""

import inspect
import json
from functools import partial

import pytest

from attacks import ATTACKS, UNIVERSAL, AttackError, Threat, build
from attacks.threat import NORMS
from tests.attacks.conformance import CHECKS, LIMITED

SMALL = {
    "pgd": [
        {"steps": 5, "restarts": 2},
        {"steps": 5, "loss": "margin", "random_start": False},
        {"steps": 3, "loss": "targeted", "restarts": 4},
        {"steps": 3, "loss": "random", "restarts": 4},
    ],
    "apgd-ce": [{"steps": 8, "restarts": 2}],
    "apgd-dlr": [{"steps": 8}],
    "apgd-t": [{"steps": 5}],
    "square": [{"queries": 30}],
    "eot-pgd": [{"steps": 5, "restarts": 2, "samples": 2}],
    "noise": [{"draws": 30}, {"kind": "gaussian", "draws": 30}],
    "deepfool": [{"steps": 5}, {"steps": 3, "candidates": 3}],
    "quick": [{"steps": 3, "queries": 8}],
    "fab-t": [{"steps": 4}],
    "sampling-gradient": [{"schedule": ((2, 20), (2, 130))}],
    "rays": [{"queries": 120}],
    "cw": [
        {"steps": 6, "searches": 2},
        {"steps": 6, "searches": 2, "first_weight": 0.1, "kappa": 0.1},
    ],
    "lbfgs": [{"steps": 4, "searches": 3, "targets": 2}],
    "standard": [{"steps": 2, "queries": 8}],
    "adaptive": [{"steps": 2, "queries": 8, "samples": 2}],
}
CASES = [(name, options) for name in ATTACKS for options in SMALL.get(name, [{}])]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_attack(name, options, check, device):
    check(lambda threat: build(name, threat, **options), device)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ATTACKS)
def test_a_norm_is_known_or_refused(name, norm):
    if norm in LIMITED.get(name, NORMS):
        build(name, Threat(norm, 0.1))
    else:
        with pytest.raises(AttackError, match=f"^{name} knows the norms? .* only, got '{norm}'$"):
            build(name, Threat(norm, 0.1))


@pytest.mark.parametrize("name", ATTACKS)
def test_built_under_its_name(name):
    assert build(name, Threat("linf", 0.1)).name.split("-")[0] == name.split("-")[0]


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (partial(build, "appgd-t"), "unknown attack 'appgd-t'; known: fgsm, .*, torchattacks:NAME"),
        (
            partial(build, "pgd", stepps=3),
            "unknown option of pgd 'stepps'; known: steps,",
        ),
        (partial(build, "fgsm", steps=3), "fgsm has no options, got 'steps'"),
        (partial(build, "pgd", steps=0), "expected steps to be a whole number of at least 1"),
        (partial(build, "pgd", steps=2.5), "expected steps to be a whole number of at least 1"),
        (partial(build, "pgd", steps=True), "expected steps to be a whole number .*, got True"),
        (partial(build, "pgd", step_size=True), "expected step_size to be a finite .*, got True"),
        (partial(build, "pgd", step_size=-1.0), "expected step_size to be a finite number above 0"),
        (partial(build, "pgd", loss="dlr"), "unknown loss 'dlr'"),
        (partial(build, "pgd", restarts=2, random_start=False), "all the same"),
        (partial(build, "random-fgsm", step_size=0.0), "expected step_size to be a finite number"),
        (partial(build, "apgd-ce", loss="cee"), "unknown loss 'cee'; known: ce, dlr"),
        (partial(build, "apgd-t", targets=0), "expected targets to be a whole number"),
        (partial(build, "square", p_init=1.5), r"expected p_init in \(0, 1\], got 1.5"),
        (partial(build, "mi-fgsm", decay=-0.1), "expected a finite decay >= 0, got -0.1"),
        (partial(build, "eot-pgd", samples=0), "expected samples to be a whole number"),
        (partial(build, "sampling-gradient", schedule=()), "expected a schedule of at least one"),
        (partial(build, "sampling-gradient", schedule=((2, 5),)), "an even number, got 5"),
        (partial(build, "sampling-gradient", schedule=((0, 4),)), "expected steps to be a whole"),
        (partial(build, "sampling-gradient", sigma=0.0), "expected sigma to be a finite number"),
        (partial(build, "rays", queries=0), "expected queries to be a whole number"),
        (partial(build, "noise", kind="normal"), "unknown kind of noise 'normal'"),
        (partial(build, "noise", draws=0), "expected draws to be a whole number of at least 1"),
    ],
)
def test_bad_options(attempt, message):
    with pytest.raises(AttackError, match=message):
        attempt(Threat("linf", 0.1))


HUGE = {
    "1e400": 10**400,
    "1e5000": 10**5000,
    "-1e5000": -(10**5000),
    "1e19": 10**19,
    "1e300": 1e300,
    "inf": float("inf"),
    "nan": float("nan"),
    "text": "3",
    "nothing": None,
    "list": [],
    "list of huge": [[10**5000, 2]],
    "complex": 1j,
}
"""What no option of any attack can be, unless it means that nothing is chosen."""


@pytest.mark.parametrize("name", [*ATTACKS, *UNIVERSAL])
def test_options_without_bounds_are_refused_in_one_line(name):
    make, threat = (ATTACKS | UNIVERSAL)[name], Threat("linf", 0.1)
    for option in [*inspect.signature(make).parameters][1:]:
        for case, value in HUGE.items():
            try:
                json.dumps(make(threat, **{option: value}).describe())
            except AttackError as error:
                assert "\n" not in str(error) and len(str(error)) < 300
            else:
                assert case in ("nothing", "1e300" * (option == "schedule")), (option, case)


@pytest.mark.parametrize("value", HUGE.values(), ids=HUGE)
def test_a_threat_without_bounds_is_refused_in_one_line(value):
    for norm, epsilon in (("linf", value), (value, 0.1)):
        with pytest.raises(AttackError) as told:
            Threat(norm, epsilon)
        assert "\n" not in str(told.value) and len(str(told.value)) < 200
