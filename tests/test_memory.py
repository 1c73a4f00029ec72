"""Short-term memory: soft reads and writes, exact look-ups, and what a new episode forgets."""

from dataclasses import replace

import pytest
import torch

from hjepa.cost import HASH_BITS, interaction
from hjepa.interfaces import MemoryEntry
from hjepa.modules.memory.key_value import KeyValue
from hjepa.modules.memory.window import Window
from hjepa.types import AgentSpec, EnvSpec, LevelSpec

KINDS = [Window, KeyValue]
CPU = torch.device("cpu")
DIM = 16


def make(kind, dim=DIM, **fields):
    torch.manual_seed(0)
    level = LevelSpec(0, dim, 4, dim, 7, 1, 1, 5, 7, 7, dim, 1, 0, 0.99)
    spec = AgentSpec(EnvSpec("any", 7, (7, 7), 100), (level,), ("task",), (False,), 0, 0.99)
    return kind(kind.Config(**fields), spec)


def entry(state, step=0, code: int | torch.Tensor = 0, imagined=False):
    batch = len(state)
    codes = torch.full((batch,), code) if isinstance(code, int) else code
    number = torch.full((batch,), step)
    return MemoryEntry(
        time=number,
        state=state,
        intrinsic=number * -0.5,
        critic=number * 0.25,
        action=number % 7,
        imagined=torch.full((batch,), imagined),
        code=codes,
        situation=codes,
    )


def basis(index, batch=2, dim=DIM):
    return torch.eye(dim)[index].expand(batch, -1).clone() * 3


def fill(module, states, batch=2):
    contents = module.initial(batch, CPU)
    for step, state in enumerate(states):
        contents = module.write(contents, entry(state, step, code=100 + step))
    return contents


@pytest.mark.parametrize("kind", KINDS)
def test_r32_reads_are_soft_between_entries_and_zero_where_nothing_is_near(kind):
    module = make(kind)
    empty = module.initial(2, CPU)
    assert torch.equal(module.read(empty, basis(0)), torch.zeros(2, DIM))
    contents = fill(module, [basis(0), basis(1)])
    assert module.read(contents, basis(5)).abs().max() < 1e-3
    # At full similarity one entry's weight is 1 / (1 + exp(-sharpness (1 - acceptance))) = sigmoid(4).
    expected = basis(0) * torch.sigmoid(torch.tensor(4.0))
    torch.testing.assert_close(module.read(contents, basis(0)), expected, atol=1e-5, rtol=1e-5)
    between = module.read(contents, 0.6 * basis(0) + 0.5 * basis(1))
    assert between[0, 0] > between[0, 1] > 0.005
    halfway = module.read(contents, basis(0) + basis(1))
    torch.testing.assert_close(halfway[:, 0], halfway[:, 1])


@pytest.mark.parametrize("kind", KINDS)
def test_r32_the_read_is_a_gradient_path_to_the_query_and_to_what_was_written(kind):
    module = make(kind)
    written = basis(0).requires_grad_()
    query = (basis(0) + 0.3 * basis(1)).requires_grad_()
    contents = module.write(module.initial(2, CPU), entry(written))
    contents = module.write(contents, entry(basis(3), 1))
    module.read(contents, query).square().sum().backward()
    assert written.grad.abs().sum() > 0.1
    assert query.grad.abs().sum() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_r14_what_is_read_changes_with_what_is_written(kind):
    module = make(kind)
    contents = fill(module, [basis(0)])
    before = module.read(contents, basis(1))
    contents = module.write(contents, entry(basis(1), 1))
    assert (module.read(contents, basis(1)) - before).abs().max() > 1


def test_r33_a_near_write_blends_by_its_weight_and_a_far_one_allocates():
    module = make(KeyValue)
    contents = fill(module, [basis(0)])
    near = torch.nn.functional.normalize(basis(0) + 0.2 * basis(1), dim=-1) * 3
    cosine = near[0, 0] / 3
    share = torch.sigmoid(20.0 * (cosine - 0.8))
    contents = module.write(contents, entry(near, 1))
    assert (contents.slot_age >= 0).sum(1).tolist() == [1, 1]
    torch.testing.assert_close(contents.slot_values[:, 0], share * near + (1 - share) * basis(0))
    torch.testing.assert_close(contents.slot_keys[:, 0], basis(0) / 3)
    blended = contents.slot_values[:, 0].clone()
    contents = module.write(contents, entry(basis(2), 2))
    assert (contents.slot_age >= 0).sum(1).tolist() == [2, 2]
    torch.testing.assert_close(contents.slot_values[:, 0], blended)
    torch.testing.assert_close(contents.slot_values[:, 1], basis(2))


def test_r33_rows_allocate_and_blend_independently_and_the_oldest_slot_goes():
    module = make(KeyValue, capacity=3)
    contents = fill(module, [basis(0), basis(1), basis(2)])
    state = torch.stack([basis(3)[0], basis(1)[0]])
    contents = module.write(contents, entry(state, 3))
    assert contents.slot_age.tolist() == [[3, 1, 2], [0, 1, 2]]
    torch.testing.assert_close(contents.slot_values[0, 0], basis(3)[0])
    torch.testing.assert_close(contents.slot_values[1, 0], basis(0)[0])
    assert module.read(contents, basis(0))[0].abs().max() < 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_r33_writes_with_and_without_gradient_agree(kind):
    module = make(kind, capacity=4)
    states = [torch.randn(2, DIM) for _ in range(9)] + [basis(0), basis(0) + 0.1]
    plain = fill(module, states)
    with_gradient = fill(module, [state.clone().requires_grad_() for state in states])
    for name, value in vars(with_gradient).items():
        torch.testing.assert_close(value.detach(), getattr(plain, name))


@pytest.mark.parametrize("kind", KINDS)
def test_r34_look_up_by_time_is_exact_within_the_capacity(kind):
    module = make(kind, capacity=8)
    states = [torch.randn(2, DIM) for _ in range(20)]
    contents = fill(module, states)
    for step in range(22):
        found, there = module.at(contents, torch.tensor([step, step]))
        assert there.tolist() == [12 <= step < 20] * 2
        if there.all():
            torch.testing.assert_close(found.state, states[step])
            assert found.code.tolist() == [100 + step] * 2
            assert found.intrinsic.tolist() == [-0.5 * step] * 2
            assert found.action.tolist() == [step % 7] * 2
    contents = module.write(contents, entry(basis(1), 15, imagined=True))
    assert module.at(contents, torch.tensor([15, 14]))[0].imagined.tolist() == [True, False]
    assert not module.at(contents, torch.tensor([-1, -1]))[1].any()


@pytest.mark.parametrize("kind", KINDS)
def test_r34_the_nearest_state_is_found(kind):
    module = make(kind, capacity=8)
    assert not module.nearest(module.initial(2, CPU), basis(0))[1].any()
    states = [torch.randn(2, DIM) for _ in range(20)]
    contents = fill(module, states)
    kept = torch.stack(states[12:], 1)
    query = torch.randn(2, DIM)
    found, there = module.nearest(contents, query)
    best = (kept - query.unsqueeze(1)).norm(dim=-1).argmin(1)
    assert there.all()
    assert found.time.tolist() == (best + 12).tolist()
    torch.testing.assert_close(found.state, kept[torch.arange(2), best])


@pytest.mark.parametrize("kind", KINDS)
def test_counts_are_exact_and_a_new_episode_forgets_all_but_the_lifetime(kind):
    module = make(kind, capacity=8, bins=64)
    contents = module.initial(2, CPU)
    codes = [(5, 9), (5, 9), (-3, 5)]  # codes are hashes and may be negative
    for step, pair in enumerate(codes):
        contents = module.write(contents, entry(torch.randn(2, DIM), step, torch.tensor(pair)))
    contents = module.write(contents, entry(basis(0), 3, torch.tensor([5, 5]), imagined=True))
    five = torch.tensor([5, 5])
    assert module.count(contents, five).tolist() == [2, 1]
    assert module.lifetime(contents, five).tolist() == [2, 2]
    assert module.lifetime(contents, torch.tensor([-3, 9])).tolist() == [1, 1]
    contents = module.reset(contents, torch.tensor([True, False]))
    assert module.count(contents, five).tolist() == [0, 1]
    assert module.lifetime(contents, five).tolist() == [2, 2]
    assert module.at(contents, torch.tensor([1, 1]))[1].tolist() == [False, True]
    assert module.read(contents, basis(0))[0].abs().max() == 0
    assert contents.written.tolist() == [0, 4]
    contents = module.write(contents, entry(basis(2), 0, five))
    assert module.at(contents, torch.tensor([0, 0]))[1].tolist() == [True, True]
    assert module.count(contents, five).tolist() == [1, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_tried_is_counted_by_situation_and_action(kind):
    module = make(kind, capacity=4)
    contents = module.initial(2, CPU)
    for step, code in enumerate((5, 5, 6)):
        contents = module.write(contents, entry(basis(0), step, code=code))
    contents = module.write(contents, entry(basis(0), 1, code=5, imagined=True))
    five, six = torch.tensor([5, 6]), torch.tensor([6, 7])
    assert module.tried(contents, five, 7).tolist() == [[1, 1, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0]]
    assert module.tried(contents, six, 7)[1].sum() == 0
    contents = module.reset(contents, torch.tensor([True, False]))
    assert module.tried(contents, five, 7).sum(1).tolist() == [0, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_what_changed_nothing_is_counted_by_what_is_ahead_and_in_hand(kind):
    """The fields of `entry` are its code and situation; codes of one context differ in their low bits."""
    module = make(kind, capacity=6)
    contents = module.initial(1, CPU)
    here, like, other = 5, 6, 5 | 1 << HASH_BITS
    for step, code in enumerate((here, here, like, other, other)):
        contents = module.write(contents, entry(basis(0)[:1], step, code=code))
    present = torch.tensor([here])
    # `entry` takes its action from the step: 0 left things as they were, 1 and 2 did not; 3 is of another context.
    assert module.futile(contents, present, present, 7).tolist() == [[1, 0, 0, 0, 0, 0, 0]]
    elsewhere = torch.tensor([other])
    assert module.futile(contents, elsewhere, present, 7).tolist() == [[0, 0, 0, 1, 0, 0, 0]]
    # Whether the last action changed anything only the present situation can tell.
    assert module.futile(contents, elsewhere, elsewhere, 7).tolist() == [[0, 0, 0, 1, 1, 0, 0]]
    contents = module.reset(contents, torch.tensor([True]))
    assert module.futile(contents, present, present, 7).sum() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_interactions_are_counted_once_an_episode(kind):
    module = make(kind)
    contents, ahead = module.initial(1, CPU), 1 << 56
    deed = interaction(torch.tensor([ahead]), torch.tensor([3]))
    # The same object ahead in another view is the same interaction; another action is not.
    for step, (code, episode) in enumerate(((ahead, 0), (ahead + 9, 0), (ahead, 1))):
        contents = module.reset(contents, torch.tensor([episode == 1]))
        given = entry(basis(0, 1), step, code=code)
        contents = module.write(contents, replace(given, action=torch.tensor([3])))
    assert [count.tolist() for count in module.interacted(contents, deed)] == [[1], [2]]
    assert [count.tolist() for count in module.interacted(contents, deed + 1)] == [[0], [0]]


@pytest.mark.parametrize("kind", KINDS)
def test_memory_has_no_parameters_and_keeps_its_contents_type_through_map(kind):
    module = make(kind)
    assert not list(module.parameters())
    contents = fill(module, [basis(0)]).to(CPU)
    torch.testing.assert_close(module.read(contents, basis(0)).argmax(-1), torch.zeros(2, dtype=torch.int64))
