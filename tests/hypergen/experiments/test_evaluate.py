"""Networks from files and in memory, judged."""

import copy
import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

import targets
from attacks import PGD, AttackError, Threat
from hypergen.errors import InputError
from hypergen.evaluation import sanity_checks
from hypergen.evaluation.sanity_checks import CHECKS, VERDICTS
from hypergen.experiments.evaluate import evaluate_files, evaluate_modules, tell_skipped
from hypergen.experiments.evaluate_config import EvaluateConfig
from hypergen.storage.weights import load_network, read_network, save_network
from targets import Population

QUICK = EvaluateConfig(steps=3, restarts=1, images=20)
THREAT = Threat("linf", 0.03)


@pytest.fixture
def judged(cpu):
    """What is found of files."""

    def judge(*paths: Path, options: EvaluateConfig = QUICK, **rest):
        return evaluate_files(paths, options, cpu, **rest)

    return judge


def test_a_file_gets_the_promised_figures(judged, base, digits):
    result = judged(base)
    assert result.keys() == {"attack", "dataset", "measures", "networks", "summary", "failed"}
    assert result["dataset"] == "digits" and result["failed"] == {}
    attack = result["attack"]
    assert (attack["steps"], attack["restarts"], attack["images"]) == (3, 1, 20)
    assert attack["threat"] == {"norm": "linf", "epsilon": 0.1}
    (row,) = result["networks"]
    images, labels = digits.test.first(500)
    right = load_network(base)(images).argmax(1) == labels
    assert row["accuracy"] == pytest.approx(float(right.double().mean()))
    assert row["pgd"] == row["robustness"] <= float(right[:20].double().mean())
    assert row["file"] == str(base) and row["method"] == "standard"
    assert result["summary"]["accuracy"]["mean"] == row["accuracy"]
    json.dumps(result)


def test_the_union_of_norms_is_what_survives_them_all(judged, base, saved, digits, tmp_path):
    other = saved(tmp_path / "other.safetensors", seed=1)
    options = EvaluateConfig(steps=1, restarts=1, images=250, norms="linf=.02,l2=.5,l1=5")
    result = judged(base, other, options=options)
    images, labels = digits.test.first(250)
    threats = [Threat("linf", 0.02), Threat("l2", 0.5), Threat("l1", 5.0)]
    for file, row in zip((base, other), result["networks"], strict=True):
        network = Population.of([load_network(file)])
        masks = {
            threat.norm: PGD(threat, steps=1)(network, images[None], labels, [0]).robust_mask
            for threat in threats
        }
        means = {norm: float(mask.double().mean()) for norm, mask in masks.items()}
        assert row["norms"] == pytest.approx(means)
        assert row["robustness"] == row["norms"]["linf"]
        everywhere = torch.stack(list(masks.values())).all(0).double().mean()
        assert row["union"] == pytest.approx(float(everywhere))
    first = result["networks"][0]
    assert first["union"] < min(first["norms"].values()), "the norms should break other images"
    assert [t["threat"]["norm"] for t in result["attack"]["others"]] == ["l2", "l1"]
    assert result["summary"]["union"]["count"] == 2


def test_a_run_and_its_folder_of_samples_give_the_same(judged, ranged_run):
    result = judged(ranged_run.folder)
    assert result == judged(ranged_run.folder / "samples")
    names = [Path(row["file"]).name for row in result["networks"]]
    assert names == ["sample-0000.safetensors", "sample-0001.safetensors"]
    for row, told in zip(result["networks"], ranged_run.results["networks"], strict=False):
        assert row["accuracy"] == told["accuracy"]
        assert row["z"] == told["z"] and row["beta"] == told["beta"]
    assert 0 <= result["summary"]["disagreement"] <= 1


@pytest.mark.filterwarnings("ignore:assumed")
def test_an_external_state_dict_needs_its_target(judged, base, tmp_path):
    external = tmp_path / "net.pt"
    torch.save({"state_dict": load_network(base).state_dict()}, external)
    with pytest.raises(InputError, match="`target`"):
        judged(external)
    with pytest.raises(InputError, match="`dataset`"):
        judged(external, options=EvaluateConfig(target="mlp"))
    options = replace(QUICK, epsilon=0.1, target="mlp", dataset="digits", image_size=8)
    mine, theirs = judged(base)["networks"][0], judged(external, options=options)["networks"][0]
    assert mine["accuracy"] == theirs["accuracy"] and mine["pgd"] == theirs["pgd"]


@pytest.mark.filterwarnings("ignore:assumed")
def test_what_says_what_it_is_is_taken_at_its_word(judged, base, saved, tmp_path):
    external = tmp_path / "net.safetensors"
    safetensors.torch.save_file(load_network(base).state_dict(), external)
    kwta = saved(tmp_path / "kwta.safetensors", activation="kwta-0.2", epsilon=0.1)
    options = replace(QUICK, target="mlp", dataset="digits", image_size=8)
    mixed = judged(external, kwta, options=options)["networks"]
    assert mixed[0]["pgd"] == judged(base)["networks"][0]["pgd"]
    assert mixed[1] == judged(kwta)["networks"][0]
    with pytest.raises(InputError, match="these files say what they hold"):
        judged(kwta, options=options)
    with pytest.raises(InputError, match="net.safetensors does not say what it holds"):
        judged(external)


def test_other_architectures_in_one_call(judged, base, saved, tmp_path):
    files = [saved(tmp_path / "a.safetensors", "fbf-cnn"), base]
    files.append(saved(tmp_path / "b.safetensors", "mlp", seed=2))
    together = judged(*files)
    assert [row["file"] for row in together["networks"]] == [str(file) for file in files]
    for row, file in zip(together["networks"], files, strict=True):
        assert row == judged(file)["networks"][0]
    assert together["summary"]["count"] == 3 and "disagreement" not in together["summary"]


def test_networks_for_different_epsilons_need_a_choice(judged, saved, tmp_path):
    a = saved(tmp_path / "a.safetensors", epsilon=0.1)
    b = saved(tmp_path / "b.safetensors", epsilon=0.2)
    with pytest.raises(InputError, match="differ in epsilon.*`epsilon`"):
        judged(a, b)
    chosen = EvaluateConfig(steps=1, restarts=1, images=5, epsilon=0.05)
    assert judged(a, b, options=chosen)["attack"]["threat"]["epsilon"] == 0.05


@pytest.mark.filterwarnings("ignore:assumed")
def test_a_network_is_judged_in_the_norm_it_was_made_for(judged, saved, tmp_path):
    file = saved(tmp_path / "a.safetensors", method="pgd", norm="l1", epsilon=4.0)
    options = EvaluateConfig(steps=1, restarts=1, images=5)
    assert judged(file, options=options)["attack"]["threat"] == {"norm": "l1", "epsilon": 4}
    with pytest.raises(InputError, match="`epsilon` is needed: .* in l2"):
        judged(file, options=replace(options, norm="l2"))
    # Its radius in l1 is none in linf, where there is a usual one.
    threat = judged(file, options=replace(options, norm="linf"))["attack"]["threat"]
    assert threat == {"norm": "linf", "epsilon": 0.1}
    with pytest.raises(AttackError, match="deepfool knows the norms linf and l2 only"):
        judged(file, options=replace(options, attack="deepfool"))


def test_the_step_of_pgd_can_be_chosen(judged, base):
    result = judged(base, options=replace(QUICK, step_size=0.004))
    assert result["attack"]["step_size"] == 0.004
    tiny = judged(base, options=replace(QUICK, step_size=1e-6))["networks"][0]["pgd"]
    assert result["networks"][0]["pgd"] <= tiny


def test_standard_is_below_pgd_which_is_below_accuracy(judged, base):
    options = EvaluateConfig(attack="standard", steps=5, restarts=1, images=25, epsilon=0.03)
    result = judged(base, options=options)
    (row,) = result["networks"]
    assert row["robustness"] == row["sra"] <= row["pgd"]
    after = list(row["after"].values())
    assert len(after) == 4 and after == sorted(after, reverse=True) and after[-1] == row["sra"]
    assert result["attack"]["pgd"]["steps"] == 5
    assert result["attack"]["name"] == "standard" and result["summary"]["sra"]["count"] == 1
    clean = judged(base, options=EvaluateConfig(steps=1, restarts=1, images=25, epsilon=0.0))
    assert 0 < row["sra"] <= row["pgd"] < clean["networks"][0]["pgd"]


def test_a_larger_epsilon_is_never_easier(judged, base):
    robust = [
        judged(base, options=EvaluateConfig(steps=10, restarts=1, images=100, epsilon=e))[
            "networks"
        ][0]["robustness"]
        for e in (0.0, 0.02, 0.05, 0.3)
    ]
    assert robust == sorted(robust, reverse=True) and robust[0] > 0.5 and robust[-1] == 0


@pytest.mark.filterwarnings("ignore:assumed")
def test_a_network_for_other_images_is_refused(judged, tmp_path):
    path = tmp_path / "colour.safetensors"
    module = targets.build("mlp", input_shape=(3, 32, 32))
    metadata = {
        "target": "mlp",
        "activation": "relu",
        "num_classes": 10,
        "input_shape": [3, 32, 32],
        "layout": targets.WeightLayout.of(module).fingerprint,
    }
    save_network(path, module.state_dict(), metadata)
    with pytest.raises(InputError, match=r"takes images \[3, 32, 32\]; those of digits"):
        judged(path, options=EvaluateConfig(dataset="digits"))
    with pytest.raises(InputError, match="`dataset`"):
        judged(path)


@pytest.mark.filterwarnings("ignore:assumed")
def test_a_network_of_other_classes_is_refused(judged, tmp_path):
    path = tmp_path / "few.safetensors"
    module = targets.build("mlp", num_classes=7)
    metadata = {
        "target": "mlp",
        "activation": "relu",
        "num_classes": 7,
        "input_shape": [1, 28, 28],
        "layout": targets.WeightLayout.of(module).fingerprint,
    }
    save_network(path, module.state_dict(), metadata)
    with pytest.raises(InputError, match="knows 7 classes; digits has 10"):
        judged(path, options=EvaluateConfig(dataset="digits"))


def test_what_an_earlier_judge_said_is_not_passed_on(judged, base, tmp_path):
    state, metadata = read_network(base)
    path = tmp_path / "boasting.safetensors"
    said = {"sra": 0.9, "after": {"square": 0.9}, "attack": "none", "robustness": 1.0}
    said |= {"verdict": "passed", "reasons": [], "checks": {}, "norms": {"l2": 1.0}, "union": 1.0}
    save_network(path, state, metadata | said)
    result = judged(path, options=replace(QUICK, epsilon=0.3))
    (row,) = result["networks"]
    assert not {"sra", "after", "attack", "verdict", "reasons", "checks", "norms", "union"} & {*row}
    assert row["method"] == "standard" and row["robustness"] == row["pgd"] < 0.5
    assert "sra" not in result["summary"]


def test_networks_judged_as_one(judged, base, saved, digits, tmp_path):
    files = [saved(tmp_path / "a.safetensors", seed=1), base]
    result = judged(*files, options=replace(QUICK, ensemble=True))
    voting, drawn = result["ensemble"]["voting"], result["ensemble"]["random_member"]
    images = digits.test.first(500)
    right = [load_network(file)(images[0]).argmax(1) == images[1] for file in files]
    assert drawn["accuracy"] == pytest.approx(float(torch.stack(right).double().mean()))
    assert 0 <= drawn["robustness"] <= drawn["accuracy"]
    assert 0 <= voting["pgd"] <= 1
    with pytest.raises(InputError, match="`ensemble` needs several networks"):
        judged(base, options=replace(QUICK, ensemble=True))
    with pytest.raises(InputError, match="one architecture"):
        other = saved(tmp_path / "b.safetensors", "fbf-cnn")
        judged(base, other, options=replace(QUICK, ensemble=True))


def test_checks_stand_beside_the_figures(judged, base, monkeypatch):
    monkeypatch.setattr(sanity_checks, "QUERIES", 20)
    (row,) = judged(base, options=replace(QUICK, checks=True))["networks"]
    assert row["verdict"] in VERDICTS and row["checks"].keys() == CHECKS.keys()
    with pytest.raises(InputError, match="`checks` needs an `epsilon` above 0"):
        judged(base, options=replace(QUICK, checks=True, epsilon=0.0))


@pytest.mark.parametrize("name", ["fgsm", "torchattacks:BIM", "quick"])
def test_any_attack_by_name(judged, base, name):
    result = judged(base, options=replace(QUICK, attack=name, images=8))
    (row,) = result["networks"]
    assert result["attack"]["name"] == name and "sra" not in row
    assert list(row["after"].values())[-1] == row["robustness"]
    if name != "quick":
        assert list(row["after"]) == [name]


def test_modules_in_memory_are_judged_as_their_files(judged, base, digits, cpu):
    (expected,) = judged(base)["networks"]
    module = load_network(base).train()
    before = copy.deepcopy(module.state_dict())
    options = replace(QUICK, dataset="digits")
    result = evaluate_modules([module], options, cpu, dataset=digits)
    (row,) = result["networks"]
    assert {name: expected[name] for name in ("accuracy", "pgd", "interval")} == {
        name: row[name] for name in ("accuracy", "pgd", "interval")
    }
    assert row["file"] == "network 0" and module.training
    assert all(before[name].equal(tensor) for name, tensor in module.state_dict().items())
    with pytest.raises(InputError, match="give a `dataset`"):
        evaluate_modules([module], QUICK, cpu)
    with pytest.raises(InputError, match="`ensemble` needs several networks"):
        evaluate_modules([module], replace(options, ensemble=True), cpu, dataset=digits)


def test_files_that_are_left_out_of_a_folder_are_told(base, tmp_path, judged):
    (tmp_path / "a.safetensors").write_bytes(base.read_bytes())
    (tmp_path / ".hidden").touch()
    with warnings.catch_warnings(action="error"):
        tell_skipped([tmp_path, base])  # nothing to tell
    for name in ("b.pt", "c.pt", "d.txt", "e.onnx"):
        (tmp_path / name).touch()
    with pytest.warns(UserWarning) as told:
        judged(tmp_path)
    (message,) = [str(each.message) for each in told]
    assert message.startswith("left out 4 files that are not .safetensors: ")
    assert "b.pt, " in message and "d.txt, ...;" in message and "e.onnx" not in message
