"""Ways through what was walked: as short as the walk allows, and no shorter."""

import torch

from experiments.goal_reaching.ways import FARTHEST, Ways, fewest_steps


def test_fewest_steps_go_along_edges_and_only_forth() -> None:
    """A ring of five views that is walked one way, and a sixth that nothing leads out of."""
    edges = torch.tensor([[0, 1, 2, 3, 4, 2], [1, 2, 3, 4, 0, 5]])
    steps = fewest_steps(edges, 6)
    ring = [[(end - begin) % 5 for end in range(5)] for begin in range(5)]
    assert steps[:5, :5].tolist() == ring
    assert steps[:, 5].tolist() == [3, 2, 1, 5, 4, 0]
    assert steps[5, :5].tolist() == [FARTHEST + 1] * 5


def test_pieces_of_a_walk_are_put_together_within_an_episode_alone() -> None:
    """0 1 2 3 1 4: from 0 to 4 it took five steps, and two will do. The next episode sees the same views anew."""
    view = torch.tensor([[10, 11, 12, 13, 11, 14, 10, 14]])
    first = torch.zeros_like(view, dtype=torch.bool)
    first[0, [0, 6]] = True
    ways = Ways(view, first)
    assert [len(walk.record) for walk in ways.walks] == [5, 2]
    row, begin, end, steps = ways.pairs(4096, torch.Generator().manual_seed(0))
    found = {
        (int(view[r, b]), int(view[r, e]), bool(b >= 6)): int(s)
        for r, b, e, s in zip(row, begin, end, steps, strict=True)
    }
    assert found[10, 14, False] == 2
    assert found[10, 14, True] == 1
    assert found[12, 11, False] == 2
    assert (14, 10, False) not in found
    assert (14, 10, True) not in found
    assert bool(((begin >= 6) == (end >= 6)).all())
