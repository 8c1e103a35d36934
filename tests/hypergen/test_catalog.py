"""The registries, and calling what users bring by the names of its arguments."""

import subprocess
import sys

import pytest

import attacks
import targets
from hypergen.catalog import ACTIVATIONS, ATTACKS, TARGETS, call_by_name
from hypergen.errors import InputError


def test_the_registries_hold_what_the_packages_below_have():
    assert TARGETS.names() == list(targets.TARGETS)
    assert ACTIVATIONS.names() == list(targets.ACTIVATIONS)
    assert ATTACKS.names() == list(attacks.ATTACKS)


def test_making_them_imports_no_torch():
    code = "import sys, hypergen.catalog; assert not {'torch', 'targets'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["kwta-0.1", "kaf-40", "kaf-elu-40"])
def test_activations_of_other_shares_and_sizes_are_known(name):
    ours, theirs = ACTIVATIONS.get(name)(3), targets.make_activation(name, 3)
    assert type(ours) is type(theirs) and str(ours) == str(theirs)


def test_attacks_of_torchattacks_are_known():
    made = ATTACKS.get("torchattacks:MIFGSM")(attacks.Threat("linf", 0.1))
    assert made.name == "torchattacks:MIFGSM"


@pytest.mark.parametrize("registry", [TARGETS, ACTIVATIONS, ATTACKS])
def test_what_is_no_name_is_refused(registry):
    with pytest.raises(InputError, match=f"unknown {registry.kind}"):
        registry.get("kaf-relu-elu")


def test_a_function_gets_what_it_takes_by_name():
    def some(size):
        return size

    def anything(**options):
        return options

    def optional(other=3, *, size=0):
        return other, size

    offered = {"size": 1, "grey": True}
    assert call_by_name(some, **offered) == 1
    assert call_by_name(anything, **offered) == offered
    assert call_by_name(optional, **offered) == (3, 1)
    assert call_by_name(lambda: 7, **offered) == 7


def test_a_function_that_wants_something_else_is_told():
    def wants(colour):
        return colour

    with pytest.raises(InputError, match="wants wants an argument colour; .* any of size, grey"):
        call_by_name(wants, size=1, grey=True)
