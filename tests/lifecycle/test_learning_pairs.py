"""Labels compare two models: they teach a task that has both, and wait where it has others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs
from proxy import eventually, running_provider, running_proxy

from lifecycle.mixture import CHEAP, JUDGE, MIXTURE, PREMIUM, agree, asked, files, labels, rate, score, texts
from router.difficulty.cues import Shape
from router.difficulty.look import look_at, written
from router.difficulty.scorer import Scorer
from router.difficulty.weights import shipped_weights
from router.ledger.labels import LabelRow
from router.lifecycle.labels import lesson_of
from router.policy.compared import Compared
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
        rated = ""
        for text in texts(120, SEED):
            answer = asked(proxy, text)
            if answer.headers["x-farthing-model"] == "cheap":
                rated = answer.headers["x-farthing-request-id"]
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


def test_a_rating_is_learned_where_it_is_said_to_be(url: str, tmp_path: Path) -> None:
    # The second answers come of a model that no rule uses, the dearest there is; `other` is in no rule at all.
    route = "  - {name: long, when: {messages: {gt: 5}}, use: judge}\n  - use: cheap\n"
    given = files(agree(0, 0, "trusted"), url=url, route=route)
    given["models"] += f"  other: {{target: openai/gpt-4.1-mini, base_url: {url}}}\n"
    names = (("cheap", CHEAP), ("judge", JUDGE), ("premium", PREMIUM))
    own = Compared("trusted", tuple((name, f"openai/{target}") for name, target in names), "premium")
    with running_proxy(tmp_path, given) as proxy:
        told = {}
        for model in ("auto", "judge", "premium", "other"):
            answer = proxy.ask(UNSEEN[0], model=model, max_tokens=16)
            told[model] = rate(proxy, answer.headers["x-farthing-request-id"], 0).json()["learned"]
        assert told == {"auto": True, "judge": True, "premium": False, "other": False}
        assert [(row.cheap, row.premium) for row in labels(proxy)] == [("cheap", "premium"), ("judge", "premium")]
        assert all(lesson_of(row, own) for row in labels(proxy))


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


@pytest.mark.parametrize(
    "wrong",
    [{"cues": ()}, {"cues": (0.0,) * 40}, {"grams": (40_000,)}, {"tokens": -70.0}, {"key": 5_000_000}],
    ids=["no cues", "more cues", "a place beyond", "a length below nothing", "a key beyond"],
)
def test_a_label_that_another_version_looked_at_differently_teaches_nothing(wrong: dict[str, Any]) -> None:
    look = structs.replace(written(look_at("Where is my parcel?", Shape(), key="k")), **wrong)
    own = Compared("checked", MODELS, None)
    row = LabelRow("default", "", "1", "shadow", "cheap", "premium", 1.0, 0.1, 1.0, msgspec.json.encode(look).decode())
    assert lesson_of(row, own) is None
    right = written(look_at("Where is my parcel?", Shape(), key="k"))
    lesson = lesson_of(
        structs.replace(row, look=msgspec.json.encode(right).decode()), Compared("checked", MODELS, None)
    )
    assert lesson is not None
    Scorer(shipped_weights()).learn_all([lesson.label])
