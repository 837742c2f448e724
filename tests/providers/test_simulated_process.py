"""The simulated providers in a process of their own, and the instant ones for benches."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import openai
import pytest

from providers.processes import runs
from router.providers.simulated import Pace, SimulatedProcess, Simulation
from router.providers.simulated.instant import ANSWER, ANSWER_TOKENS, INPUT_TOKENS
from router.providers.simulated.text import tokens_of

ASKED = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def instant() -> Iterator[SimulatedProcess]:
    with SimulatedProcess(instant=True) as process:
        yield process


def test_the_url_is_good_at_once_and_answers_soon() -> None:
    started = time.perf_counter()
    with SimulatedProcess(Simulation(pace=Pace())) as process:
        url_s = time.perf_counter() - started
        with openai.OpenAI(base_url=process.base_url, api_key="k", max_retries=0) as client:
            answer = client.chat.completions.create(model="gpt-4o-mini", messages=ASKED)
        answered_s = time.perf_counter() - started
        assert process.running
    print(f"the child's URL after {url_s * 1e3:.0f} ms, its first answer after {answered_s:.2f} s")
    assert answer.choices[0].message.content
    assert url_s < 0.5
    assert not process.running


def test_pace_length_and_key_go_along_to_the_process() -> None:
    simulation = Simulation(pace=Pace(first_token_s=0.2), mean_output_tokens=5, api_key="right")
    with SimulatedProcess(simulation) as process:
        with (
            openai.OpenAI(base_url=process.base_url, api_key="wrong", max_retries=0) as client,
            pytest.raises(openai.AuthenticationError),
        ):
            client.chat.completions.create(model="gpt-4o-mini", messages=ASKED)
        with openai.OpenAI(base_url=process.base_url, api_key="right", max_retries=0) as client:
            started = time.perf_counter()
            answer = client.chat.completions.create(model="gpt-4o-mini", messages=ASKED)
            assert time.perf_counter() - started >= 0.2
    assert answer.usage is not None
    assert answer.usage.completion_tokens < 60


def test_the_child_dies_with_a_parent_that_is_killed() -> None:
    program = (
        "import signal\n"
        "from router.providers.simulated import SimulatedProcess\n"
        "with SimulatedProcess() as process:\n"
        "    print(process.pid, flush=True)\n"
        "    signal.pause()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while runs(child):
        assert time.monotonic() < deadline, "the child outlived its parent"
        time.sleep(0.01)


def test_the_command_prints_its_url_and_ends_on_a_signal() -> None:
    command = [sys.executable, "-m", "router.providers.simulated", "--port", "0", "--first-token-s", "0"]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        print(f"ready after {time.perf_counter() - started:.2f} s")
        assert url.startswith("http://127.0.0.1:")
        with openai.OpenAI(base_url=url, api_key="k", max_retries=0) as client:
            assert client.models.list().data
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_the_instant_answer_is_a_whole_one_for_the_sdk(instant: SimulatedProcess) -> None:
    with openai.OpenAI(base_url=instant.base_url, api_key="k", max_retries=0) as client:
        answer = client.chat.completions.create(model="any", messages=ASKED)
    assert answer.choices[0].message.content == ANSWER
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (INPUT_TOKENS, ANSWER_TOKENS)
    assert len(tokens_of(ANSWER)) == ANSWER_TOKENS


@pytest.mark.parametrize("usage", [True, False])
def test_the_instant_stream_is_one_for_the_sdk(instant: SimulatedProcess, usage: bool) -> None:
    with openai.OpenAI(base_url=instant.base_url, api_key="k", max_retries=0) as client:
        stream = client.chat.completions.create(
            model="any", messages=ASKED, stream=True, stream_options={"include_usage": usage}
        )
        chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == ANSWER
    assert (chunks[-1].usage is not None) == usage
