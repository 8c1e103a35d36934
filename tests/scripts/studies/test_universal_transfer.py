"""The study of what one perturbation for all images does to other architectures."""

from dataclasses import replace

from scripts.studies import universal_transfer


def test_the_matrix_is_of_means_over_networks():
    """By hand: two networks of a kind, and one of another."""
    rows = [
        {"group": "a", "own": 0.2, "mates": 0.1, "by_others": {"b": 0.5}},
        {"group": "a", "own": 0.4, "mates": 0.3, "by_others": {"b": 0.7}},
        {"group": "b", "own": 0.9, "mates": None, "by_others": {"a": 0.25}},
    ]
    assert universal_transfer.matrix(rows, ["a", "b"]) == {
        "a": {"a": 0.3, "b": 0.25, "mates": 0.2},
        "b": {"a": 0.6, "b": 0.9, "mates": None},
    }


def test_the_study(tmp_path, written):
    quick = replace(universal_transfer.QUICK, epochs=1, images=20)
    train = quick.train.replace(steps=2)
    config = replace(quick, train=train, work=tmp_path / "work", out=tmp_path / "figures.json")
    universal_transfer.main(config)
    found = written(config.out)["made_for"]
    assert [*found] == ["mlp standard", "mlp fbf", "mlp generated"]
    for row in found.values():
        assert [*row] == [*found, "mates"] and all(0 <= share <= 1 for share in row.values())
    assert len({tuple(row.values()) for row in found.values()}) == 3
