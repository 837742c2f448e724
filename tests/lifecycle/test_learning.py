"""Learning from traffic over a real socket: labels come of grades, checks and ratings, and routing follows them."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from msgspec import structs
from proxy import Calls, Proxy, ServeProcess, eventually, running_provider, running_proxy

from lifecycle.mixture import CHEAP, MIXTURE, PREMIUM, agree, asked, files, labels, rate, recovered, score, texts
from router.difficulty.cues import Shape
from router.difficulty.gauge import Gauge
from router.difficulty.lessons import EPOCH
from router.difficulty.look import look_at
from router.difficulty.weights import shipped_weights
from router.ledger.labels import MOST_RATINGS_OF_EPOCH, LabelRow
from router.ledger.open import open_store
from router.lifecycle.learning import Learning, lessons_in
from router.policy.compared import Compared
from router.policy.policy import PolicySet
from router.policy.reading.load import WEIGHTS, load_files
from router.pricing import Catalogue
from router.providers.simulated import Simulation

REQUESTS = int(os.environ.get("FARTHING_LEARN_REQUESTS", "2000"))
SHARE = 0.05
SEED = int(os.environ.get("FARTHING_LEARN_SEED", "11"))
MIDNIGHT_S = 1_767_225_600.0
KEYS = {"one": "sk-one", "two": "sk-two"}
ACCOUNTS = "accounts:\n" + "".join(
    f'  {name}: {{keys: ["sha256:{hashlib.sha256(key.encode()).hexdigest()}"]}}\n' for name, key in KEYS.items()
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_provider(Simulation(answerer=MIXTURE)) as provider:
        yield provider.base_url


@pytest.fixture(scope="module")
def rated(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy that takes ratings."""
    with running_proxy(tmp_path_factory.mktemp("rated"), files(agree(0), url=url)) as proxy:
        yield proxy


def test_what_scores_a_task_is_told_before_and_after_a_reset(
    url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "farthing.learning")
    with running_proxy(tmp_path, files(agree(), url=url)) as proxy:
        for text in texts(120, SEED):
            asked(proxy, text)
        eventually(lambda: "default is scored by what label" in caplog.text, "what was learned")
        reset = structs.replace(labels(proxy)[-1], request_id="reset.1", source="reset")
        with closing(open_store(f"sqlite:///{proxy.ledger}")) as store:
            asyncio.run(store.reset_labels(reset))
        eventually(lambda: "default is scored by no label" in caplog.text, "that it was forgotten")
    assert "label 0" not in caplog.text


def test_both_models_are_graded_behind_the_answer(url: str, tmp_path: Path) -> None:
    with running_proxy(tmp_path, files(agree(), url=url)) as proxy:
        sent = texts(20, SEED)
        ids = {asked(proxy, text).headers["x-farthing-request-id"]: text for text in sent}
        rows = eventually(lambda: found if len(found := labels(proxy)) == len(sent) else None, "a label of each")
        for row in rows:
            text = ids[row.request_id]
            assert (row.source, row.cheap, row.premium, row.propensity) == ("shadow", "cheap", "premium", 1.0)
            # The premium model is taken to be right: where both are wrong they agree.
            assert row.gain == float(MIXTURE.is_right(CHEAP, text) != MIXTURE.is_right(PREMIUM, text))
            assert row.cost_usd is not None
            assert row.cost_usd > 0
            assert not {"customer", "reply"} & set(re.findall(r"[a-z]+", row.look))
        seconds = [row for row in proxy.rows() if row["outcome"] == "shadow"]
        assert {row["rule"] for row in seconds} == {"learning"}
        spent_usd = sum(row["charged_nusd"] for row in seconds) / 1e9
        assert proxy.metric("farthing_budget_spent_usd", scope="shadow", name="default/learning") == pytest.approx(
            spent_usd
        )
        assert proxy.metric("farthing_learning_labels_total", task="default", source="shadow") == len(sent)


def test_learning_beats_a_random_mix_by_what_was_asked_for(url: str, tmp_path: Path) -> None:
    unseen = texts(150, seed=SEED + 1)
    with running_proxy(tmp_path, files(agree(SHARE, 0.01), url=url)) as proxy:
        cold = recovered(proxy, unseen)
        for text in texts(REQUESTS, SEED):
            asked(proxy, text)
        told = eventually(lambda: found if len(found := labels(proxy)) > 0.7 * SHARE * REQUESTS else None, "labels")
        eventually(lambda: recovered(proxy, unseen) != cold, "a version that labels taught")
        learned = recovered(proxy, unseen)
    print(
        f"seed {SEED}: after {REQUESTS} requests at {SHARE:.0%} shadow, {len(told)} labels: recovered {learned:.3f}, "
        f"cold {cold:.3f}, random 0.500"
    )
    assert learned > cold
    assert learned >= 0.65


def test_flipped_ratings_are_not_taken_into_service(url: str, tmp_path: Path) -> None:
    unseen = texts(100, seed=SEED + 1)
    with running_proxy(tmp_path, files(agree(0.3), url=url)) as proxy:
        for text in texts(300, SEED):
            answer = asked(proxy, text)
            flipped = 0.0 if MIXTURE.is_right(CHEAP, text) else 1.0
            assert rate(proxy, answer.headers["x-farthing-request-id"], flipped).status_code == 200
        eventually(lambda: recovered(proxy, unseen) >= 0.65, "learning in spite of the ratings")
        ratings = sum(row.source == "feedback" for row in labels(proxy))
        print(f"{ratings} flipped ratings, recovered {recovered(proxy, unseen):.3f}")
        assert ratings > 100


@pytest.mark.parametrize("clean_first", [False, True], ids=["from the start", "after good labels"])
def test_flipped_ratings_that_outnumber_the_labels_are_not_taken_into_service(
    url: str, tmp_path: Path, *, clean_first: bool
) -> None:
    unseen = texts(100, SEED + 1)
    given = files(agree(0.25 if not clean_first else 1), url=url)
    with running_proxy(tmp_path, given) as proxy:
        if clean_first:
            for text in texts(80, SEED):
                asked(proxy, text)
            eventually(lambda: len(labels(proxy)) == 80, "a label of each")
            _served_all(proxy, unseen)
            before = recovered(proxy, unseen)
            proxy.rewrite(default=given["default"].replace("share: 1,", "share: 0,"))
        for text in texts(400, SEED + 2):
            answer = asked(proxy, text)
            if answer.headers["x-farthing-model"] == "cheap":
                flipped = 0.0 if MIXTURE.is_right(CHEAP, text) else 1.0
                assert rate(proxy, answer.headers["x-farthing-request-id"], flipped).json()["learned"] is True
        _served_all(proxy, unseen)
        told = labels(proxy)
        own, ratings = (sum(row.source == source for row in told) for source in ("shadow", "feedback"))
        after = recovered(proxy, unseen)
        print(f"{own} labels, {ratings} flipped ratings, recovered {after:.3f}, random 0.500")
        assert ratings > 1.5 * own
        assert after >= (before - 0.02 if clean_first else 0.6)


def _served_all(proxy: Calls, unseen: list[str]) -> None:
    """Wait until the proxy scores by all labels that the ledger has."""
    models = (("cheap", f"openai/{CHEAP}"), ("premium", f"openai/{PREMIUM}"))
    own = Compared("checked", models, "premium")

    def alike() -> bool:
        store = open_store(f"sqlite:///{proxy.ledger}", read_only=True)
        served = lessons_in(store, "default", own, shipped_weights()).served
        told = [round(served.score(look_at(text, Shape())).value, 4) for text in unseen[:5]]
        return told == [score(proxy, text) for text in unseen[:5]]

    eventually(alike, "scores by all labels")


def test_a_failed_check_is_a_label_that_the_cheap_model_was_not_enough(url: str, tmp_path: Path) -> None:
    verify = "{agree: {with: premium, by: number}, escalate_to: premium, buffer: true}"
    route = f"  - {{name: all, use: cheap, verify: {verify}}}\n"
    with running_proxy(tmp_path, files("{explore: 0}", route=route, url=url)) as proxy:
        ids = {asked(proxy, text).headers["x-farthing-request-id"]: text for text in texts(20, SEED)}
        rows = eventually(lambda: found if len(found := labels(proxy)) == 20 else None, "a label of each")
        for row in rows:
            same = MIXTURE.is_right(CHEAP, ids[row.request_id]) == MIXTURE.is_right(PREMIUM, ids[row.request_id])
            assert (row.source, row.gain) == ("check", 0.0 if same else 1.0)
        assert len({row.gain for row in rows}) == 2


def test_a_rating_is_kept_and_the_last_one_counts(url: str, tmp_path: Path) -> None:
    with running_proxy(tmp_path, files(agree(0, 0.1, "trusted"), url=url)) as proxy:
        answer = next(
            found for text in texts(30, SEED) if (found := asked(proxy, text)).headers["x-farthing-model"] == "cheap"
        )
        request_id = answer.headers["x-farthing-request-id"]
        assert rate(proxy, request_id, 1).json()["learned"] is True
        assert rate(proxy, request_id, 0.25).json() == {
            "object": "feedback",
            "request_id": request_id,
            "score": 0.25,
            "task": "default",
            "learned": True,
            "because": None,
        }
        assert [row.gain for row in labels(proxy)] == [0.0, 0.75]
        assert all(0 < row.propensity < 1 for row in labels(proxy))


@pytest.mark.parametrize(("feedback", "learned"), [("checked", False), ("trusted", True)])
def test_ratings_do_not_displace_what_confirms_them(url: str, tmp_path: Path, *, feedback: str, learned: bool) -> None:
    with running_proxy(tmp_path, files(agree(1, 0, feedback), url=url)) as proxy:
        answer = next(
            found for text in texts(30, SEED) if (found := asked(proxy, text)).headers["x-farthing-model"] == "cheap"
        )
        request_id = answer.headers["x-farthing-request-id"]
        assert rate(proxy, request_id, 1).json()["learned"] is True
        rating = next(row for row in labels(proxy) if row.source == "feedback")
        _add(proxy, [structs.replace(rating, request_id=str(at)) for at in range(MOST_RATINGS_OF_EPOCH - 1)])
        assert rate(proxy, request_id, 0).json()["learned"] is True, "it takes the place of its first"
        later = proxy.ask(model="cheap", max_tokens=16).headers["x-farthing-request-id"]
        told = rate(proxy, later, 0).json()
        assert (told["learned"], "own labels" in (told["because"] or "")) == (learned, not learned)
        before = len(labels(proxy))
        _add(proxy, [structs.replace(rating, request_id=str(at), source="shadow") for at in range(EPOCH)])
        last = proxy.ask(model="cheap", max_tokens=16).headers["x-farthing-request-id"]
        assert rate(proxy, last, 0).json()["learned"] is True
        assert len(labels(proxy)) > before + EPOCH


def test_an_account_that_rates_much_leaves_room_for_others(url: str, tmp_path: Path) -> None:
    with running_proxy(tmp_path, files(agree(0), url=url) | {"accounts": ACCOUNTS}) as proxy:

        def because(name: str) -> str | None:
            """Rate another answer for an account; return why nothing was learned of it."""
            headers = {"authorization": f"Bearer {KEYS[name]}"}
            request_id = proxy.ask(model="cheap", headers=headers, max_tokens=16).headers["x-farthing-request-id"]
            told: str | None = rate(proxy, request_id, 1, headers=headers).json()["because"]
            return told

        assert because("one") is None
        rating = labels(proxy)[0]

        def give(name: str, count: int) -> None:
            """Give an account so many more answers that it rated."""
            ids = [f"{name}{at}" for at in range(count)]
            with closing(sqlite3.connect(proxy.ledger)) as ledger, ledger:
                (columns,) = zip(*ledger.execute("SELECT name FROM pragma_table_info('requests')"), strict=True)
                told = [{"id": "?", "account": "?"}.get(column, column) for column in columns]
                copied = f"INSERT INTO requests SELECT {', '.join(told)} FROM requests WHERE id = ?"
                ledger.executemany(copied, [(each, name, rating.request_id) for each in ids])
            _add(proxy, [structs.replace(rating, request_id=each) for each in ids])

        give("one", 998)
        assert because("one") is None
        refused = because("one")
        assert refused is not None
        assert "room for those of others" in refused
        assert because("two") is None
        give("two", 333)
        assert because("two") == refused
        assert len(labels(proxy)) == 1000 + 334


def _add(proxy: Calls, rows: list[LabelRow]) -> None:
    """Put labels into the ledger, as other replicas would."""

    async def add() -> None:
        with closing(open_store(f"sqlite:///{proxy.ledger}")) as store:
            await store.open()
            await store.label(rows)

    asyncio.run(add())


RATING = 'A rating is {"request_id": text, "score": a number from 0 (bad) to 1 (good)}.'


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ('{"request_id": "x", "score": 2}', "score", "`score` must be from 0 (bad) to 1 (good), not 2."),
        ('{"request_id": "x", "score": -0.1}', "score", "`score` must be from 0 (bad) to 1 (good), not -0.1."),
        (
            '{"request_id": "x", "score": 1.0000001}',
            "score",
            "`score` must be from 0 (bad) to 1 (good), not 1.0000001.",
        ),
        ('{"request_id": "x"}', "score", f"The body lacks the required member `score`. {RATING}"),
        (
            '{"request_id": 1, "score": 1}',
            "request_id",
            f"Wrong value in `request_id`: expected `str`, got `int`. {RATING}",
        ),
        (
            '{"request_id": "x", "score": "1"}',
            "score",
            f"Wrong value in `score`: expected `float`, got `str`. {RATING}",
        ),
        (
            '{"request_id": "x", "score": 1, "note": "good"}',
            "note",
            f"There is no member `note`; leave it out. {RATING}",
        ),
        ("[]", None, f"Wrong value in the body: expected `object`, got `array`. {RATING}"),
        ("{", None, f"The body is not valid JSON: input data was truncated. {RATING}"),
        (b'{"request_id": "\xff"}', None, f"The body is not valid UTF-8: byte 0xff at position 16. {RATING}"),
    ],
)
def test_what_is_no_rating_is_refused(rated: Proxy, body: str | bytes, param: str | None, message: str) -> None:
    refused = rated.http.post("/v1/feedback", content=body)
    told = refused.json()["error"]
    assert (refused.status_code, told["code"], told["param"]) == (400, "invalid_request", param)
    assert told["message"] == message
    unknown = rate(rated, "no-such-request", 1)
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "request_not_found")


def test_an_account_rates_its_own_requests_only(url: str, tmp_path: Path) -> None:
    with running_proxy(tmp_path, files(agree(0), url=url) | {"accounts": ACCOUNTS}) as proxy:
        own, other = ({"authorization": f"Bearer {key}"} for key in KEYS.values())
        request_id = proxy.ask(headers=own).headers["x-farthing-request-id"]
        assert rate(proxy, request_id, 1).status_code == 401
        assert rate(proxy, request_id, 1, headers=other).status_code == 404
        assert rate(proxy, request_id, 1, headers=own).status_code == 200


def test_what_was_learned_is_kept_after_a_kill_and_equal_on_two_replicas(url: str, tmp_path: Path) -> None:
    policies = files(agree(), url=url)
    environ = {"OPENAI_API_KEY": "k"}
    unseen = texts(10, seed=SEED + 1)
    with (
        ServeProcess(tmp_path, policies, environ=environ) as first,
        ServeProcess(tmp_path, policies, environ=environ) as second,
    ):
        one, two = first.ready(), second.ready()
        before = [score(one, text) for text in unseen]
        for at, text in enumerate(texts(120, SEED)):
            asked(one if at % 2 else two, text)
        eventually(lambda: len(labels(one)) == 120, "a label of each")
        eventually(lambda: [score(one, text) for text in unseen] != before, "learning")
        eventually(lambda: [score(one, text) for text in unseen] == [score(two, text) for text in unseen], "the same")
        learned = [score(one, text) for text in unseen]
        first.kill()
        second.kill()
    with ServeProcess(tmp_path, policies, environ=environ) as again:
        third = again.ready()
        assert [score(third, text) for text in unseen] == learned


def test_an_explored_request_says_so_in_the_ledger(url: str, tmp_path: Path) -> None:
    with running_proxy(tmp_path, files(agree(0, 0.2), url=url)) as proxy:
        for text in texts(60, SEED):
            asked(proxy, text)
        explored = [row for row in proxy.rows() if "explored_from" in row["facts"]]
        assert 0 < len(explored) < 30
        assert any(row["difficulty"] != row["facts"]["explored_from"] for row in explored)
        dry = [proxy.ask(text, headers={"x-farthing-dry-run": "true"}).json() for text in texts(40, SEED)]
        assert len({round(each["facts"]["difficulty"], 4) for each in dry}) <= 40


def test_a_rule_that_asks_for_a_share_is_explored_as_well(url: str, tmp_path: Path) -> None:
    share = "  - {name: some, use: [cheap, premium], premium_share: 0.5}\n"
    with running_proxy(tmp_path, files("{explore: 0.2}", route=share, url=url)) as proxy:
        ids = [asked(proxy, text).headers["x-farthing-request-id"] for text in texts(100, SEED)]
        rows = {row["id"]: row for row in proxy.rows()}
        for request_id in ids:
            rate(proxy, request_id, 1)
        rated = {row.request_id: row.propensity for row in labels(proxy)}
    explored = [row for row in rows.values() if "explored_from" in row["facts"]]
    assert any((row["facts"]["ranks"]["some"] >= 0.5) != (row["difficulty"] >= 0.5) for row in explored)
    for row in explored:
        assert (row["routed_model"] == "premium") == (row["difficulty"] >= 0.5)
    assert rated.keys() == {name for name, row in rows.items() if row["routed_model"] == "cheap"}
    for name, found in rated.items():
        # The rank decides for 80 %, and the half of what is drawn goes to the cheap model.
        expected = 0.9 if rows[name]["facts"]["ranks"]["some"] < 0.5 else 0.1
        assert found == pytest.approx(expected), name


def test_a_rule_by_value_is_explored_as_well(url: str, tmp_path: Path) -> None:
    worth = "  - {name: worth, use: [cheap, premium], prefer: value}\n"
    policies = files("{explore: 0.2}\nbudget: {per_day_usd: 5}", route=worth, url=url)
    with running_proxy(tmp_path, policies, clock=lambda: MIDNIGHT_S) as proxy:
        for text in texts(100, SEED):
            asked(proxy, text)
        rows = proxy.rows()
    explored = sorted((row["difficulty"], row["routed_model"]) for row in rows if "explored_from" in row["facts"])
    # All cost much the same, so that there is a gain from which the premium model is worth it.
    first = next(difficulty for difficulty, model in explored if model == "premium")
    assert explored[0][1] == "cheap"
    assert all(model == "premium" for difficulty, model in explored if difficulty > first + 0.1)


@pytest.mark.anyio
async def test_weights_that_come_while_labels_are_read_are_those_that_serve(url: str, tmp_path: Path) -> None:
    own = structs.replace(shipped_weights(), reference=[0.0] * 101, spread=1.0)
    written = {f"{name}.yaml": f"version: 1\n{text}".encode() for name, text in files(agree(), url=url).items()}
    before, after = (
        load_files(each, Catalogue(), {}, tmp_path).checked()
        for each in (written, written | {WEIGHTS: msgspec.json.encode(own)})
    )
    gauge, now = Gauge(before.weights), [before]

    def reload() -> None:
        now[0] = after
        gauge.use(after.weights)

    def policies() -> PolicySet:
        asyncio.get_running_loop().call_soon(reload)
        return now[0]

    def scored(by: Gauge) -> float:
        return by.read("default", texts(1, SEED)[0], Shape()).score

    with closing(open_store(f"sqlite:///{tmp_path / 'ledger.db'}")) as store:
        await store.open()
        learning = Learning(policies, store, gauge, lambda: MIDNIGHT_S)
        work = asyncio.create_task(learning.work())
        await learning.restored()
        assert scored(gauge) == scored(Gauge(after.weights)) != scored(Gauge(before.weights))
        work.cancel()
        await asyncio.wait([work])


def test_a_proxy_without_learn_writes_no_label(url: str, tmp_path: Path) -> None:
    policies = files("{}", url=url)
    policies["default"] = policies["default"].replace("learn: {}\n", "")
    with running_proxy(tmp_path, policies) as proxy:
        answer = asked(proxy, texts(1, SEED)[0])
        told = rate(proxy, answer.headers["x-farthing-request-id"], 1)
        assert (told.status_code, told.json()["learned"]) == (200, False)
        assert labels(proxy) == []
        assert "look" not in proxy.row_of(answer)["facts"]


def test_a_reset_makes_a_running_proxy_score_as_one_that_has_just_started(url: str, tmp_path: Path) -> None:
    template = "You sort the letters of our customers. Answer in one word.\nLetter: {}"
    unseen = template.format(texts(1, seed=SEED + 1)[0])
    with running_proxy(tmp_path, files(agree(), url=url)) as proxy:
        cold = score(proxy, unseen)
        for text in texts(8, SEED):
            asked(proxy, template.format(text))
        eventually(lambda: len(labels(proxy)) == 8, "a label of each")
        assert score(proxy, unseen) != cold, "what the prompts share is left out"
        command = ["difficulty", "reset", "--task", "default", "--ledger-url", f"sqlite:///{proxy.ledger}"]
        ran = subprocess.run([sys.executable, "-m", "router", *command], check=True, capture_output=True, text=True)
        assert "forgotten" in ran.stdout
        eventually(lambda: score(proxy, unseen) == cold, "the score of the start")
