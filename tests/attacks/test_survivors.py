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


def test_images_are_let_go_of_unbroken():
    images = torch.arange(6.0).view(2, 3, 1, 1, 1)
    labels = torch.arange(6).view(2, 3)
    survivors = Survivors(images, labels, torch.zeros(2, 3, 2), torch.ones(2, 3, dtype=torch.bool))
    done = torch.tensor([[True, False, True], [False, False, True]])
    (state,) = survivors.release(done, labels)
    assert survivors.labels[0, 0] == 1 and survivors.labels[1].tolist() == [3, 4]
    assert torch.equal(state, survivors.labels)
    # The padding of network 0 is an image let go of: what happens to it no longer matters.
    survivors.drop(survivors.images + 10, torch.ones(2, 2, dtype=torch.bool))
    assert survivors.adversarial.flatten().tolist() == [0, 11, 2, 13, 14, 5] and not survivors
