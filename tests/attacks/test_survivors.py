import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks import Survivors


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.integers(1, 6), st.integers(0, 10_000))
def test_what_is_packed_is_what_survives(networks, batch, seed):
    generator = torch.Generator().manual_seed(seed)

    def coin(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator) < 0.4

    images = torch.arange(networks * batch, dtype=torch.float32).view(networks, batch, 1, 1, 1)
    labels = torch.arange(networks * batch).view(networks, batch)
    alive = ~coin(networks, batch)
    survivors = Survivors(images, labels, torch.zeros(networks, batch, 2), alive.clone())
    expected = images.clone()
    state = survivors.images
    for visit in range(4):
        assert bool(survivors) == bool(alive.any())
        if not survivors:
            break
        assert survivors.labels.shape[1] == alive.sum(1).max()
        assert torch.equal(state, survivors.images)
        assert torch.equal(survivors.pack(labels), survivors.labels)
        for network in range(networks):
            packed = survivors.labels[network] - network * batch
            assert (
                packed[alive[network, packed]].tolist() == alive[network].nonzero()[:, 0].tolist()
            )
            assert torch.equal(
                survivors.images[network].flatten(), survivors.labels[network].float()
            )
        # A padded image that "breaks" is one that broke before; it must change nothing.
        broken = coin(*survivors.labels.shape)
        points = survivors.images - 1000 * (visit + 1)
        for network in range(networks):
            for place, image in enumerate(survivors.labels[network] - network * batch):
                if broken[network, place] and alive[network, image]:
                    alive[network, image] = False
                    expected[network, image] = points[network, place]
        (state,) = survivors.drop(points, broken, state)
        assert torch.equal(survivors.adversarial, expected)
