"""The order of launches: every conflict is kept, and nothing is waited for twice."""

from hypothesis import given
from hypothesis import strategies as st

from trine.runtime.cuda.graph import dependencies, early_starts
from trine.runtime.cuda.plan import LaunchRecord

spans = st.lists(
    st.tuples(st.sampled_from(["arena", "arena", "input 0", "output 0"]), st.integers(0, 12), st.integers(1, 6)).map(
        lambda each: (each[0], each[1], each[1] + each[2])
    ),
    max_size=3,
).map(tuple)
launches = st.lists(
    st.tuples(spans, spans).map(lambda each: LaunchRecord(0, (1, 1, 1), (), each[0], each[1], 0)), max_size=12
)


def bytes_of(some):
    return {(place, byte) for place, first, end in some for byte in range(first, end)}


def conflict(first, second):
    """As sets of bytes: the definition, not the implementation."""
    return bool(
        bytes_of(first.writes) & (bytes_of(second.reads) | bytes_of(second.writes))
        or bytes_of(first.reads) & bytes_of(second.writes)
    )


def reached(waits):
    before = []
    for row in waits:
        before.append(set(row).union(*(before[other] for other in row)))
    return before


@given(launches)
def test_every_conflict_is_ordered_and_no_edge_is_redundant(records):
    waits = dependencies(records)
    before = reached(waits)
    for second, record in enumerate(records):
        assert all(other < second for other in waits[second])
        for first in range(second):
            if conflict(records[first], record):
                assert first in before[second]
        for other in waits[second]:
            assert conflict(records[other], record), "launches that share nothing may run at once"
            assert not any(other in before[third] for third in waits[second]), "an edge that follows from others"


def launch(reads, writes):
    return LaunchRecord(0, (1, 1, 1), (), tuple(("arena", *r) for r in reads), tuple(("arena", *w) for w in writes), 0)


def test_two_branches_wait_for_their_source_only():
    waits = dependencies(
        [launch([], [(0, 8)]), launch([(0, 8)], [(8, 16)]), launch([(0, 8)], [(16, 24)]), launch([(8, 24)], [(24, 32)])]
    )
    assert waits == [[], [0], [0], [2, 1]]


def test_memory_that_is_used_again_waits_for_its_readers():
    waits = dependencies([launch([], [(0, 8)]), launch([(0, 8)], [(8, 16)]), launch([], [(0, 8)])])
    assert waits == [[], [0], [1]]


def test_touching_ends_are_no_conflict():
    assert dependencies([launch([], [(0, 8)]), launch([], [(8, 16)])]) == [[], []]


@given(launches, st.data())
def test_only_chains_of_kernels_that_wait_start_early(records, data):
    waits = dependencies(records)
    able = data.draw(st.lists(st.booleans(), min_size=len(records), max_size=len(records)))
    for index, early in enumerate(early_starts(waits, able)):
        behind = [other for other, before in enumerate(waits) if waits[index] and waits[index][0] in before]
        assert early == (able[index] and len(waits[index]) == 1 and behind == [index])


def test_a_chain_starts_early_and_branches_do_not():
    waits = [[], [0], [1], [1], [2, 3], [4]]
    assert early_starts(waits, [True] * 6) == [False, True, False, False, False, True]
