"""The study of pruning: what is compared."""

from dataclasses import replace
from pathlib import Path

from scripts.studies import pruning

WHOLE = {
    "varied": ["beta", "rate"],
    "trials": [
        {"kind": "front", "beta": 0.1, "rate": 1.0},
        {"kind": "front", "beta": 0.1, "rate": 2.0},
        {"kind": "dominated", "beta": 0.5, "rate": 1.0},
    ],
}


def test_what_is_lost_was_pruned_and_is_on_the_front_without():
    pruned = [{"kind": "pruned", "beta": 0.5, "rate": 1.0}, *WHOLE["trials"][:1]]
    assert pruning.lost(WHOLE, WHOLE | {"trials": pruned}) == 0
    pruned[1] = pruned[1] | {"kind": "pruned"}
    assert pruning.lost(WHOLE, WHOLE | {"trials": pruned}) == 1


def test_the_same_sweep_runs_with_and_without(tmp_path, written, monkeypatch):
    asked = []

    def found(train, dataset, folder, options, machine, report):
        asked.append((train.optimisation.seed, options, folder.name))
        run = Path(folder, "trial-0000")
        run.mkdir(parents=True)
        (run / "metrics.jsonl").write_text('{"step": 0}\n' * 3)
        is_pruning = options.pruner == "halving"
        rows = WHOLE["trials"]
        volumes = {"history": [0.2, 0.4], "test": 0.3}
        return {
            "trials": rows[is_pruning:],
            "pruned": [{**rows[0], "kind": "pruned"}] if is_pruning else [],
            "hypervolume": volumes,
            "varied": WHOLE["varied"],
        }

    monkeypatch.setattr(pruning, "run_sweep", found)
    config = replace(
        pruning.QUICK,
        train=pruning.QUICK.train.replace(target="mlp", image_size=8, steps=6),
        trials=2,
        seeds=2,
        work=tmp_path / "work",
        out=tmp_path / "found.json",
    )
    pruning.main(config)
    figures = written(config.out)
    assert [(seed, options.pruner) for seed, options, _ in asked] == [
        (0, "none"),
        (1, "none"),
        (0, "halving"),
        (1, "halving"),
    ]
    assert len({replace(options, pruner="none") for _, options, _ in asked}) == 1
    assert len({name for _, _, name in asked}) == 4
    for pruner, count in (("none", 0), ("halving", 1)):
        for each in figures["sweeps"][pruner]:
            assert each["pruned"] == count and each["steps"] == 3 / 12
            assert each["hypervolume"] == {"val": 0.4, "test": 0.3} and each["seconds"] >= 0
    pruning.main(config)
    assert len(asked) == 4
