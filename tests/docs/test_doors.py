"""The examples of docs/doors.md run as they stand, as plugins and together."""

import re
from pathlib import Path

import pytest

import hypergen
import targets
from hypergen.experiments import api  # noqa: F401  (whose floors fill the registries)

BLOCKS = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parents[2] / "docs/doors.md").read_text(), re.DOTALL
)


@pytest.fixture
def plugins(tmp_path, registries_as_before):
    """The examples, loaded one by one; afterwards all registries are as they were."""
    for index, block in enumerate(BLOCKS):
        path = tmp_path / f"example_{index}.py"
        path.write_text(block)
        hypergen.load_plugin(str(path))
    return tmp_path


def tiny(out: Path, **options):
    usual = {
        "dataset": "stripes",
        "epsilon": 0.05,
        "steps": 3,
        "population": 2,
        "batch_size": 8,
        "value_steps": 2,
        "max_robustness_gap": 1.0,
        "samples": 2,
        "sra_samples": 0,
    }
    return hypergen.train(out=out, baselines=False, **(usual | options))


def test_own_data_target_generator_and_value_network_train_together(plugins, tmp_path):
    run = tiny(
        tmp_path / "run",
        target="tiny",
        generator="linear",
        value_network="norms",
        objective="value",
    )
    population = run.sample(3)
    images, labels = hypergen.load_dataset("stripes").test.first(5)
    assert population(images.expand(3, *images.shape)).shape == (3, 5, 2)
    result = hypergen.attack("brighter", population[0], images, labels, epsilon=0.1)
    assert result.robust_mask.shape == (5,)


def test_own_measure_is_trained_for(plugins, tmp_path):
    run = tiny(
        tmp_path / "run",
        target="tiny",
        objective="value",
        measure=["accuracy=0.5", "smoothness=0.3", "smoothness:times=2=0.2"],
    )
    assert run.results["measures"] == ["accuracy", "smoothness", "smoothness:times=2"]
    for row in run.results["networks"]:
        if row["kind"] == "sample":
            assert set(row["estimated"]) == set(run.results["measures"])
            assert all(0 <= row[name] <= 1 for name in run.results["measures"])


def test_own_measures_are_taken_of_networks_that_were_not_trained_for_them(plugins, tmp_path):
    run = tiny(tmp_path / "run", target="tiny")
    quick = {"images": 10, "steps": 2, "restarts": 1}
    names = ["smoothness:times=2", "dark:share=0"]
    found = hypergen.evaluate(run, measures=names, **quick)
    images, labels = hypergen.load_dataset("stripes").test.first(10)
    assert len(found["networks"]) == 2 and found["failed"] == {}
    for row in found["networks"]:
        answer = hypergen.load_network(row["file"])(0 * images).argmax(1)
        assert row["dark:share=0"] == float((answer == labels).double().mean())
        assert 0 <= row["smoothness:times=2"] <= 1


def test_own_activation_is_part_of_the_weights(plugins, tmp_path):
    run = tiny(tmp_path / "run", target="mlp", activation="scaled-tanh")
    names = [slot.name for slot in run.sample(1).layout.slots]
    assert any(name.endswith("slope") for name in names)


def test_weight_files_of_own_networks_load_in_plain_pytorch(plugins, tmp_path):
    import safetensors.torch

    run = tiny(tmp_path / "run", target="tiny")
    path = tmp_path / "run" / "samples" / "sample-0000.safetensors"
    module = targets.build("tiny", num_classes=2, input_shape=(1, 12, 12))
    module.load_state_dict(safetensors.torch.load_file(path))
    assert hypergen.load_network(path).once_more.weight.equal(module.again.weight)
    assert run.results["summary"]["sample"]["count"] == 2


def test_own_analysis_looks_at_networks_in_memory(plugins):
    network = targets.build("mlp", num_classes=2, input_shape=(1, 12, 12))
    found = hypergen.analyze(network, "length", "stripes", epsilon=0.1, images=2)
    (row,) = found["analyses"]["length"]["rows"]
    expected = sum(float(each.detach().square().sum()) for each in network.parameters()) ** 0.5
    assert row["length"] == pytest.approx(expected)
    assert found["analyses"]["length"]["failed"] == {}
