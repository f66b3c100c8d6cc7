from __future__ import annotations

from skewscope.catalogue import load

lateness = load("agents.collectors._lateness")


def meeting(count):
    made, members = lateness.Meeting(), [lateness.Arrivals() for _ in range(count)]
    for member in members:
        made.join(member)
    return made, members


def tell(member, calls):
    member.add(list(calls), list(calls.values()))


def test_the_last_of_three_is_named():
    made, (one, two, three) = meeting(3)
    tell(one, {1: 100, 2: 200})
    tell(two, {1: 110, 2: 205})
    tell(three, {1: 150, 2: 290})
    made.settle()
    assert [member.late_ns for member in (one, two, three)] == [0, 15, 140]
    assert [member.last_arrivals for member in (one, two, three)] == [0, 0, 2]


def test_a_call_is_judged_when_all_have_told_of_it():
    made, (one, two) = meeting(2)
    tell(one, {1: 100, 2: 200})
    tell(two, {1: 130})
    made.settle()
    assert two.late_ns == 30 and one.seqs == [2]
    tell(two, {2: 260})
    made.settle()
    assert two.late_ns == 90 and not one.seqs


def test_records_that_come_out_of_order_are_waited_for():
    made, (one, two) = meeting(2)
    tell(one, {1: 100, 2: 200, 3: 300})
    tell(two, {1: 100, 3: 310})
    made.settle()
    tell(two, {2: 250})
    made.settle()
    assert two.late_ns == 60 and one.late_ns == 0 and two.last_arrivals == 3 - 1 + 1


def test_a_lost_record_is_not_waited_for_for_ever():
    made, (one, two) = meeting(2)
    tell(one, {1: 100, 2: 200, 3: 300})
    tell(two, {1: 105, 3: 310})
    for _ in range(lateness.LOOKS_FOR_A_GAP + 1):
        made.settle()
    assert two.late_ns == 15 and not one.seqs and not two.seqs


def test_a_rank_that_says_nothing_is_left_out_in_the_end():
    made, (one, two, three) = meeting(3)
    tell(one, {1: 100})
    tell(two, {1: 140})
    for _ in range(lateness.LOOKS_FOR_A_RANK + 3):
        made.settle()
    assert two.late_ns == 40 and not three.scored


def test_memory_is_bounded_where_one_rank_is_far_behind():
    made, (one, two, three) = meeting(3)
    tell(three, {1: 1})
    for member in (one, two):
        tell(member, {seq: seq * 10 for seq in range(1, lateness.MOST_WAITING + 100)})
    made.settle()
    made.settle()
    assert not one.seqs


def test_one_rank_alone_is_not_judged_and_holds_nothing():
    made, (one,) = meeting(1)
    for first in range(1, 1000, 100):
        tell(one, {seq: seq for seq in range(first, first + 100)})
        made.settle()
    assert not one.scored and not one.seqs


def test_a_restart_counts_from_the_beginning():
    made, (one, two) = meeting(2)
    for member in (one, two):
        tell(member, {seq: seq for seq in range(1, 1001)})
    made.settle()
    made.leave(one)
    made.leave(two)
    again = [lateness.Arrivals(), lateness.Arrivals()]
    for at, member in enumerate(again):
        made.join(member)
        tell(member, {1: 5000 + at * 7})
    made.settle()
    assert again[1].late_ns == 7


def test_a_group_that_counts_anew_is_judged_again_and_holds_little():
    made, members = meeting(2)
    for member in members:
        tell(member, {seq: seq for seq in range(1, 1001)})
    made.settle()
    for first in range(1, 900, 9):
        for at, member in enumerate(members):
            tell(member, {seq: 5000 + seq + at * 7 for seq in range(first, first + 9)})
        made.settle()
    assert members[1].late_ns == 900 * 7 and not members[1].seqs


def test_a_number_that_is_untrue_does_not_end_the_judging():
    made, (one, two) = meeting(2)
    for member in (one, two):
        tell(member, {1: 1, 1 << 62: 2})
    for seq in range(2, 200):
        made.settle()
        tell(one, {seq: seq * 10})
        tell(two, {seq: seq * 10 + 1})
    for _ in range(lateness.LOOKS_FOR_A_RANK + 3):
        made.settle()
    assert two.late_ns == 198 and not one.seqs
