"""Labels compare two models: they teach a task that has both, and wait where it has others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from proxy import eventually, running_provider, running_proxy

from lifecycle.mixture import CHEAP, MIXTURE, PREMIUM, agree, asked, files, labels, rate, score, texts
from router.policy.learn import Compared
from router.providers.simulated import Simulation

SEED = 31
UNSEEN = texts(10, SEED + 1)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_provider(Simulation(answerer=MIXTURE)) as provider:
        yield provider.base_url


@pytest.mark.parametrize(
    "changed",
    [
        {"models": (f"openai/{PREMIUM},", "openai/gpt-4o,")},
        {"models": (f"openai/{CHEAP},", "openai/gpt-4o-mini,")},
        {"default": ("premium", "judge")},
    ],
    ids=["another premium model under the name", "another cheap model under the name", "another model in the policy"],
)
def test_what_another_pair_taught_does_not_serve(url: str, tmp_path: Path, changed: dict[str, tuple[str, str]]) -> None:
    given = files(agree(), url=url)
    other = {name: given[name].replace(*change) for name, change in changed.items()}
    with running_proxy(tmp_path, given) as proxy:

        def scores() -> list[float]:
            return [score(proxy, text) for text in UNSEEN]

        cold = scores()
        for text in texts(120, SEED):
            rated = asked(proxy, text).headers["x-farthing-request-id"]
        rows = eventually(lambda: found if len(found := labels(proxy)) == 120 else None, "a label of each")
        assert {(row.cheap_targets, row.premium_targets) for row in rows} == {(f"openai/{CHEAP}", f"openai/{PREMIUM}")}
        eventually(lambda: scores() != cold, "learning")
        proxy.rewrite(**other)
        eventually(lambda: scores() == cold, "the score as it came")
        for text in texts(5, SEED + 2):
            asked(proxy, text)
        eventually(lambda: len(labels(proxy)) == 125, "labels of the new pair")
        assert scores() == cold
        if changed.get("models", ("",))[0] == f"openai/{CHEAP},":
            told = rate(proxy, rated, 0).json()
            assert (told["learned"], "not there any more" in told["because"]) == (False, True)
        proxy.rewrite(**{name: given[name] for name in other})
        eventually(lambda: scores() != cold, "what the first pair taught")


MODELS = (("cheap", "a/1"), ("mid", "a/2"), ("premium", "a/3"))


@pytest.mark.parametrize(
    ("source", "cheap", "premium", "counts"),
    [
        ("shadow", ("cheap", "a/1"), ("premium", "a/3"), True),
        ("shadow", ("cheap", None), ("premium", None), True),
        ("shadow", ("cheap", "a/0"), ("premium", "a/3"), False),
        ("shadow", ("cheap", "a/1"), ("premium", "a/4"), False),
        ("shadow", ("gone", "a/1"), ("premium", "a/3"), False),
        ("shadow", ("premium", "a/3"), ("cheap", "a/1"), False),
        ("shadow", ("cheap", "a/1"), ("mid", "a/2"), False),
        ("check", ("cheap", "a/1"), ("mid", "a/2"), True),
        ("feedback", ("mid", "a/2"), ("premium", "a/3"), True),
        ("feedback", ("cheap", "a/1"), ("mid", "a/2"), False),
    ],
)
def test_a_label_counts_where_the_task_would_make_it_now(
    source: str, cheap: tuple[str, str | None], premium: tuple[str, str | None], counts: bool
) -> None:
    assert Compared("checked", MODELS, "premium").counts(source, cheap, premium) is counts


def test_ignored_ratings_do_not_count() -> None:
    assert not Compared("off", MODELS, None).counts("feedback", ("cheap", "a/1"), ("premium", "a/3"))
