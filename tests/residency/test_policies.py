"""Every eviction policy is what it says it is, and gives each expert one score, the same whenever it was told the same."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from engine.residency import POLICIES
from tests.residency.policy import Tried
from tests.residency.stories import Story, leaving, stories


def scored(name: str, story: Story, more: int = 0) -> np.ndarray:
    """The scores [N] after a story, ``more`` turns later."""
    with Tried(name, story.shape) as policy:
        story.tell(policy)
        return policy.scores(story.at(len(story.turns) + more), story.sizes)


# --- each against its definition ---


@given(stories())
def test_lru_lets_go_of_what_was_used_longest_ago(story: Story) -> None:
    used = dict.fromkeys(range(story.shape[0] * story.shape[1]))  # the last used last
    for number, turn in enumerate(story.turns):
        for e in turn.chosen:
            expert = story.at(number)[1] * story.shape[1] + e
            if expert in used:
                del used[expert]
            used[expert] = None
    assert leaving(scored("lru", story)) == list(used)


@given(stories())
def test_lfu_lets_go_of_what_was_used_least(story: Story) -> None:
    uses = Counter(story.at(number)[1] * story.shape[1] + e for number, turn in enumerate(story.turns) for e in turn.chosen)
    assert leaving(scored("lfu", story)) == sorted(range(story.shape[0] * story.shape[1]), key=lambda expert: uses[expert])


@given(stories())
def test_fifo_lets_go_of_what_was_loaded_longest_ago(story: Story) -> None:
    loads = [story.at(number)[1] * story.shape[1] + e for number, turn in enumerate(story.turns) for e in turn.loaded]
    when = {expert: time for time, expert in enumerate(loads)}
    assert leaving(scored("fifo", story)) == sorted(range(story.shape[0] * story.shape[1]), key=lambda expert: when.get(expert, -1))


@given(stories(), some.integers(0, 40))
def test_edgemoe_weighs_recent_uses_by_the_way_to_the_next_turn(story: Story, more: int) -> None:
    (layers, experts), end = story.shape, len(story.turns) + more
    now, layer = story.at(end)
    uses = np.zeros((layers, experts))
    if story.expected is not None:  # a quarter of what so many uses a token add up to, eight tokens counting half
        uses += 0.25 * np.reshape(story.expected, uses.shape) / (1 - 0.5 ** (1 / 8)) * 0.5 ** (now / 8)
    for number, turn in enumerate(story.turns):
        pass_, of = story.at(number)
        uses[of, turn.chosen] += 0.5 ** ((now - pass_) / 8)
    distance = [(of - layer) % layers or layers for of in range(layers)]
    assert scored("edgemoe", story, more) == pytest.approx((-uses / np.reshape(distance, (-1, 1))).ravel(), rel=1e-9)


@given(stories(), some.integers(0, 40))
def test_edgemoe_as_printed_weighs_all_uses_by_the_way_back(story: Story, more: int) -> None:
    (layers, experts), layer = story.shape, story.at(len(story.turns) + more)[1]
    uses = np.zeros((layers, experts))
    for number, turn in enumerate(story.turns):
        uses[story.at(number)[1], turn.chosen] += 1
    distance = [(layers - of + layer) % layers or layers for of in range(layers)]
    assert scored("edgemoe-printed", story, more) == pytest.approx((-uses / np.reshape(distance, (-1, 1))).ravel(), rel=1e-12)


# --- all of them ---


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=40)
@given(story=stories(), more=some.integers(0, 5))
def test_scores_are_finite_one_an_expert_and_the_same_again(name: str, story: Story, more: int) -> None:
    first = scored(name, story, more)
    assert np.isfinite(first).all()
    assert np.array_equal(scored(name, story, more), first)


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=40)
@given(story=stories())
def test_to_ask_changes_nothing(name: str, story: Story) -> None:
    """Not at that moment, and later only with forecast, whose rent follows what is held when it is asked."""
    with Tried(name, story.shape) as asked, Tried(name, story.shape) as not_asked:
        for number in range(len(story.turns)):
            for policy in (asked, not_asked):
                story.tell(policy, number, number + 1)
            once = asked.scores(story.at(number), story.sizes)
            assert np.array_equal(asked.scores(story.at(number), story.sizes), once)
        assert name == "forecast" or np.array_equal(asked.scores(story.end), not_asked.scores(story.end))


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=40)
@given(story=stories())
def test_sizes_weigh_only_with_forecast_and_there_the_longer_stays(name: str, story: Story) -> None:
    n = story.shape[0] * story.shape[1]
    with Tried(name, story.shape) as policy, Tried(name, story.shape) as other:
        for each in (policy, other):
            story.tell(each)
        mixed, alike = policy.scores(story.end, story.sizes), other.scores(story.end, [4096] * n)
    if name != "forecast":
        assert np.array_equal(mixed, alike)
        return
    longer = np.array(story.sizes) > 4096  # to read it again takes less time a byte
    assert (mixed[longer] >= alike[longer]).all() and np.array_equal(mixed[~longer], alike[~longer])


@pytest.mark.parametrize("name", ["forecast", "edgemoe"])
def test_what_was_expected_counts_until_uses_say_otherwise(name: str) -> None:
    with Tried(name, (2, 8)) as policy:
        policy.expect([0.9 if e % 8 in (1, 2) else 0.02 for e in range(16)])
        policy.used([0, 5], (0, 0))
        policy.used([8, 13], (0, 1))
        scores = policy.scores((0, 1))
        for expected, other in ((1, 3), (2, 7), (9, 12), (10, 15)):
            assert scores[expected] < scores[other], "neither was used so far"
        for turn in range(2, 60):
            policy.used([3, 4] if turn % 2 == 0 else [11, 12], divmod(turn, 2))
        assert set(leaving(policy.scores((29, 1)))[-4:]) == {3, 4, 11, 12}


@given(stories(), stories())
def test_what_was_learned_makes_another_say_the_same(story: Story, after: Story) -> None:
    """After a token of a new request that both heard, to the bit; from then on they learn alike, but for how they round."""
    after.shape, chosen = story.shape, [[e % story.shape[1] for e in turn.chosen] for turn in after.turns]
    tokens = [list(dict.fromkeys(experts)) for experts in (*chosen, *[[0]] * story.shape[0])]
    with Tried("forecast", story.shape) as first, Tried("forecast", story.shape) as heir:
        story.tell(first)
        assert heir.learned(), "there is something to learn"
        heir.learn_from(first)
        for policy in (first, heir):
            policy.begin_request()
        for number, experts in enumerate(tokens):
            at = (100 + number // story.shape[0], number % story.shape[0])
            for policy in (first, heir):
                policy.used([at[1] * story.shape[1] + e for e in experts], at)
            if number == story.shape[0] - 1:
                assert np.array_equal(first.scores(at, story.sizes), heir.scores(at, story.sizes))
        assert heir.scores(at, story.sizes) == pytest.approx(first.scores(at, story.sizes), rel=0.02)


def test_a_name_that_is_none_makes_no_policy() -> None:
    with pytest.raises(AssertionError, match="no policy"):
        Tried("oracle", (1, 1))
