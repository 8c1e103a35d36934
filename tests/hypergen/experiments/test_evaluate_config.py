"""Which evaluations there can be."""

import pytest

from attacks import AttackError
from hypergen.config import TrainConfig
from hypergen.errors import InputError
from hypergen.experiments.evaluate_config import EvaluateConfig


def test_an_attack_of_one_norm_waits_for_what_the_networks_say():
    assert EvaluateConfig(attack="torchattacks:PGDL2").norm is None
    EvaluateConfig(attack="torchattacks:PGDL2", norms="l2=1.5")
    with pytest.raises(AttackError, match="knows the norm l2 only"):
        EvaluateConfig(attack="torchattacks:PGDL2", norm="linf")
    with pytest.raises(AttackError, match="knows the norm l2 only"):
        EvaluateConfig(attack="torchattacks:PGDL2", norms="l2=1.5,linf=.1")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"norms": "linf"}, "linf needs a radius, as in linf=0.3"),
        ({"norms": "linf=x"}, "linf needs a radius"),
        ({"norms": "l3=1"}, 'unknown norm "l3"; known: linf, l2, l1'),
        ({"norms": "l2=1,l2=2"}, "names l2 twice"),
        ({"norms": "l2=1", "norm": "l2"}, "leave out `norm` and `epsilon`"),
        ({"norms": "l2=1", "epsilon": 1.0}, "leave out `norm` and `epsilon`"),
        ({"norms": "l2=1", "step_size": 0.1}, "`step_size` is of one norm"),
        ({"activation": "elu"}, "`activation` is of an external state_dict"),
        ({"dataset": "mnits"}, 'unknown data set "mnits" .did you mean "mnist"'),
        ({"attack": "pgdd"}, 'unknown attack "pgdd" .did you mean "pgd"'),
        ({"step_size": 0}, "`step_size` must be above 0"),
        ({"epsilon": -0.1}, "`epsilon`"),
        ({"epsilon": float("nan")}, "`epsilon`"),
        ({"images": 0}, "`images` must be at least 1"),
        ({"norms": "linf=8"}, "`epsilon` in linf is for pixels"),
        ({"norms": "linf=1/0"}, "linf needs a radius, as in linf=0.3 or linf=8/255"),
    ],
    ids=str,
)
def test_options_that_cannot_be(options, words):
    with pytest.raises(InputError, match=words) as told:
        EvaluateConfig(**options)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("npz:none.npz", "npz:none.npz: No such file or directory"),
        ("npz:.", "npz:.: there is no such file; expected npz:PATH"),
        ("folder:none", "folder:none: there is no such folder"),
        ("torchvision:KMNISTT", 'no data set "KMNISTT" .did you mean "KMNIST"'),
    ],
)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_data_set_that_is_not_there_is_told_before_its_missing_radius(dataset, message, norm):
    with pytest.raises(InputError, match=message):
        TrainConfig.of(dataset=dataset, norm=norm)
    TrainConfig.of(dataset=dataset, norm=norm, epsilon=0.1)  # its files may be elsewhere
