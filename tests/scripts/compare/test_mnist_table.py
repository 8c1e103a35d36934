"""The table of the README, on as little as it can be made of."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from hypergen import data
from hypergen.errors import InputError
from hypergen.evaluation.diversity import pairwise_differences
from hypergen.storage.network_files import find
from hypergen.storage.weights import load_network
from scripts.compare import mnist_table
from targets import Population


@pytest.mark.slow
def test_the_whole_table(brief, brief_pretraining, tmp_path, monkeypatch, capsys):
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
        *("standard", "fbf", "n-fgsm", "pgd", "trades", "direct", "direct beta .9", "value"),
        *("value from scratch", "thesis", "fbf + noise", "fbf average"),
    ]
    run = config.work / "epsilon-0.1" / "direct-beta-.9-1"
    first, second = figures["summary"]["direct beta .9"]["commands"]
    assert first.startswith("hypergen train --dataset digits") and first.endswith("--seed 0")
    assert second == first.replace("--seed 0", "--seed 1")
    assert str(tmp_path) not in json.dumps(figures)
    long = json.loads((run / "config.json").read_text())["config"]
    assert (long["objective"]["beta"], long["optimisation"]["steps"]) == ("0.9", 4)
    assert long["optimisation"]["seed"] == 1
    of_value = [row for row in figures["networks"] if row["kind"] == "value"]
    assert [row["seed"] for row in of_value] == [0, 0, 0, 1, 1, 1]
    assert [row["seed"] for row in of_value if "sra" in row] == [0, 0, 1, 1]
    runs = [find([config.work / "epsilon-0.1" / f"value-{seed}"]) for seed in (0, 1)]
    whole = data.load("digits").test.first(10_000)
    differences = [
        pairwise_differences(Population.of(map(load_network, files)), *whole) for files in runs
    ]
    for name in differences[0]:
        mean = sum(found[name] for found in differences) / 2
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
        few = {"standard": 1, "thesis": 3, "fbf + noise": 2, "fbf average": 1}
        direct = dict.fromkeys(("fbf", "n-fgsm", "pgd", "trades"), 2)
        assert summary["count"] == (few | direct).get(kind, 6)
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
