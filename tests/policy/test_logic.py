"""What is said of conditions without a request is true of every request: checked on random ones."""

from __future__ import annotations

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from router.policy.condition import Condition
from router.policy.facts import Facts
from router.policy.fault import START, Report
from router.policy.reading.document import read_document
from router.policy.reading.logic import contradiction, demands, follows, is_certain, streamed
from router.policy.reading.when import WhenCompiler

HOURS = ("0", "1", "2", "23")
COMPARISONS = st.one_of(
    st.builds("hour: {{{}: {}}}".format, st.sampled_from(["gt", "gte", "lt", "lte", "eq", "ne"]),
              st.sampled_from(HOURS)),
    st.builds("hour: {{{}: [{}, {}]}}".format, st.sampled_from(["in", "not_in"]), *[st.sampled_from(HOURS)] * 2),
    st.builds("max_output_tokens: {{{}: {}}}".format, st.sampled_from(["gt", "lte", "ne"]), st.sampled_from("123")),
    st.builds("input_tokens: {{{}: {}}}".format, st.sampled_from(["gt", "gte", "lt"]), st.sampled_from("123")),
    st.builds("weekday: {{{}: [{}, {}]}}".format, st.sampled_from(["in", "not_in"]),
              *[st.sampled_from(["sat", "sun", "mon"])] * 2),
    st.builds("has: {{{}: [{}, {}]}}".format, st.sampled_from(["eq", "ne", "in", "not_in"]),
              *[st.sampled_from(["tools", "images"])] * 2),
    st.builds("metadata: {{a: {{{}: {}}}}}".format, st.sampled_from(["eq", "ne"]),
              st.sampled_from(["x", "'1'", "1", "true"])),
    st.builds("metadata: {{a: {{{}: {}}}}}".format, st.sampled_from(["gt", "lt"]), st.sampled_from("012")),
    st.sampled_from(["stream: true", "stream: false"]),
)  # fmt: skip
WHENS = st.recursive(
    COMPARISONS.map("{{{}}}".format),
    lambda below: st.one_of(
        st.builds("{{all: [{}, {}]}}".format, below, below),
        st.builds("{{any: [{}, {}]}}".format, below, below),
        st.builds("{{not: {}}}".format, below),
    ),
    max_leaves=6,
)
FACTS = st.builds(
    Facts,
    input_tokens=st.integers(0, 4),
    max_output_tokens=st.none() | st.integers(1, 4),
    hour=st.sampled_from([0, 1, 2, 3, 22, 23]),
    weekday=st.sampled_from(["sat", "sun", "mon", "tue"]),
    has=st.frozensets(st.sampled_from(["tools", "images", "code"])),
    metadata=st.fixed_dictionaries({}, optional={"a": st.sampled_from(["x", "1", 1, 1.5, True, "true", None])}),
    stream=st.booleans(),
)


def compiled(when: str) -> Condition:
    report = Report("when")
    root = read_document(when.encode(), report)
    assert root is not None
    condition = WhenCompiler(report, None).compile(root, START)
    assert condition is not None, report.faults
    return condition


@given(when=WHENS, requests=st.lists(FACTS, min_size=5, max_size=20))
@settings(max_examples=400, deadline=None)
def test_no_request_meets_what_is_said_to_be_a_contradiction(when: str, requests: list[Facts]) -> None:
    condition = compiled(when)
    excluded = contradiction(condition) is not None
    event(f"contradiction: {excluded}")
    assert not (excluded and any(condition.holds(facts) for facts in requests))


@given(one=WHENS, two=WHENS, both=st.booleans(), requests=st.lists(FACTS, min_size=5, max_size=20))
@settings(max_examples=400, deadline=None)
def test_what_is_said_to_follow_holds(one: str, two: str, both: bool, requests: list[Facts]) -> None:
    later, earlier = compiled(f"{{all: [{one}, {two}]}}" if both else one), compiled(two)
    following = follows(later, earlier)
    event(f"follows: {following}")
    assert not following or all(earlier.holds(facts) for facts in requests if later.holds(facts))


@given(when=WHENS, requests=st.lists(FACTS, min_size=5, max_size=20))
@settings(max_examples=400, deadline=None)
def test_a_request_that_meets_a_condition_meets_one_of_its_demands(when: str, requests: list[Facts]) -> None:
    condition = compiled(when)
    for facts in requests:
        if condition.holds(facts):
            assert any(
                demand.has <= facts.has and demand.input_tokens <= facts.input_tokens for demand in demands(condition)
            )


def test_true_and_one_are_two_conditions() -> None:
    one, true = compiled("{metadata: {a: 1}}"), compiled("{metadata: {a: true}}")
    assert one != true
    assert contradiction(compiled("{metadata: {a: 1}, not: {metadata: {a: true}}}")) is None
    assert not is_certain(compiled("{any: [{metadata: {a: 1}}, {not: {metadata: {a: true}}}]}"))


@given(when=WHENS, requests=st.lists(FACTS, min_size=5, max_size=20))
@settings(max_examples=400, deadline=None)
def test_what_is_said_to_hold_for_every_request_does(when: str, requests: list[Facts]) -> None:
    condition = compiled(when)
    certain = is_certain(condition)
    event(f"certain: {certain}")
    assert not certain or all(condition.holds(facts) for facts in requests)


def test_many_alternatives_are_given_up_on_in_no_time() -> None:
    ways = ", ".join("{any: [{hour: 1}, {hour: 2}, {hour: 3}]}" for _ in range(60))
    assert contradiction(compiled(f"{{all: [{ways}]}}")) is None
    deep = "{hour: 1}"
    for _ in range(11):
        deep = f"{{any: [{deep}, {deep}]}}"
    assert contradiction(compiled(deep)) is None


@given(WHENS, FACTS)
def test_a_condition_that_takes_streams_alone_holds_for_no_other(when: str, facts: Facts) -> None:
    condition = compiled(when)
    kept = streamed(condition)
    event(f"takes {kept}")
    assert kept is None or facts.stream is kept or not condition.holds(facts)


@pytest.mark.parametrize(
    ("when", "kept"),
    [
        ("{stream: true}", True),
        ("{stream: {ne: true}, hour: 1}", False),
        ("{all: [{stream: true}, {any: [{hour: 1}, {hour: 2}]}]}", True),
        ("{all: [{hour: 1}, {not: {stream: true}}]}", False),
        ("{any: [{stream: true, hour: 1}, {stream: true, hour: 2}]}", True),
        ("{any: [{stream: true}, {hour: 2}]}", None),
        ("{hour: 1}", None),
    ],
)
def test_it_is_told_whether_a_condition_takes_streams_alone(when: str, kept: bool | None) -> None:
    assert streamed(compiled(when)) is kept
