import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks import ActiveSet


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.integers(1, 6), st.integers(0, 10_000))
def test_what_is_packed_is_what_is_active(networks, batch, seed):
    generator = torch.Generator().manual_seed(seed)

    def coin(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator) < 0.4

    images = torch.arange(networks * batch, dtype=torch.float32).view(networks, batch, 1, 1, 1)
    labels = torch.arange(networks * batch).view(networks, batch)
    active = ~coin(networks, batch)
    active_set = ActiveSet(images, labels, torch.zeros(networks, batch, 2), active.clone())
    expected = images.clone()
    state = active_set.images
    for visit in range(4):
        assert bool(active_set) == bool(active.any())
        if not active_set:
            break
        assert active_set.labels.shape[1] == active.sum(1).max()
        assert torch.equal(state, active_set.images)
        assert torch.equal(active_set.pack(labels), active_set.labels)
        for network in range(networks):
            packed = active_set.labels[network] - network * batch
            assert (
                packed[active[network, packed]].tolist() == active[network].nonzero()[:, 0].tolist()
            )
            assert torch.equal(
                active_set.images[network].flatten(), active_set.labels[network].float()
            )
        # A padded image that "breaks" is one that broke before; it must change nothing.
        broken = coin(*active_set.labels.shape)
        points = active_set.images - 1000 * (visit + 1)
        for network in range(networks):
            for position, image in enumerate(active_set.labels[network] - network * batch):
                if broken[network, position] and active[network, image]:
                    active[network, image] = False
                    expected[network, image] = points[network, position]
        (state,) = active_set.mark_adversarial(points, broken, state)
        assert torch.equal(active_set.adversarial, expected)


def test_images_are_deactivated_unbroken():
    images = torch.arange(6.0).view(2, 3, 1, 1, 1)
    labels = torch.arange(6).view(2, 3)
    active_set = ActiveSet(images, labels, torch.zeros(2, 3, 2), torch.ones(2, 3, dtype=torch.bool))
    done = torch.tensor([[True, False, True], [False, False, True]])
    (state,) = active_set.deactivate(done, labels)
    assert active_set.labels[0, 0] == 1 and active_set.labels[1].tolist() == [3, 4]
    assert torch.equal(state, active_set.labels)
    # The padding of network 0 is an image no longer active: what happens to it no longer matters.
    active_set.mark_adversarial(active_set.images + 10, torch.ones(2, 2, dtype=torch.bool))
    assert active_set.adversarial.flatten().tolist() == [0, 11, 2, 13, 14, 5] and not active_set
