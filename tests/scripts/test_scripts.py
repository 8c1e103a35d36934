"""The scripts behind the README's figures, on as little as they can run on."""

import json
import math
import random
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

import attacks
from attacks.threat import Threat
from hypergen import checkpoint, data, train
from hypergen.baseline import (
    BaselineConfig,
    BaselineTraining,
    fresh_target,
    save_baseline,
    train_baseline,
)
from hypergen.checkpoint import CHECKPOINT
from hypergen.cli import main as hypergen
from hypergen.config import TrainConfig
from hypergen.diversity import differences
from hypergen.errors import InputError
from hypergen.evaluate import find
from hypergen.generator import PublishedGenerator
from hypergen.measure import survivors
from hypergen.weights_file import load_network
from scripts import (
    bench_fbf,
    bench_population,
    bench_scaling,
    compare_autoattack,
    compare_diversity,
    compare_halving,
    compare_measurers,
    compare_value_networks,
    convergence,
    mnist_table,
)
from scripts.foreign_networks import Foreign
from targets import Population


def brief_run(folder, seed=0):
    """The folder of a run of two steps on digits."""
    options = ["--target", "mlp", "--steps", "2", "--population", "2", "--batch-size", "8"]
    options += ["--samples", "1", "--sra-samples", "0", "--images", "4", "--epsilon", "0.02"]
    options += ["--seed", str(seed)]
    assert hypergen(["train", "--no-baseline", *options, "--out", str(folder)]) == 0
    return folder


def test_bench_population(tmp_path, written):
    config = bench_population.BenchConfig(
        dataset="digits",
        networks=3,
        trained=1,
        epochs=4,
        crowd=5,
        images=30,
        steps=3,
        batch_size=16,
        turn=2,
        threads=1,
        out=tmp_path / "results" / "bench.json",
    )
    bench_population.main(config)
    figures = written(config.out)
    robust = figures["robust_accuracy"]
    assert len(robust["hypergen"]) == 3 and len(figures["seconds"]["hypergen"]) == 2
    assert 0 < figures["ratio"] < math.inf
    assert 0.1 < figures["peak_gib"] < 4
    # From the same starts, and an image that any point visited breaks is lost.
    assert figures["never_higher"]
    assert 0 < sum(robust["hypergen"]) <= sum(robust["torchattacks"])
    # Samples of a run are attacked as what they are.
    bench_population.main(replace(config, run=brief_run(tmp_path / "run")))
    figures = written(config.out)
    assert (figures["target"], figures["epsilon"]) == ("mlp", 0.02)
    assert figures["settings"]["networks_are"]["samples_of"]["steps"] == 2


def test_bench_fbf(tmp_path, written):
    out = tmp_path / "results" / "fbf.json"
    config = bench_fbf.BenchConfig(dataset="digits", batches=2, turns=2, out=out)
    bench_fbf.main(config)
    figures = written(config.out)
    assert set(figures["ratio"]) == {"one step", "three lengths"}
    times = figures["ms_a_batch"]
    assert len(times) == 3 and all(len(row) == 2 and min(row) > 0 for row in times.values())
    for name, ratio in figures["ratio"].items():
        each = [a / b for a, b in zip(times["plain loop"], times[name], strict=True)]
        assert ratio == pytest.approx(sum(each) / 2, abs=2e-3)


def test_the_plain_loop_makes_the_step_of_the_one_it_is_compared_with(monkeypatch):
    """From the same start, on the one batch that there is, whatever its order."""
    config = bench_fbf.BenchConfig(dataset="digits", batches=1, turns=2)
    dataset = data.load("digits")
    dataset = replace(dataset, train=dataset.train.head(bench_fbf.BATCH))
    recipe = bench_fbf.Published(
        dataset="digits", target=bench_fbf.TARGET, epsilon=bench_fbf.EPSILON, epochs=2
    )
    ways = (
        bench_fbf.PlainLoop(config, dataset),
        BaselineTraining(recipe, dataset, torch.device("cpu")),
    )
    monkeypatch.setattr(Threat, "random_offset", lambda self, x, draws: torch.full_like(x, 0.1))
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda self, low, high: self.fill_(0.1))
    gradients = []
    for way in ways:
        way.train_epoch()
        gradients.append([weight.grad for weight in way.module.parameters()])
    for theirs, ours in zip(*gradients, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-5)


def test_bench_scaling(tmp_path, monkeypatch, written):
    def missing(*args, **options):
        raise InputError("no files")

    monkeypatch.setattr(bench_scaling.data, "load", missing)
    # What these import takes longer than all the rest.
    monkeypatch.setattr(bench_scaling.Problem, "flops", lambda self: 1000)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(torch.compiler, "reset", lambda: None)
    monkeypatch.setattr(bench_scaling, "WARM_UP", 1)
    config = replace(
        bench_scaling.QUICK,
        targets=("small-lenet5",),
        compiled=True,
        generator_most=1,
        work=tmp_path / "work",
        out=tmp_path / "scaling.json",
    )
    bench_scaling.main(config)
    figures = written(config.out)
    found = figures["targets"]["small-lenet5"]
    assert found["images_are"] == "random"
    for way in ("plain", "compiled"):
        assert [row["networks"] for row in found[way]] == [1, 2]
        for row in found[way]:
            done = row["flops_per_second"] * row["seconds"]
            assert done == pytest.approx(1000 * row["networks"])
            assert row["ratio"] * found["loop_networks_per_second"] == pytest.approx(
                row["networks_per_second"]
            )
    (row,) = found["generator"]
    assert row["networks"] == 1 and row["steps_per_second"] > 0
    # A second call times nothing anew.
    monkeypatch.setattr(bench_scaling, "timed", None)
    bench_scaling.main(config)
    assert written(config.out) == figures


def test_a_population_too_large_ends_its_series(tmp_path):
    def make(count):
        if count == 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return {"seconds": 1.0}

    config = bench_scaling.ScalingConfig(work=tmp_path)
    rows = bench_scaling.series(config, "name", 64, make)
    assert [row["networks"] for row in rows] == [1, 2, 4]
    assert rows[-1]["failed"] == "OutOfMemoryError: CUDA out of memory"
    # Tried again by the next call, when the GPU may have room.
    assert len(bench_scaling.series(config, "name", 4, lambda count: {"seconds": 2.0})) == 3


def test_compare_halving(brief, tmp_path, written):
    run = brief_run(tmp_path / "run")
    config = compare_halving.HalvingConfig(
        run, count=6, keep=3, images=10, work=tmp_path / "work", out=tmp_path / "halving.json"
    )
    compare_halving.main(config)
    figures = written(config.out)
    # With two finalists for each network wanted all six meet the last attack: nothing can be lost.
    assert figures["places"] == [1, 2, 3] and figures["among_best_twice_as_many"] == 3
    assert len(set(figures["value_network_alone"])) == 3
    assert all(seconds > 0 for seconds in figures["seconds"].values())
    assert len(list(config.work.glob("network-*-4.json"))) == 6
    cells = sorted(config.work.glob("network-*"))
    before = [cell.stat().st_mtime_ns for cell in cells]
    compare_halving.main(config)
    assert written(config.out) == figures
    assert [cell.stat().st_mtime_ns for cell in cells] == before
    # Another generator in that folder has other networks.
    shutil.copy(brief_run(tmp_path / "other", seed=1) / CHECKPOINT, run / CHECKPOINT)
    with pytest.raises(InputError, match="other settings"):
        compare_halving.main(config)


def test_branch_and_bound_finds_the_very_best_without_looking_at_all():
    rng = random.Random(0)
    exact = [rng.randrange(30) / 30 for _ in range(60)]
    slack = [[rng.randrange(5) / 30, rng.randrange(2) / 30, 0] for _ in exact]
    looked = set()

    def bound(network, depth):
        level = compare_halving.DEPTHS.index(depth)
        looked.add((network, depth))
        return exact[network] + sum(slack[network][level:])

    found = compare_halving.branch_and_bound(len(exact), 10, bound)
    places = {
        network: 1 + sum(other > worth for other in exact) for network, worth in enumerate(exact)
    }
    assert found == {network: place for network, place in places.items() if place <= 10}
    assert [*found.values()] == sorted(found.values())
    assert sum(depth == compare_halving.DEPTHS[-1] for _, depth in looked) < len(exact) / 2


class StubAutoAttack:
    """Breaks the first half of the images, and says so as the original does."""

    def __init__(self, model, **options):
        self.model, self.log_path = model, options["log_path"]

    def run_standard_evaluation(self, images, labels):
        self.log_path.write_text("robust accuracy after APGD-CE: 40.00% (total time 1.0 s)\n")
        return torch.cat([torch.zeros_like(images[:10]), images[10:]])


def test_compare_autoattack(brief, tmp_path, monkeypatch, written):
    monkeypatch.setitem(sys.modules, "autoattack", SimpleNamespace(AutoAttack=StubAutoAttack))
    baseline = BaselineConfig("fbf", target="mlp", epochs=8)
    there = data.load("digits"), torch.device("cpu")
    module = train_baseline(baseline, *there)
    file = tmp_path / "mine.safetensors"
    save_baseline(file, module, baseline)
    config = compare_autoattack.CompareConfig(
        files=(file,),
        autoattack=tmp_path,
        images=20,
        steps=5,
        restarts=2,
        work=tmp_path / "work",
        out=tmp_path / "compare.json",
    )
    compare_autoattack.main(config)
    row = written(config.out)["networks"]["mine"]
    cells = {}
    for way in row["robust"]:
        (path,) = config.work.glob(f"mine-*-{way}.json")
        cells[way] = json.loads(path.read_text())["left"]
    assert set(cells) == set(compare_autoattack.WAYS)
    # The three make the same points of the same starts; here any of them counts, there the last.
    assert cells["foolbox"] == cells["torchattacks"] and set(cells["PGD"]) <= set(cells["foolbox"])
    assert 0 < row["robust"]["PGD"] < row["clean"] <= 1
    images, labels = data.load("digits").test.first(20)
    blank = int(module(torch.zeros_like(images[:1])).argmax())
    clean = module(images).argmax(1) == labels
    clean[:10] = labels[:10] == blank
    assert cells["AutoAttack"] == clean.nonzero().flatten().tolist()
    assert row["after"]["AutoAttack"] == {"apgd-ce": 0.4}
    # A second call computes nothing anew.
    monkeypatch.setattr(compare_autoattack, "timed", None)
    compare_autoattack.main(config)
    # And never takes another network of that name for this one.
    save_baseline(file, train_baseline(replace(baseline, epochs=1), *there), baseline)
    with pytest.raises(TypeError):
        compare_autoattack.main(config)
    # Nor figures at another radius for those at this one.
    subject = compare_autoattack.subjects(config)["mine"]
    apart = [
        compare_autoattack.cells_of("mine", replace(subject, epsilon=epsilon), ["PGD"], tmp_path)
        for epsilon in (0.1, 0.1, 0.3)
    ]
    assert apart[0] == apart[1] != apart[2]
    with pytest.raises(InputError, match="no networks"):
        compare_autoattack.main(replace(config, files=()))
    with pytest.raises(InputError, match="two networks"):
        compare_autoattack.main(replace(config, files=(file, file)))
    save_baseline(file, module, replace(baseline, norm="l2", epsilon=1.5))
    with pytest.raises(InputError, match="made for l2"):
        compare_autoattack.main(config)


def test_differences_of_two_implementations():
    cells = {"standard": {"left": [0, 1, 2]}, "AutoAttack": {"left": [1, 2, 3, 4, 5]}}
    found = compare_autoattack.compared(cells, 500)
    assert found == {
        "standard - AutoAttack": {"points": -0.4, "only_here": 3, "only_there": 1, "within": True}
    }
    assert not compare_autoattack.compared(cells, 499)["standard - AutoAttack"]["within"]


def test_foreign_network(tmp_path):
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 4, 2, 1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(98, 5),
        torch.nn.ReLU(),
        torch.nn.Linear(5, 3),
    )
    state = {f"net.layer{name}": tensor for name, tensor in theirs.state_dict().items()}
    state["net.lambda"] = torch.zeros(3)
    torch.save({"state_dict": [state, {}]}, tmp_path / "weights.pth")
    entry = Foreign(
        "weights.pth", "mnist", 0.1, ((1, 2, 4, 2, 1), (2,)), (98, 5, 3), ((0.2,), (0.5,))
    )
    network = entry.load(tmp_path)
    images = torch.rand(4, 1, 28, 28)
    expected = theirs((images - 0.2) / 0.5)
    torch.testing.assert_close(network(images), expected)
    torch.testing.assert_close(Population.of([network])(images[None])[0], expected)
    with pytest.raises(InputError, match="another network"):
        replace(entry, sizes=(98, 6, 3)).load(tmp_path)
    with pytest.raises(InputError, match="clone"):
        entry.load(tmp_path / "nowhere")


def test_mnist_table(brief, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(PublishedGenerator.pretrain, "__defaults__", (3,))
    monkeypatch.setattr(train, "VALUE_PRETRAINING_STEPS", 3)
    config = mnist_table.TableConfig(
        dataset="digits",
        target="mlp",
        seeds=2,
        generators=2,
        epochs=2,
        direct_steps=3,
        long_steps=4,
        value_steps=2,
        thesis_steps=2,
        thesis_images=20,
        samples=3,
        sra_samples=2,
        voters=3,
        images=10,
        work=tmp_path / "runs",
        out=tmp_path / "results",
    )
    # A part first, of one generator: its cells are kept, and it is added to.
    mnist_table.main(replace(config, rows=("value", "direct voting"), generators=1))
    part = json.loads((config.out / "mnist-0.1.json").read_text())
    assert list(part["summary"]) == ["value"] and part["summary"]["value"]["count"] == 3
    mnist_table.main(replace(config, rows=("fbf",)))
    more = json.loads((config.out / "mnist-0.1.json").read_text())
    assert list(more["summary"]) == ["fbf", "value"] and more["voting"] == part["voting"]
    assert more["summary"]["value"] == part["summary"]["value"]
    assert more["networks"][2:] == part["networks"]
    with pytest.raises(InputError, match="judged in another way"):
        mnist_table.main(replace(config, images=9, work=tmp_path / "others"))
    with pytest.raises(InputError, match="unknown"):
        mnist_table.main(replace(config, rows=("valu",)))
    config.table.write_text("{")
    with pytest.raises(InputError, match="damaged"):
        mnist_table.main(replace(config, rows=("fbf",)))
    config.table.unlink()
    with pytest.raises(InputError, match="other settings"):
        mnist_table.main(replace(config, epochs=3))
    mnist_table.main(config)
    figures = json.loads((config.out / "mnist-0.1.json").read_text())
    assert list(figures["summary"]) == [
        *("standard", "fbf", "pgd", "direct", "direct beta .9", "value", "value from scratch"),
        *("thesis", "fbf + noise", "fbf average"),
    ]
    run = config.work / "epsilon-0.1" / "direct-beta-.9-1"
    first, second = figures["summary"]["direct beta .9"]["commands"]
    assert first.startswith("hypergen train --dataset digits") and first.endswith("--seed 0")
    assert second == first.replace("--seed 0", "--seed 1")
    assert str(tmp_path) not in json.dumps(figures)
    long = json.loads((run / "config.json").read_text())
    assert (long["beta"], long["steps"], long["seed"]) == ("0.9", 4, 1)
    of_value = [row for row in figures["networks"] if row["kind"] == "value"]
    assert [row["seed"] for row in of_value] == [0, 0, 0, 1, 1, 1]
    assert [row["seed"] for row in of_value if "sra" in row] == [0, 0, 1, 1]
    runs = [find([config.work / "epsilon-0.1" / f"value-{seed}"]) for seed in (0, 1)]
    whole = data.load("digits").test.first(10_000)
    apart = [differences(Population.of(map(load_network, files)), *whole) for files in runs]
    for name in apart[0]:
        mean = sum(found[name] for found in apart) / 2
        assert figures["summary"]["value"][name] == pytest.approx(mean)
    for kind, summary in figures["summary"].items():
        after = list(summary["after"].values())
        assert after == sorted(after, reverse=True)
        assert after[-1] == pytest.approx(summary["sra"]["mean"])
        cells = config.work.glob(f"epsilon-0.1/{kind.replace(' ', '-')}-[0-9]-*.json")
        cells = {path.stem: json.loads(path.read_text()) for path in cells}
        beside = []
        for name, cell in cells.items():
            attack = cell["attack"] if name.endswith("pgd") else cell["attack"]["pgd"]
            assert (attack["steps"], attack["restarts"]) == (50, 1)
            assert cell["attack"]["images"] == (500 if name.endswith("pgd") else 10)  # all of test
            if name.endswith("sra"):
                beside += [network["pgd"] for network in cell["networks"]]
        assert summary["pgd_beside_sra"]["mean"] == pytest.approx(sum(beside) / len(beside))
        few = {"standard": 1, "fbf": 2, "pgd": 2, "thesis": 3, "fbf + noise": 2, "fbf average": 1}
        assert summary["count"] == few.get(kind, 6)
    files = [config.work / "epsilon-0.1" / f"fbf-{i}" / "network.safetensors" for i in (0, 1)]
    average = load_file(config.work / "epsilon-0.1" / "fbf-average-0.safetensors")
    for name, mean in average.items():
        torch.testing.assert_close(mean, sum(load_file(file)[name] for file in files) / 2)
    assert 0 <= figures["voting"]["sra"] <= figures["voting"]["pgd"] <= 1
    assert (config.out / "mnist-0.1.png").stat().st_size > 10_000
    assert figures["voting"]["networks"] == 3 and figures["voting"]["images"] == 10
    # A second call finds every cell and makes none anew; another radius is another table.
    capsys.readouterr()
    monkeypatch.setattr(mnist_table, "voting", None)
    mnist_table.main(config)
    assert not capsys.readouterr().out.strip().startswith("hypergen")
    assert "thesis" not in mnist_table.commands(replace(config, epsilon=0.2))


def test_compare_diversity(tmp_path, written):
    tiny = TrainConfig(target="mlp", steps=2, population=3, batch_size=8)
    config = compare_diversity.CompareConfig(
        train=tiny,
        samples=3,
        images=20,
        fbf=2,
        fbf_epochs=1,
        work=tmp_path / "work",
        out=tmp_path / "diversity.json",
    )
    compare_diversity.main(config)
    figures = written(config.out)
    assert set(figures["ways"]) == {*compare_diversity.WAYS, "fbf"}
    apart = {name: row["disagreement"] for name, row in figures["ways"].items()}
    assert apart["nothing"] < apart["fixed map 0.5"] and apart["nothing"] < apart["eight starts"]
    for row in figures["ways"].values():
        assert 0 <= row["error_overlap"] <= 1 and row["worst_pgd"] <= row["pgd"]
        assert 0 < row["weight_distance"]["matched"] <= row["weight_distance"]["before"]
        assert row["pgd"] <= row["best"]["pgd"] and row["accuracy"] <= row["best"]["accuracy"]


def test_compare_measurers(brief, tmp_path, written):
    tiny = TrainConfig(target="mlp", objective="value", population=2, batch_size=8, epsilon=0.02)
    config = compare_measurers.CompareConfig(
        train=tiny, seconds=0.2, images=20, work=tmp_path / "work", out=tmp_path / "measurers.json"
    )
    compare_measurers.main(config)
    figures = written(config.out)["measurers"]
    assert set(figures) == set(compare_measurers.CANDIDATES)
    for row in figures.values():
        assert row["steps"] >= 1 and 0 <= row["claimed"] <= 1
        after = list(row["after"].values())
        assert after == sorted(after, reverse=True) and after[-1] == row["sra"]


def test_compare_value_networks(brief, tmp_path, written):
    tiny = TrainConfig(target="mlp", steps=8, population=2, batch_size=8, epsilon=0.02)
    config = compare_value_networks.CompareConfig(
        train=tiny,
        ages=2,
        samples=3,
        fbf=1,
        epochs=(1, 3),
        images=20,
        seen=20,
        steps=20,
        work=tmp_path / "work",
        out=tmp_path / "values.json",
    )
    compare_value_networks.main(config)
    figures = written(config.out)
    assert figures["networks"] == {f"run {i}": 6 for i in range(4)} | {"fbf": 4, "fbf + noise": 30}
    assert figures["fitted"] == 10 and figures["cost"]["ratio"] > 0
    for kind, row in figures["value_networks"].items():
        assert all(("uncertainty" in group) == ("ensemble" in kind) for group in row.values())
    # What estimates are held against: accuracy over all images, and what survives every attack.
    group = compare_value_networks.Group(**checkpoint.load(config.work / "fbf.safetensors"))
    digits = data.load("digits")
    population = Population(fresh_target("mlp", "relu", "digits"), group.theta)
    right = survivors(population, *digits.test.first(len(digits.test)), None, 0)["clean"]
    torch.testing.assert_close(group.truth[:, 0], right.float().mean(1))
    threat, some = Threat("linf", tiny.epsilon), digits.test.first(config.images)
    left = survivors(population, *some, attacks.build("standard", threat), 0)["square"]
    torch.testing.assert_close(group.truth[:, 1], left.float().mean(1))


def test_convergence(brief, tmp_path, monkeypatch, written):
    monkeypatch.setattr(train, "VALUE_PRETRAINING_STEPS", 3)
    config = convergence.ConvergenceConfig(
        train=TrainConfig(target="mlp", steps=2, population=2, batch_size=8),
        seeds=2,
        few=1,
        samples=2,
        images=10,
        work=tmp_path / "work",
        out=tmp_path / "convergence.json",
    )
    convergence.main(config)
    ways = written(config.out)["ways"]
    assert set(ways) == {way.name for way in convergence.WAYS}
    often = {"direct, scratch": 2, "value, set, scratch": 2}
    for name, row in ways.items():
        assert row["runs"] == len(row["each"]) == often.get(name, 1)
        assert row["succeeded"] + len(row["failures"]) == row["runs"]
    assert ways["direct, scratch"]["failures"] == ["at chance"] * 2  # two steps teach nothing


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"diverged": 3}, "NaN"),
        ({"accuracy": 0.1, "sra": 0.1}, "at chance"),
        ({"accuracy": 0.9, "sra": 0.8}, "inaccurate"),
        ({"accuracy": 0.97, "sra": 0.4}, "not robust"),
        ({"accuracy": 0.97, "sra": 0.6}, "succeeded"),
    ],
)
def test_what_a_run_failed_by(found, said):
    assert convergence.verdict(found, floor=0.3) == said
