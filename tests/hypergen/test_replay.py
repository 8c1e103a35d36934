import torch

from hypergen import checkpoint
from hypergen.replay import Replay

CPU = torch.device("cpu")


def pairs(first: int, count: int):
    """Evidence [count,3] and measured [count,2] that name their place."""
    numbers = torch.arange(first, first + count).float()[:, None]
    return numbers.expand(-1, 3), numbers.expand(-1, 2) / 100


def test_keeps_the_newest():
    replay = Replay(5)
    assert len(replay) == 0
    for first, count in ((0, 2), (2, 2), (4, 3), (7, 9)):
        replay.add(*pairs(first, count))
        last = first + count
        assert len(replay) == min(5, last)
        assert replay.evidence[:, 0].tolist() == list(range(max(0, last - 5), last))


def test_last_gives_the_newest_in_order():
    replay = Replay(5)
    replay.add(*pairs(0, 7))
    for count, expected in ((2, [5, 6]), (9, [2, 3, 4, 5, 6])):
        evidence, measured = replay.last(count)
        assert evidence[:, 0].tolist() == expected
        assert evidence[:, :1].div(100).expand(-1, 2).equal(measured)


def test_draws_different_pairs_that_belong_together():
    replay = Replay(10)
    replay.add(*pairs(0, 10))
    rng = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(30):
        evidence, measured = replay.draw(4, rng)
        assert evidence[:, :1].div(100).expand(-1, 2).equal(measured)
        assert len(set(evidence[:, 0].tolist())) == 4
        seen |= set(evidence[:, 0].tolist())
    assert seen == set(range(10))
    assert len(replay.draw(64, rng)[0]) == 10


def test_does_not_share_memory_with_what_was_added():
    replay = Replay(4)
    evidence, measured = (t.clone() for t in pairs(0, 2))
    replay.add(evidence, measured)
    evidence.zero_(), measured.zero_()
    assert replay.evidence[1, 0] == 1


def test_continues_from_a_checkpoint(tmp_path):
    for filled in (0, 3):
        replay, other = Replay(4), Replay(4)
        if filled:
            replay.add(*pairs(0, filled))
        checkpoint.save(tmp_path / "c", replay.state_dict())
        other.load_state_dict(checkpoint.load(tmp_path / "c"), CPU)
        assert len(other) == filled
        for buffer in (replay, other):
            buffer.add(*pairs(3, 2))
        draws = [r.draw(3, torch.Generator().manual_seed(1)) for r in (replay, other)]
        assert all(a.equal(b) for a, b in zip(*draws, strict=True))
