"""What fools each of several files, tried on all others."""

import pytest
import torch

from attacks import PGD, UNIVERSAL, Threat
from hypergen.errors import InputError, RunError
from hypergen.evaluation.transfer import carried_over
from hypergen.experiments.transfer import TransferConfig, transfer_files

THREAT = Threat("linf", 0.05)


@pytest.mark.parametrize("name", ["pgd", *UNIVERSAL])
def test_the_matrix_of_files(name, base, saved, cpu, tmp_path):
    other = saved(tmp_path / "other.safetensors", "fbf-cnn", seed=1, epsilon=0.1)
    sizes = {"steps": 2, "restarts": 1} if name == "pgd" else {}
    options = TransferConfig(attack=name, images=20, **sizes)
    result = transfer_files([base, other], options, cpu)
    matrix = torch.tensor(result["fooling"], dtype=torch.double)
    assert matrix.shape == (2, 2) and ((matrix >= 0) & (matrix <= 1)).all()
    assert result["white_box"] == pytest.approx(float(matrix.diagonal().mean()))
    assert result["transfer"] == pytest.approx(float(matrix[0, 1] + matrix[1, 0]) / 2)
    assert result["carried_over"] == pytest.approx(carried_over(matrix))
    assert result["attack"]["images"] == 20 and result["attack"]["threat"]["epsilon"] == 0.1
    assert result["attack"].get("fitted") == (20 if name in UNIVERSAL else None)
    assert [row["file"] for row in result["networks"]] == [str(base), str(other)]
    assert result["failed"] == {}


@pytest.mark.parametrize("name", ["pgd", "universal-gradient"])
def test_a_sick_file_is_named_and_costs_the_others_nothing(name, base, saved, cpu, tmp_path):
    cnn = saved(tmp_path / "cnn.safetensors", "fbf-cnn", seed=1, epsilon=0.1)
    loud = saved(tmp_path / "loud.safetensors", "fbf-cnn", epsilon=0.1, size=1e18)
    short = {"steps": 3, "restarts": 1} if name == "pgd" else {}
    options = TransferConfig(attack=name, images=20, **short)
    expected = transfer_files([base, cnn], options, cpu)
    for files in ([loud, base, cnn], [base, loud, cnn], [base, cnn, loud]):
        result = transfer_files(files, options, cpu)
        assert list(result.pop("failed")) == [str(loud)]
        assert result == {key: value for key, value in expected.items() if key != "failed"}
    with pytest.raises(RunError, match="too few networks give numbers: .*loud.safetensors") as told:
        transfer_files([base, loud], options, cpu)
    assert "\n" not in str(told.value) and "base.safetensors" not in str(told.value)


def test_one_network_is_not_enough(base, cpu):
    with pytest.raises(InputError, match="what fools another: got only one"):
        transfer_files([base], TransferConfig(), cpu)


@pytest.mark.parametrize("option", ["steps", "restarts", "step_size"])
def test_options_of_pgd_are_refused_beside_another_attack(option):
    with pytest.raises(InputError) as told:
        TransferConfig(attack="universal-deepfool", **{option: 3})
    assert str(told.value) == f"`{option}` is of pgd, which universal-deepfool does without"


def test_names_of_attacks():
    for name in ("pgd", "universal-deepfool", "torchattacks:BIM"):
        assert TransferConfig(attack=name).source(THREAT).name.startswith(name)
    pgd = TransferConfig(steps=7, restarts=2, step_size=0.01).source(THREAT)
    assert pgd == PGD(THREAT, 7, 0.01, 2)
    with pytest.raises(InputError, match='unknown attack "universal-deepfoo" .did you mean'):
        TransferConfig(attack="universal-deepfoo")
