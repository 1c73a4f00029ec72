"""Spans of a level's steps, against a plain reading of their definition."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hjepa.data import spans
from hjepa.types import Spans


def reference(
    is_first: list[bool],
    terminated: list[bool],
    truncated: list[bool],
    energies: list[float],
    span: int,
    discount: float,
) -> list[tuple[int, bool, bool, bool, float]]:
    """One window, one drive, record by record."""
    result = []
    for start in range(len(is_first)):
        end, ended, total, steps = start, False, 0.0, 0
        while steps < span and not (terminated[end] or truncated[end]):
            if end + 1 >= len(is_first) or is_first[end + 1]:
                break
            end += 1
            total += discount**steps * energies[end]
            steps += 1
            ended = terminated[end]
        reaches = steps == span
        result.append((end, reaches, ended, reaches or ended, total))
    return result


@st.composite
def streams(
    draw: st.DrawFn,
) -> tuple[list[list[bool]], list[list[bool]], list[list[bool]], list[list[float]]]:
    """Windows of a stream whose episodes end in either way, and begin anywhere; some ends are not shown."""
    batch, time = draw(st.integers(1, 3)), draw(st.integers(1, 14))
    kinds = draw(
        st.lists(st.lists(st.sampled_from("...etbx"), min_size=time, max_size=time), min_size=batch, max_size=batch)
    )
    terminated = [[kind in "eb" for kind in row] for row in kinds]
    truncated = [[kind in "tb" for kind in row] for row in kinds]
    is_first = [
        [(index > 0 and row[index - 1] in "etb") or kind == "x" for index, kind in enumerate(row)] for row in kinds
    ]
    number = st.floats(-10, 10, width=32)
    energies = [draw(st.lists(number, min_size=time, max_size=time)) for _ in range(batch)]
    return is_first, terminated, truncated, energies


@settings(max_examples=300, deadline=None)
@given(streams(), st.integers(1, 17), st.sampled_from([1.0, 0.97, 0.5]))
def test_r7_spans_equal_a_plain_reading(stream, span: int, discount: float):
    is_first, terminated, truncated, energies = stream
    flags = [torch.tensor(part) for part in (is_first, terminated, truncated)]
    drive = torch.tensor(energies).unsqueeze(-1)
    found = spans(flags[0], flags[1], flags[2], torch.cat([drive, -2 * drive], -1), span, discount)
    for row in range(len(is_first)):
        expected = reference(is_first[row], terminated[row], truncated[row], energies[row], span, discount)
        ends, reaches, ended, valid, totals = zip(*expected, strict=True)
        assert found.end[row].tolist() == list(ends)
        assert found.reaches[row].tolist() == list(reaches)
        assert found.ended[row].tolist() == list(ended)
        assert found.valid[row].tolist() == list(valid)
        total = torch.tensor(totals)
        torch.testing.assert_close(found.energies[row], torch.stack([total, -2 * total], -1), rtol=1e-5, atol=1e-4)


def one(
    is_first: list[int],
    terminated: list[int],
    truncated: list[int],
    span: int,
    energies: Tensor | None = None,
) -> Spans:
    parts = [torch.tensor([part], dtype=torch.bool) for part in (is_first, terminated, truncated)]
    drive = torch.ones(1, len(is_first), 1) if energies is None else energies
    return spans(parts[0], parts[1], parts[2], drive, span, 0.5)


def test_r7_termination_within_and_at_the_end_of_a_step():
    found = one([1, 0, 0, 0, 1, 0], [0, 0, 0, 1, 0, 0], [0] * 6, 2)
    assert found.end.tolist() == [[2, 3, 3, 3, 5, 5]]
    assert found.reaches.tolist() == [[True, True, False, False, False, False]]
    assert found.ended.tolist() == [[False, True, True, False, False, False]]
    assert found.energies[0, :3, 0].tolist() == [1.5, 1.5, 1.0]


def test_r7_a_time_limit_within_a_step_leaves_no_target():
    found = one([1, 0, 0, 0, 1, 0], [0] * 6, [0, 0, 0, 1, 0, 0], 2)
    assert found.reaches.tolist() == [[True, True, False, False, False, False]]
    assert not bool(found.ended.any())
    assert torch.equal(found.valid, found.reaches)


def test_r7_a_span_longer_than_the_window_only_ends():
    found = one([1, 0, 0, 0], [0, 0, 0, 1], [0] * 4, 50)
    assert found.valid.tolist() == [[True, True, True, False]] and not bool(found.reaches.any())
    assert one([1, 0, 0], [0] * 3, [0] * 3, 2**40).valid.sum() == 0


def test_r7_two_short_steps_make_a_long_one():
    torch.manual_seed(0)
    last = torch.rand(8, 40) < 0.05
    first = torch.cat([torch.zeros(8, 1, dtype=torch.bool), last[:, :-1]], 1)
    energies = torch.randn(8, 40, 2)
    short, long = (spans(first, last, torch.zeros_like(last), energies, span, 0.9) for span in (3, 6))
    follows = short.reaches & ~short.ended
    second = short.end.clamp(max=39)
    joined = short.energies + 0.9**3 * short.energies.gather(1, second.unsqueeze(-1).expand(-1, -1, 2))
    rows = follows & short.valid.gather(1, second)
    assert int(rows.sum()) > 100
    torch.testing.assert_close(long.energies[rows], joined[rows])
    assert torch.equal(long.end[rows], short.end.gather(1, second)[rows])
    assert bool(long.valid[rows].all())
