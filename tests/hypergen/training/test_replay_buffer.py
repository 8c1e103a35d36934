import torch

from hypergen.storage import checkpoint
from hypergen.training.replay_buffer import ReplayBuffer

CPU = torch.device("cpu")


def pairs(first: int, count: int):
    """Features [count,3] and measured [count,2] that hold their number."""
    numbers = torch.arange(first, first + count).float()[:, None]
    return numbers.expand(-1, 3), numbers.expand(-1, 2) / 100


def test_keeps_the_newest():
    replay = ReplayBuffer(5)
    assert len(replay) == 0
    for first, count in ((0, 2), (2, 2), (4, 3), (7, 9)):
        replay.add(*pairs(first, count))
        last = first + count
        assert len(replay) == min(5, last)
        assert replay.features[:, 0].tolist() == list(range(max(0, last - 5), last))


def test_last_gives_the_newest_in_order():
    replay = ReplayBuffer(5)
    replay.add(*pairs(0, 7))
    for count, expected in ((2, [5, 6]), (9, [2, 3, 4, 5, 6])):
        features, measured = replay.last(count)
        assert features[:, 0].tolist() == expected
        assert features[:, :1].div(100).expand(-1, 2).equal(measured)


def test_draws_different_pairs_that_belong_together():
    replay = ReplayBuffer(10)
    replay.add(*pairs(0, 10))
    rng = torch.Generator().manual_seed(0)
    drawn = set()
    for _ in range(30):
        features, measured = replay.draw(4, rng)
        assert features[:, :1].div(100).expand(-1, 2).equal(measured)
        assert len(set(features[:, 0].tolist())) == 4
        drawn |= set(features[:, 0].tolist())
    assert drawn == set(range(10))
    assert len(replay.draw(64, rng)[0]) == 10


def test_does_not_share_memory_with_what_was_added():
    replay = ReplayBuffer(4)
    features, measured = (t.clone() for t in pairs(0, 2))
    replay.add(features, measured)
    features.zero_(), measured.zero_()
    assert replay.features[1, 0] == 1


def test_continues_from_a_checkpoint(tmp_path):
    for filled in (0, 3):
        replay, other = ReplayBuffer(4), ReplayBuffer(4)
        if filled:
            replay.add(*pairs(0, filled))
        checkpoint.save(tmp_path / "c", replay.state_dict())
        other.load_state_dict(checkpoint.load(tmp_path / "c"), CPU)
        assert len(other) == filled
        for buffer in (replay, other):
            buffer.add(*pairs(3, 2))
        draws = [r.draw(3, torch.Generator().manual_seed(1)) for r in (replay, other)]
        assert all(a.equal(b) for a, b in zip(*draws, strict=True))
