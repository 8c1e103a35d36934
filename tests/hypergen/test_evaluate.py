import json
import os
import re
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

import targets
from attacks import PGD, AttackError, Threat
from hypergen import data, evaluate
from hypergen.baseline import BaselineConfig, fresh_target, save_baseline
from hypergen.checks import CHECKS, VERDICTS
from hypergen.cli import main
from hypergen.errors import InputError
from hypergen.evaluate import OUTSIDE, EvaluateConfig, Judge, evaluate_files
from hypergen.record import Bits
from hypergen.run import run
from hypergen.weights_file import load_network, read_metadata, save_network
from targets import Population

QUICK = EvaluateConfig(steps=3, restarts=1, images=20)
THREAT = Threat("linf", 0.03)


@pytest.fixture
def judged(cpu, tmp_path):
    """The JSON that `hypergen evaluate` writes about paths."""

    def judge(*paths: Path, options: EvaluateConfig = QUICK):
        evaluate_files(paths, options, cpu, None, tmp_path / "figures.json")
        return json.loads((tmp_path / "figures.json").read_text())

    return judge


def saved(
    path: Path,
    target: str = "mlp",
    epsilon: float | None = None,
    seed: int = 0,
    activation: str = "relu",
) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = fresh_target(target, activation, "digits")
    config = BaselineConfig(target=target, activation=activation, epsilon=epsilon, seed=seed)
    save_baseline(path, module, config)
    return path


def test_a_file_gets_the_promised_figures(judged, base, digits):
    result = judged(base)
    assert result.keys() == {"attack", "dataset", "networks", "summary"}
    assert result["dataset"] == "digits"
    attack = result["attack"]
    assert (attack["steps"], attack["restarts"], attack["images"]) == (3, 1, 20)
    assert attack["threat"] == {"norm": "linf", "epsilon": 0.1}
    (row,) = result["networks"]
    images, labels = digits.test.first(500)
    right = load_network(base)(images).argmax(1) == labels
    assert row["accuracy"] == pytest.approx(float(right.float().mean()))
    assert row["pgd"] == row["robustness"] <= float(right[:20].float().mean())
    assert row["file"] == str(base) and row["method"] == "standard"
    assert result["summary"]["accuracy"]["mean"] == row["accuracy"]


def test_the_union_of_norms_is_what_survives_them_all(judged, base, digits, capsys):
    other = saved(base.parent / "other.safetensors", seed=1)
    options = EvaluateConfig(steps=1, restarts=1, images=250, norms="linf=.02,l2=.5,l1=5")
    result = judged(base, other, options=options)
    images, labels = digits.test.first(250)
    threats = [Threat("linf", 0.02), Threat("l2", 0.5), Threat("l1", 5.0)]
    for file, row in zip((base, other), result["networks"], strict=True):
        network = Population.of([load_network(file)])
        left = {
            threat.norm: PGD(threat, steps=1)(network, images[None], labels, [0]).correct
            for threat in threats
        }
        means = {norm: float(bits.float().mean()) for norm, bits in left.items()}
        assert row["norms"] == pytest.approx(means)
        assert row["robustness"] == row["norms"]["linf"]
        everywhere = torch.stack(list(left.values())).all(0).float().mean()
        assert row["union"] == pytest.approx(float(everywhere))
    first = result["networks"][0]
    assert first["union"] < min(first["norms"].values()), "the norms should break other images"
    assert [t["threat"]["norm"] for t in result["attack"]["others"]] == ["l2", "l1"]
    assert result["summary"]["union"]["count"] == 2
    head, line = capsys.readouterr().out.splitlines()[:2]
    assert re.split(r"  +", head) == ["network", "accuracy", "pgd linf", "union"]
    shown = [first["accuracy"], first["norms"]["linf"], first["union"]]
    assert [float(cell) for cell in line.split()[-3:]] == pytest.approx(
        [100 * share for share in shown], abs=0.01
    )


def test_a_run_and_its_folder_of_samples_give_the_same(judged, tiny, small_report, cpu, tmp_path):
    folder = tmp_path / "run"
    expected = run(tiny, folder, cpu, sizes=small_report, baselines=False)
    result = judged(folder)
    assert result == judged(folder / "samples")
    names = [Path(row["file"]).name for row in result["networks"]]
    assert names == ["sample-0000.safetensors", "sample-0001.safetensors"]
    for row, told in zip(result["networks"], expected["networks"], strict=False):
        assert row["accuracy"] == told["accuracy"]
        assert row["z"] == told["z"] and row["beta"] == told["beta"]
    assert 0 <= result["summary"]["disagreement"] <= 1


def test_an_attack_of_one_norm_waits_for_what_the_networks_say():
    assert EvaluateConfig(attack="torchattacks:PGDL2").norm is None
    EvaluateConfig(attack="torchattacks:PGDL2", norms="l2=1.5")
    with pytest.raises(AttackError, match="knows the norm l2 only"):
        EvaluateConfig(attack="torchattacks:PGDL2", norm="linf")
    with pytest.raises(AttackError, match="knows the norm l2 only"):
        EvaluateConfig(attack="torchattacks:PGDL2", norms="l2=1.5,linf=.1")


def test_a_foreign_state_dict_needs_its_target(judged, base, tmp_path):
    foreign = tmp_path / "net.pt"
    torch.save({"state_dict": load_network(base).state_dict()}, foreign)
    with pytest.raises(InputError, match="--target"):
        judged(foreign)
    with pytest.raises(InputError, match="--dataset"):
        judged(foreign, options=EvaluateConfig(target="mlp"))
    options = EvaluateConfig(
        steps=3, restarts=1, images=20, epsilon=0.1, target="mlp", dataset="digits"
    )
    mine, theirs = judged(base)["networks"][0], judged(foreign, options=options)["networks"][0]
    assert mine["accuracy"] == theirs["accuracy"] and mine["pgd"] == theirs["pgd"]


def test_pgd_is_the_one_that_was_asked_for():
    judge = Judge(THREAT, steps=3, restarts=4, step_size=0.02)
    assert judge.pgd == judge.judging == PGD(THREAT, 3, 0.02, restarts=4)
    options = EvaluateConfig(steps=3, restarts=4, step_size=0.02, seed=7, images=30)
    assert options.judge(THREAT) == replace(judge, seed=7, images=30)


def test_the_seed_and_the_data_set_tell_what_is_known_already(base, digits, tmp_path):
    """One step from a random start breaks other images for another seed; nothing is mixed up."""
    population = Population.of([load_network(base)])
    other = replace(digits, name="other", test=digits.val)
    found = {}
    for bits in (None, Bits(tmp_path / "bits.jsonl"), Bits(tmp_path / "bits.jsonl")):
        for seed in range(3):
            for dataset in (digits, other):
                judge = Judge(THREAT, steps=1, restarts=1, images=129, seed=seed, bits=bits)
                (row,) = judge.judge(population, dataset, "judging")
                assert found.setdefault((seed, dataset.name), row) == row
                images, labels = dataset.test.first(129)
                by_hand = PGD(THREAT, 1)(population, images[None], labels, [seed])
                assert row["pgd"] == pytest.approx(float(by_hand.robust_accuracy))
    assert len({row["pgd"] for row in found.values()}) > 2


def test_what_says_what_it_is_is_taken_at_its_word(judged, base, tmp_path):
    foreign = tmp_path / "net.safetensors"
    safetensors.torch.save_file(load_network(base).state_dict(), foreign)
    kwta = tmp_path / "kwta.safetensors"
    recipe = BaselineConfig(target="mlp", activation="kwta-0.2", epsilon=0.1)
    save_baseline(kwta, fresh_target("mlp", "kwta-0.2", "digits"), recipe)
    options = replace(QUICK, target="mlp", dataset="digits")
    mixed = judged(foreign, kwta, options=options)["networks"]
    assert mixed[0]["pgd"] == judged(base)["networks"][0]["pgd"]
    assert mixed[1] == judged(kwta)["networks"][0]
    with pytest.raises(InputError, match="these files say what they hold"):
        judged(kwta, options=options)
    with pytest.raises(InputError, match="net.safetensors does not say what it holds"):
        judged(foreign)


def test_no_other_file_is_written_over(judged, base, cpu, tmp_path, capsys):
    saved(tmp_path / "net.safetensors")
    (tmp_path / "config.json").write_text("{}")
    report = {"attack": {}, "dataset": "digits", "networks": [], "value_network": {}}
    (tmp_path / "results.json").write_text(json.dumps(report))
    os.mkfifo(tmp_path / "pipe")

    def there() -> dict[Path, tuple[int, ...]]:
        stats = {path: path.stat() for path in tmp_path.iterdir()}
        return {path: (s.st_mode, s.st_ino, s.st_size, s.st_mtime_ns) for path, s in stats.items()}

    before = there()
    for path in before:
        assert main(["evaluate", str(base), "--images", "5", "--json", str(path)]) == 2
        said = capsys.readouterr().err
        assert said.startswith("hypergen: --json: ") and said.count("\n") == 1
    assert there() == before


def test_a_link_stays_one(base, cpu, tmp_path):
    link, file = tmp_path / "link.json", tmp_path / "file.json"
    link.symlink_to(file)
    for _ in range(2):  # the second time over its own
        evaluate_files([base], QUICK, cpu, None, link)
        assert link.is_symlink() and json.loads(file.read_text())["dataset"] == "digits"


def test_the_table_says_where_an_attack_is_weaker_than_pgd(base, cpu, capsys):
    evaluate_files([base], replace(QUICK, attack="noise"), cpu, None, None)
    said = capsys.readouterr().out
    assert "noise-uniform is weaker here than PGD" in said and "beside pgd-3-1" in said
    evaluate_files([base], replace(QUICK, attack="fgsm", epsilon=0.0), cpu, None, None)
    assert "weaker" not in capsys.readouterr().out


def test_other_architectures_in_one_call(judged, base, tmp_path):
    files = [saved(tmp_path / "a.safetensors", "small-lenet5"), base]
    files.append(saved(tmp_path / "b.safetensors", "mlp", seed=2))
    together = judged(*files)
    assert [row["file"] for row in together["networks"]] == [str(file) for file in files]
    for row, file in zip(together["networks"], files, strict=True):
        assert row == judged(file)["networks"][0]
    assert together["summary"]["count"] == 3 and "disagreement" not in together["summary"]


def test_networks_for_different_epsilons_need_a_choice(judged, tmp_path):
    a = saved(tmp_path / "a.safetensors", epsilon=0.1)
    b = saved(tmp_path / "b.safetensors", epsilon=0.2)
    with pytest.raises(InputError, match="differ in epsilon.*--epsilon"):
        judged(a, b)
    chosen = EvaluateConfig(steps=1, restarts=1, images=5, epsilon=0.05)
    assert judged(a, b, options=chosen)["attack"]["threat"]["epsilon"] == 0.05
    for option in ({"epsilon": -0.1}, {"epsilon": float("nan")}):
        with pytest.raises(ValueError, match="epsilon"):
            judged(a, options=EvaluateConfig(**option))


def test_a_network_is_judged_in_the_norm_it_was_made_for(judged, tmp_path):
    file = tmp_path / "a.safetensors"
    module = fresh_target("mlp", "relu", "digits")
    recipe = BaselineConfig("pgd", target="mlp", norm="l1", epsilon=4)
    save_baseline(file, module, recipe)
    options = EvaluateConfig(steps=1, restarts=1, images=5)
    assert judged(file, options=options)["attack"]["threat"] == {"norm": "l1", "epsilon": 4}
    with pytest.raises(InputError, match="--norm l2 needs an --epsilon"):
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
    with pytest.raises(InputError, match="step-size"):
        EvaluateConfig(step_size=0)


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


def test_a_network_for_other_images_is_refused(judged, tmp_path):
    path = tmp_path / "colour.safetensors"
    module = targets.build("mlp", input_shape=(3, 32, 32))
    layout = targets.WeightLayout.of(module).fingerprint
    metadata = {
        "target": "mlp",
        "activation": "relu",
        "num_classes": 10,
        "input_shape": [3, 32, 32],
        "layout": layout,
    }
    save_network(path, module.state_dict(), metadata)
    with pytest.raises(InputError, match=r"takes images \[3, 32, 32\]; those of digits"):
        judged(path, options=EvaluateConfig(dataset="digits"))
    with pytest.raises(InputError, match="--dataset"):
        judged(path)


def test_find(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        evaluate.find([tmp_path / "none"])
    with pytest.raises(InputError, match="holds no .safetensors"):
        evaluate.find([tmp_path])
    with pytest.raises(InputError, match="nothing to evaluate"):
        evaluate.find([])


def test_nothing_is_written_when_the_attack_cannot_run(base, tmp_path, capsys):
    """A network whose logits overflow cannot be judged; said in one line."""
    network = load_network(base)
    state = {name: tensor * 1e30 for name, tensor in network.state_dict().items()}
    path, figures = tmp_path / "loud.safetensors", tmp_path / "figures.json"
    save_network(path, state, read_metadata(base))
    status = main(["evaluate", str(path), "--images", "5", "--steps", "1", "--json", str(figures)])
    assert status == 2 and not figures.exists()
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "NaN or infinite logits" in said


def test_what_an_earlier_judge_said_is_not_passed_on(judged, tmp_path):
    path = tmp_path / "boasting.safetensors"
    said = {"sra": 0.9, "after": {"square": 0.9}, "attack": "none", "robustness": 1.0}
    module = fresh_target("mlp", "relu", "digits")
    save_baseline(path, module, BaselineConfig(target="mlp", epsilon=0.1), **said)
    result = judged(path, options=replace(QUICK, epsilon=0.3))
    (row,) = result["networks"]
    assert not {"sra", "after", "attack", "epsilon"} & row.keys() and row["method"] == "fbf"
    assert row["robustness"] == row["pgd"] < 0.5 and "sra" not in result["summary"]


def test_networks_judged_as_one(judged, networks, base, tmp_path, capsys):
    files = [saved(tmp_path / "a.safetensors", seed=1), base]
    result = judged(*files, options=replace(QUICK, together=True))
    voting, redrawn = result["together"]["voting"], result["together"]["redrawn"]
    images = data.load("digits").test.first(500)
    right = [load_network(file)(images[0]).argmax(1) == images[1] for file in files]
    assert redrawn["accuracy"] == pytest.approx(float(torch.stack(right).float().mean()))
    assert 0 <= redrawn["robustness"] <= redrawn["accuracy"]
    assert 0 <= voting["pgd"] <= 1
    assert {"voting", "redrawn"} <= {
        line.split(" ")[0] for line in capsys.readouterr().out.split("\n")
    }
    judged(*files, options=replace(QUICK, together=True, attack="fgsm"))
    (line,) = (row for row in capsys.readouterr().out.split("\n") if row.startswith("redrawn"))
    assert line.split()[-1] == "-"  # by PGD alone
    with pytest.raises(InputError, match="--together needs several networks"):
        judged(base, options=replace(QUICK, together=True))
    with pytest.raises(InputError, match="one architecture"):
        other = saved(tmp_path / "b.safetensors", "small-lenet5")
        judged(base, other, options=replace(QUICK, together=True))


def test_checks_stand_beside_the_figures(judged, base, monkeypatch, capsys):
    monkeypatch.setattr("hypergen.checks.QUERIES", 20)
    (row,) = judged(base, options=replace(QUICK, checks=True))["networks"]
    assert row["verdict"] in VERDICTS and row["checks"].keys() == CHECKS.keys()
    assert f"base.safetensors: {row['verdict']} (" in capsys.readouterr().out
    with pytest.raises(InputError, match="--checks needs an --epsilon above 0"):
        judged(base, options=replace(QUICK, checks=True, epsilon=0.0))


def test_inputs_outside_the_dictionary_of_their_kaf_stand_beside_robustness(
    judged, base, digits, tmp_path, capsys
):
    kaf = saved(tmp_path / "kaf.safetensors", activation="kaf-elu")
    plain, row = judged(base, kaf)["networks"]
    network = load_network(kaf)
    inputs = network.layers[0](digits.test.first(20)[0].flatten(1))
    assert row["outside_dictionary"] == pytest.approx(float((inputs.abs() > 3).float().mean()))
    assert "outside_dictionary" not in plain
    table = capsys.readouterr().out
    assert table.splitlines()[0].split()[-1] == "outside" and OUTSIDE in table
    judged(base)
    assert OUTSIDE not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "after"), [("fgsm", ["fgsm"]), ("torchattacks:BIM", ["torchattacks:BIM"])]
)
def test_any_attack_by_name(judged, base, capsys, name, after):
    result = judged(base, options=replace(QUICK, attack=name))
    (row,) = result["networks"]
    assert result["attack"]["name"] == name and "sra" not in row
    assert list(row["after"]) == after and row["after"][name] == row["robustness"]
    head, line, told = capsys.readouterr().out.splitlines()[:3]
    assert head.split() == ["network", "accuracy", "pgd", "robustness"]
    assert float(line.split()[-1]) == pytest.approx(100 * row["robustness"], abs=0.01)
    assert name in told


def test_a_suite_by_its_name(base, capsys):
    options = ["--suite", "quick", "--images", "5", "--restarts", "1"]
    assert main(["evaluate", str(base), *options]) == 0
    assert "quick" in capsys.readouterr().out


def test_the_interval_is_wilsons_and_the_table_tells_its_longer_half(judged, base, capsys):
    """By the formula (Wilson 1927), z = 1.96."""
    (row,) = judged(base)["networks"]
    share, count, z = row["pgd"], 20, 1.959964
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * (share * (1 - share) / count + z**2 / (4 * count**2)) ** 0.5 / (1 + z**2 / count)
    assert row["interval"] == pytest.approx([middle - half, middle + half], abs=1e-6)
    longer = 100 * (half + abs(middle - share))
    assert f"pgd open by up to {longer:.1f} points (95 %)" in capsys.readouterr().out


def test_quantiles_of_a_population(judged, base, tmp_path):
    files = [saved(tmp_path / f"{seed}.safetensors", seed=seed) for seed in range(2)]
    summary = judged(*files, base)["summary"]["accuracy"]
    assert summary["min"] <= summary["quantiles"][0] <= summary["quantiles"][2]
    assert summary["quantiles"][2] == statistics.median(
        row["accuracy"] for row in judged(*files, base)["networks"]
    )
