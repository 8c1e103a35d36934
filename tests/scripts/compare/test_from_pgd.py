"""Generators for robustness alone beside PGD training, on as little as can be trained."""

import json
import statistics

from scripts.compare import from_pgd

OPTIONS = (
    "--target mlp --image-size 8 --beta 1 --base none --steps 2 --population 2 --batch-size 8 "
    "--max-robustness-gap 1"
)


def test_samples_starts_and_pgd_training(brief, tmp_path, written):
    trained = [{"kind": "pgd", "accuracy": 0.5, "pgd": 0.4, "sra": sra} for sra in (0.2, 0.4)]
    others = [{"kind": "fbf", "accuracy": 1.0, "pgd": 1.0, "sra": 1.0}]
    (tmp_path / "mnist-0.1.json").write_text(json.dumps({"networks": trained + others}))
    config = from_pgd.FromPGDConfig(
        epsilons=(0.1,),
        seeds=(3,),
        options=OPTIONS,
        samples=2,
        sra_samples=1,
        images=4,
        tables=tmp_path,
        work=tmp_path / "runs",
        out=tmp_path / "figures.json",
    )
    from_pgd.main(config)
    runs = written(config.out)["runs"]
    ((name, found),) = runs.items()
    assert name == "0.1-3"
    assert [network["kind"] for network in found["networks"]] == ["sample", "sample", "start"]
    lines = [each.split() for each in str(from_pgd.table(config, runs)).splitlines()]
    mean = statistics.fmean(network["accuracy"] for network in found["networks"][:2])
    assert lines[1][:4] == ["0.1", "samples", "2", f"{100 * mean:.1f}"]
    assert lines[3] == ["0.1", "PGD", "training", "2", "50.0", "40.0", "30.0", "20.0,", "40.0"]
    from_pgd.main(config)  # from what was kept
    assert written(config.out)["runs"] == runs
