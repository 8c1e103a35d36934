import pytest
from torch import Tensor

import attacks
from hypergen.catalog import MEASURES
from hypergen.config import TrainConfig
from hypergen.errors import InputError
from hypergen.measure_spec import MeasureSpec
from hypergen.measures import Accuracy, FunctionMeasure, Robustness, build_measure, build_measures
from tests.hypergen.measures.figures import THREAT, figures, made


@pytest.fixture(autouse=True)
def as_before():
    """Afterwards no measure of a test is registered."""
    names = MEASURES.names()
    yield
    for name in set(MEASURES.names()) - set(names):
        MEASURES.drop(name)


def test_measures_are_in_the_order_of_their_weights_accuracy_first():
    usual = build_measures(TrainConfig.of())
    assert [measure.name for measure in usual] == ["accuracy", "robustness"]
    config = TrainConfig.of(measure=("int8:bits=4=0.5", "robustness:norm=l2,epsilon=1.5=0.2"))
    chosen = build_measures(config)
    names = ["accuracy", "int8:bits=4", "robustness:norm=l2,epsilon=1.5"]
    assert [measure.name for measure in chosen] == names
    assert isinstance(chosen[0], Accuracy) and isinstance(chosen[2], Robustness)
    assert chosen[2].threat == attacks.Threat("l2", 1.5)


MISTAKES = {
    "noise:std=-1": "`std` must be a number from 0, got -1",
    "noise:std=x": "`std` must be a number from 0, got x",
    "noise:std=inf": "`std` must be a number from 0, got inf",
    "noise:std=nan": "`std` must be a number from 0, got nan",
    "weight-noise:std=-0.1": "`std` must be a number from 0, got -0.1",
    "blur:std=0": "`std` must be above 0, got 0",
    "contrast:factor=1.5": "`factor` must be a number from 0 to 1, got 1.5",
    "shift:pixels=1.5": "`pixels` must be a whole number from 0, got 1.5",
    "shift:pixels=-1": "`pixels` must be a whole number from 0, got -1",
    "jpeg:quality=101": "`quality` must be a whole number from 1 to 100, got 101",
    "int8:bits=0": "`bits` must be a whole number from 2 to 32, got 0",
    "int8:bits=x": "`bits` must be a whole number from 2 to 32, got x",
    "int8:per=row": "`per` must be channel or tensor, got row",
    "pruned:share=1.5": "`share` must be a number from 0 to 1, got 1.5",
    "square:queries=0": "`queries` must be a whole number from 1, got 0",
    "square:queries=inf": "`queries` must be a whole number from 1, got inf",
    "robustness:epsilon=x": "expected a finite epsilon >= 0, got 'x'",
    "robustness:epsilon=-1": "expected a finite epsilon >= 0, got -1.0",
    "robustness:epsilon=8": "`epsilon` in linf is for pixels in [0,1], got 8; did you mean 8/255?",
    "robustness:norm=l7": "unknown norm 'l7'; known: linf, l2, l1",
    "robustness:norm=l2": "`epsilon` is needed: the run has no radius in l2",
    "square:norm=l1": "`epsilon` is needed: the run has no radius in l1",
    "transfer:norm=l1": "`epsilon` is needed: the run has no radius in l1",
    "robustness:steps=3": "robustness has no option steps; known: norm, epsilon, attack",
    "robustness:threat=3": "robustness has no option threat; known: norm, epsilon, attack",
    "robustness:norm=l1,epsilon=5,attack=rays": "rays knows the norm linf only, got 'l1'",
    "union": "it needs norms with their radii, as in union:linf=0.2,l2=1.5,l1=8",
    "union:attack=pgd": "it needs norms with their radii, as in union:linf=0.2,l2=1.5,l1=8",
    "union:linf=8": "`epsilon` in linf is for pixels in [0,1], got 8; did you mean 8/255?",
    "union:l2=x": "expected a finite epsilon >= 0, got 'x'",
    "union:l2=-1": "expected a finite epsilon >= 0, got -1.0",
    "union:l3=1": "union has no option l3; known: linf, l2, l1, attack",
    "square:querys=3": 'square has no option querys (did you mean "queries"?); known: norm, epsilon'
    ", queries",
    "accuracy:bits=3": "accuracy has no option bits; known: none",
    "worst-class:images=3": "worst-class has no option images; known: none",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_wrong_option_is_told_in_one_line(text):
    with pytest.raises(InputError) as told:
        made(text)
    assert str(told.value) == f"`measure` {text}: {MISTAKES[text]}"


def test_what_a_users_own_class_makes_of_wrong_values_is_told_too():
    @MEASURES.register("own")
    class Own(Accuracy):
        def __init__(self, power: float = 1.0):
            self.power = power + 1

    assert made("own:power=2").power == 3  # pyright: ignore
    with pytest.raises(InputError, match="^`measure` own:power=x: .*str.*$"):
        made("own:power=x")
    MEASURES.register("abstract")(Robustness.__mro__[1])
    with pytest.raises(InputError, match="^`measure` abstract: .*abstract"):
        made("abstract")
    MEASURES.register("none")(type("NoMeasure", (), {"__init__": lambda self: None}))
    with pytest.raises(InputError, match="the measure none must be a hypergen.Measure"):
        made("none")


def test_a_function_is_called_with_its_options(mixture, images):
    seen = []

    @MEASURES.register("plain")
    def plain(population, images: Tensor, labels: Tensor, scale: float = 1.0, **others) -> Tensor:
        seen.append(others)
        return scale * population.theta.new_tensor([0.1, 0.2, 0.4])

    measure = made("plain:scale=0.5,more=x")
    assert isinstance(measure, FunctionMeasure) and measure.name == "plain:scale=0.5,more=x"
    assert figures(measure, mixture, *images).tolist() == pytest.approx([0.05, 0.1, 0.2])
    assert seen == [{"more": "x"}]


def test_a_name_that_is_nearly_right_is_recognised():
    with pytest.raises(InputError, match='unknown measure "nosie" .did you mean "noise"'):
        build_measure(MeasureSpec.parse("nosie=1"), THREAT)
    with pytest.raises(InputError, match='unknown attack "pgdd" .did you mean "pgd"'):
        made("robustness:attack=pgdd")


@pytest.mark.parametrize("settings", [{"beta": 0}, {"measure": ("accuracy=1", "int8:bits=4=1")}])
def test_a_range_of_epsilon_is_refused_where_nothing_depends_on_it(settings):
    with pytest.raises(InputError, match="nothing that this run is trained for depends on"):
        build_measures(TrainConfig.of(epsilon=(0, 0.1), **settings))
    assert build_measures(TrainConfig.of(epsilon=0.1, **settings))
    assert build_measures(TrainConfig.of(epsilon=(0, 0.1), measure=("certified=1",)))
