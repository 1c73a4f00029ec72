"""What the short-term memory promises: exact look-ups, soft reads, episodes that end."""

from dataclasses import replace

import torch
from torch import Tensor

from hjepa.conformance.cases import ROWS, Bench, Sample, expect
from hjepa.conformance.core import promised_by, require, require_close, require_shape
from hjepa.conformance.modelling import leaf, require_gradient, weigh
from hjepa.conformance.probes import entry
from hjepa.interfaces import MemoryState, ShortTermMemory

CPU = torch.device("cpu")


def fill(memory: ShortTermMemory, contents: MemoryState, sample: Sample, records: range) -> MemoryState:
    """Write some records, one after another."""
    for time in records:
        contents = memory.write(contents, entry(sample, time))
    return contents


def times(time: int) -> Tensor:
    """The same time for every row."""
    return torch.full((ROWS,), time)


@promised_by("memory")
def starts_empty(bench: Bench) -> None:
    """Nothing is found in a new memory, and a read gives zeros."""
    memory, sample = expect(bench.module, ShortTermMemory), bench.sample()
    contents = memory.initial(ROWS, CPU)
    require(not memory.at(contents, times(0))[1].any(), "at() finds an entry in an empty memory")
    require(
        not memory.nearest(contents, sample.states[:, 0])[1].any(),
        "nearest() finds an entry in an empty memory",
    )
    require(not memory.count(contents, sample.code[:, 0]).any(), "count() is not 0 in an empty memory")
    read = memory.read(contents, sample.states[:, 0])
    require_shape("read", read, ROWS, bench.agent.levels[0].dim)
    require(not read.any(), "an empty memory reads other than 0")
    require((contents.time == -1).all(), "time of an empty place is not -1")


@promised_by("memory")
def looks_up_by_time(bench: Bench) -> None:
    """`at` gives the entry of a time with all its fields, and says where there is none."""
    memory, sample = expect(bench.module, ShortTermMemory), bench.sample()
    contents = fill(memory, memory.initial(ROWS, CPU), sample, range(4))
    found, known = memory.at(contents, times(2))
    require(known.all(), "at() does not find an entry that was written")
    for name in ("time", "state", "intrinsic", "critic", "action", "imagined", "code"):
        require_close(f"{name} of the entry at time 2", getattr(found, name), getattr(entry(sample, 2), name))
    require(not memory.at(contents, times(9))[1].any(), "at() finds an entry that was never written")


@promised_by("memory")
def looks_up_by_state(bench: Bench) -> None:
    """`nearest` is the entry at the least Euclidean distance."""
    memory, sample = expect(bench.module, ShortTermMemory), bench.sample()
    contents = fill(memory, memory.initial(ROWS, CPU), sample, range(5))
    query = sample.states[:, 7]
    distance = torch.linalg.vector_norm(sample.states[:, :5] - query[:, None], dim=-1)
    found, known = memory.nearest(contents, query)
    require(known.all(), "nearest() finds nothing")
    require((found.time == distance.argmin(1)).all(), "nearest() gives an entry that is not the nearest")


@promised_by("memory")
def counts_views(bench: Bench) -> None:
    """`count` counts this episode's entries with a code; `lifetime` goes on over episodes."""
    memory, sample = expect(bench.module, ShortTermMemory), bench.sample()
    code = torch.arange(ROWS)
    same = replace(sample, code=code[:, None].expand_as(sample.code).contiguous())
    contents = fill(memory, memory.initial(ROWS, CPU), same, range(3))
    require((memory.count(contents, code) == 3).all(), "count() after three entries with a code is not 3")
    require((memory.count(contents, code + 1000) == 0).all(), "count() of a code that was not seen is not 0")
    lifetime = memory.lifetime(contents, code)
    require((lifetime >= 1).all(), "lifetime() does not count the episode")
    contents = memory.reset(contents, torch.ones(ROWS, dtype=torch.bool))
    require((memory.count(contents, code) == 0).all(), "count() is not 0 after a reset")
    require(torch.equal(memory.lifetime(contents, code), lifetime), "lifetime() changes at a reset")


@promised_by("memory")
def resets_rows(bench: Bench) -> None:
    """A reset forgets the rows it is told to forget, and no other."""
    memory, sample = expect(bench.module, ShortTermMemory), bench.sample()
    contents = fill(memory, memory.initial(ROWS, CPU), sample, range(3))
    kept = memory.read(contents, sample.states[:, 2]).clone()
    contents = memory.reset(contents, torch.arange(ROWS) == 0)
    known = memory.at(contents, times(1))[1]
    require(not known[0], "a row that was reset still finds its entries")
    require(known[1:].all(), "a row that was not reset has lost its entries")
    read = memory.read(contents, sample.states[:, 2])
    require(not read[0].any(), "a row that was reset reads other than 0")
    require_close("reads of rows that were not reset", read[1:], kept[1:])


@promised_by("memory")
def forgets_the_oldest(bench: Bench) -> None:
    """Beyond its capacity the oldest entries go, the latest stay."""
    memory, sample = expect(bench.module, ShortTermMemory), bench.sample()
    contents = memory.initial(ROWS, CPU)
    total = memory.capacity + 3
    for time in range(total):
        one = replace(entry(sample, time % 13), time=times(time))
        contents = memory.write(contents, one)
    require(memory.at(contents, times(total - 1))[1].all(), "the latest entry is not found")
    require(memory.at(contents, times(3))[1].all(), "an entry within the capacity is not found")
    require(not memory.at(contents, times(0))[1].any(), "an entry beyond the capacity is still found")
    require((contents.written == total).all(), "written does not count the entries")


@promised_by("memory")
def reads_what_was_written(bench: Bench) -> None:
    """A read near a key is nearer to its value than a read far from all keys, and follows the query."""
    memory, sample = expect(bench.module, ShortTermMemory), bench.sample()
    contents = fill(memory, memory.initial(ROWS, CPU), sample, range(3))
    state = sample.states[:, 1]
    near, far = memory.read(contents, state), memory.read(contents, -state)
    error = torch.linalg.vector_norm(near - state, dim=-1)
    other = torch.linalg.vector_norm(far - state, dim=-1)
    require((error < other).all(), "reading with a written state does not give it back better than its opposite")


@promised_by("memory")
def writing_is_differentiable(bench: Bench) -> None:
    """The gradient of a read reaches the query and the state that was written."""
    memory, sample = expect(bench.module, ShortTermMemory), bench.sample()
    state, query = leaf(sample.states[:, 0]), leaf(sample.states[:, 0] + 0.1)
    contents = memory.write(memory.initial(ROWS, CPU), replace(entry(sample, 0), state=state))
    weigh(memory.read(contents, query)).backward()
    require_gradient("the written state", state)
    require_gradient("the query", query)


@promised_by("memory")
def resumes_mid_episode(bench: Bench) -> None:
    """Contents that are saved in an episode and loaded elsewhere go on as they would have."""
    memory, sample = expect(bench.module, ShortTermMemory), bench.sample()
    contents = fill(memory, memory.initial(ROWS, CPU), sample, range(3))
    saved = contents.map(torch.clone)
    fresh = expect(bench.build(), ShortTermMemory)
    fresh.load_state_dict(memory.state_dict())
    left = fill(memory, contents, sample, range(3, 8))
    right = fill(fresh, saved, sample, range(3, 8))
    query = sample.states[:, 6]
    require_close("reads after resuming", fresh.read(right, query), memory.read(left, query))
    code = sample.code[:, 6]
    require_close("counts after resuming", fresh.count(right, code), memory.count(left, code))
