"""k-WTA beside ReLU, on as little as they can be told by."""

from scripts.studies import kwta


def test_kwta_beside_relu(brief, tmp_path, written):
    config = kwta.StudyConfig(
        datasets=("digits",),
        targets=("mlp",),
        activations=("relu", "kwta-0.2"),
        starts=("scratch",),
        epochs=1,
        train_images=300,
        images=6,
        schedule=((1, 4),),
        work=tmp_path / "runs",
        out=tmp_path / "figures.json",
    )
    kwta.main(config)
    rows = written(config.out)["networks"]
    assert list(rows) == ["digits-mlp-relu-scratch", "digits-mlp-kwta-0.2-scratch"]
    for row in rows.values():
        assert row["sampling-gradient"] <= row["square"] <= row["clean"]
    assert config.out.with_suffix(".png").stat().st_size > 10_000
