"""Loading a folder: what it gives, every fault in its place, and nothing raised whatever the files hold."""

from __future__ import annotations

import os
import random
import time
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from broken_folder import BROKEN, WHOLE, cases, folder_with, stated
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from router.difficulty.weights import shipped_weights
from router.errors import PolicyFaults
from router.policy.expectation import Bounds
from router.policy.fault import Fault
from router.policy.reading.document import LARGEST_FILE_BYTES
from router.policy.reading.load import Loaded, load_files, load_folder
from router.pricing import Catalogue, Price
from router.values import Usage

SHIPPED = Path(__file__).parents[2] / "policies"
HERE = Path()


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue()


def load(catalogue: Catalogue, files: dict[str, str | bytes], environ: dict[str, str] | None = None) -> Loaded:
    whole = {
        **WHOLE,
        **{name: text.encode() if isinstance(text, str) else text for name, text in files.items()},
    }
    return load_files(whole, catalogue, environ or {}, HERE)


def task(body: str = "route:\n  - use: cheap\n", name: str = "support") -> str:
    return f"version: 1\ntask: {name}\n{body}"


def lines(loaded: Loaded) -> list[str]:
    return [str(fault) for fault in loaded.faults]


# What a folder gives


def test_the_contract_s_example_loads(catalogue: Catalogue) -> None:
    loaded = load(
        catalogue,
        {
            "a-first.yaml": task(name="default"),
            "accounts.yaml": """version: 1
accounts:
  search-team:
    keys: ["sha256:0000000000000000000000000000000000000000000000000000000000000000"]
    budget: {per_day_usd: 100, per_month_usd: 2000}
    limits: {requests_per_minute: 600, tokens_per_minute: 200000}
    tasks: [support, search]
""",
            "models.yaml": """version: 1
models:
  cheap: {target: openai/gpt-4o-mini}
  tuned:
    target: openai/support-ft-v3
    base_url: http://vllm.internal:8000/v1
    api_key: ${VLLM_API_KEY}
    price: {input_usd_per_mtok: 0.10, cached_input_usd_per_mtok: 0.05, output_usd_per_mtok: 0.40}
    kind: fine-tuned
  premium:
    target: anthropic/claude-sonnet-4-5
""",
            "support.yaml": """version: 1
task: support
match: {models: [gpt-4o]}
baseline: premium
budget: {per_request_usd: 0.01, per_day_usd: 25, per_month_usd: 500, on_exceeded: downgrade}
route:
  - name: hard
    when: {difficulty: {gte: 0.7}, budget_used_pct: {lt: 90}}
    use: premium
  - name: routine
    when: {input_tokens: {lte: 4000}}
    use: [tuned, cheap]
    verify: {json: true, escalate_to: premium}
  - use: cheap
prompts: {tuned: {system: "Answer in one short paragraph."}}
tests:
  - name: where is my parcel is routine
    request: {messages: [{role: user, content: "Where is my parcel?"}]}
    expect: {rule: routine, use: tuned, cost_usd: {lte: 0.001}}
""",
        },
        {"VLLM_API_KEY": "secret-1", "OPENAI_API_KEY": "secret-2"},
    )
    to_come, unchecked = lines(loaded)
    assert to_come == 'accounts.yaml:7:22: warning: there is no task "search" yet (known: default, support)'
    assert "warning: streams pass this unchecked; say `buffer: true`" in unchecked
    policy = loaded.checked().policies["support"]
    assert [rule.name for rule in policy.rules] == ["hard", "routine", "otherwise"]
    assert policy.rules[1].use == ("tuned", "cheap")
    assert policy.rules[1].verify is not None
    assert policy.rules[1].verify.escalate_to == "premium"
    assert policy.budget.per_request_nusd == 10_000_000
    assert policy.budget.windows() == (("day", 25_000_000_000), ("month", 500_000_000_000))
    assert policy.needs == {"difficulty", "budget_used_pct", "input_tokens"}
    assert policy.prompts == {"tuned": "Answer in one short paragraph."}
    assert policy.match.claims("gpt-4o", None, {})
    models = loaded.checked().models
    tuned, cheap, premium = (models[name].targets[0] for name in ("tuned", "cheap", "premium"))
    assert (tuned.api_key, cheap.api_key, premium.api_key) == ("secret-1", "secret-2", None)
    assert premium.api_key_variable == "ANTHROPIC_API_KEY"
    assert cheap.max_output_tokens == 16_384
    assert cheap.output_limit_known
    assert not tuned.output_limit_known
    assert "secret" not in repr(models)
    (test,) = loaded.tests
    assert (test.task, test.place.line, test.expect.use) == ("support", 17, ("tuned",))
    assert test.expect.cost_usd == Bounds(lte=Decimal("0.001"))
    assert test.request == (b'{"model": "auto", "messages": [{"role": "user", "content": "Where is my parcel?"}]}')


def test_the_shipped_folder_has_no_fault_and_every_policy_has_tests(catalogue: Catalogue) -> None:
    loaded = load_folder(SHIPPED, catalogue, {})
    assert lines(loaded) == []
    tested = {test.task for test in loaded.tests}
    assert tested == set(loaded.checked().policies)
    assert tested == {"default", "support", "summarise", "extract", "code", "legal-drafting"}
    for policy in loaded.checked().policies.values():
        assert policy.baseline == "premium"
        assert policy.budget.per_request_nusd


def test_the_shipped_example_of_accounts_loads(catalogue: Catalogue) -> None:
    files = {path.name: path.read_bytes() for path in SHIPPED.glob("*.yaml")}
    example = (SHIPPED / "accounts.yaml.example").read_bytes()
    loaded = load_files({**files, "accounts.yaml": example}, catalogue, {}, HERE)
    assert lines(loaded) == []
    account = loaded.checked().accounts["search-team"]
    assert account.tasks == {"support", "extract"}
    assert account.requests_per_minute == 600
    assert loaded.checked().budget.per_day_nusd == 200_000_000_000


@given(nusd=st.integers(1, 9_000_000 * 10**9))
@settings(max_examples=50, deadline=None)
def test_a_budget_is_exact_to_the_nano_dollar(catalogue: Catalogue, nusd: int) -> None:
    written = f"{Decimal(nusd).scaleb(-9):f}"
    loaded = load(catalogue, {"s.yaml": task(f"budget: {{per_day_usd: {written}}}\nroute: [{{use: cheap}}]\n")})
    assert loaded.checked().policies["support"].budget.per_day_nusd == nusd


def test_a_budget_is_rounded_down(catalogue: Catalogue) -> None:
    loaded = load(catalogue, {"s.yaml": task("budget: {per_day_usd: 0.0000000019}\nroute: [{use: cheap}]\n")})
    assert loaded.checked().policies["support"].budget.per_day_nusd == 1


def test_an_optional_model_without_its_variable_is_absent_and_still_priced(catalogue: Catalogue) -> None:
    def model(environ: dict[str, str]) -> str | None:
        text = WHOLE["models.yaml"] + (
            b"  local: {target: openai/tiny, base_url: '${LOCAL_URL}', price: free, optional: true}\n"
        )
        found = load(catalogue, {"models.yaml": text}, environ).checked().models["local"]
        assert found.targets[0].base_url == (environ.get("LOCAL_URL") or None)
        assert found.targets[0].price == Price.free()
        assert found.targets[0].api_key_variable is None
        return found.absent

    assert model({}) == "LOCAL_URL is not set"
    assert model({"LOCAL_URL": ""}) == "LOCAL_URL is not set"
    assert model({"LOCAL_URL": "http://127.0.0.1:8080/v1"}) is None


def test_a_url_of_one_s_own_is_not_sent_the_provider_s_key(catalogue: Catalogue) -> None:
    text = "version: 1\nmodels:\n  cheap: {target: openai/gpt-4o-mini, base_url: 'http://10.0.0.1/v1'}\n"
    loaded = load(catalogue, {"models.yaml": text}, {"OPENAI_API_KEY": "secret"})
    assert loaded.checked().models["cheap"].targets[0].api_key is None


@pytest.mark.parametrize(
    ("target", "more", "environ", "percent"),
    [
        ("openai/gpt-5.4", "", {}, 100),
        ("openai/gpt-5.4", ', base_url: "https://eu.api.openai.com/v1"', {}, 110),
        ("openai/gpt-5.4", ', base_url: "https://${PLACE}.api.openai.com/v1/"', {"PLACE": "US"}, 110),
        ("openai/gpt-5.4", ', base_url: "https://eu.api.openai.com.example.org/v1"', {}, 100),
        ("openai/gpt-4o", ', base_url: "https://eu.api.openai.com/v1"', {}, 100),
        ("vertex_ai/claude-sonnet-4-5", "", {}, 110),
        ("vertex_ai/claude-sonnet-4-5", "", {"VERTEXAI_LOCATION": ""}, 110),
        ("vertex_ai/claude-sonnet-4-5", "", {"VERTEXAI_LOCATION": "global"}, 100),
        ("vertex_ai/claude-sonnet-4-5", "", {"VERTEXAI_LOCATION": "us-east5"}, 110),
        ("vertex_ai/claude-sonnet-4-5", "", {"VERTEX_LOCATION": "global"}, 110),
    ],
)
def test_a_region_that_costs_more_is_priced_so(
    catalogue: Catalogue, target: str, more: str, environ: dict[str, str], percent: int
) -> None:
    models = f"version: 1\nmodels: {{cheap: {{target: {target}{more}}}}}\n"
    files = {"models.yaml": models, "a.yaml": task(name="default")}
    price = load_files({name: text.encode() for name, text in files.items()}, catalogue, environ, HERE).checked()
    listed = catalogue.entry(*target.split("/", 1)).price
    usage = Usage(100_000, 10_000)
    assert price.models["cheap"].targets[0].price.charge_nusd(usage) * 100 == listed.charge_nusd(usage) * percent


def test_several_targets_share_a_model_with_weights(catalogue: Catalogue) -> None:
    text = """version: 1
models:
  cheap:
    targets:
      - {target: openai/gpt-4o-mini, weight: 3}
      - {target: azure/gpt-4o-mini, weight: 0.5, base_url: 'https://x.example.com/', api_key: '${AZURE}'}
    abilities: [audio]
    lacks: [tools]
    timeouts: {first_byte_s: 2.5}
    retries: 0
"""
    model = load(catalogue, {"models.yaml": text}, {"AZURE": "k"}).checked().models["cheap"]
    assert [(target.name, target.weight) for target in model.targets] == [
        ("openai/gpt-4o-mini", 3.0),
        ("azure/gpt-4o-mini", 0.5),
    ]
    assert (model.targets[1].api_key, model.targets[1].base_url) == ("k", "https://x.example.com")
    assert "tools" in model.targets[0].lacks
    assert "audio" not in model.targets[0].lacks
    assert (model.deadlines.first_byte_s, model.deadlines.connect_s, model.retries) == (2.5, 5.0, 0)


def test_the_revision_names_the_bytes_and_not_the_environment(catalogue: Catalogue) -> None:
    first = load(catalogue, {}).checked().revision
    assert len(first) == 12
    assert load(catalogue, {}, {"OPENAI_API_KEY": "k"}).checked().revision == first
    assert load(catalogue, {"a-first.yaml": WHOLE["a-first.yaml"] + b"#"}).checked().revision != first


def test_yaml_1_2_leaves_no_and_on_as_text(catalogue: Catalogue) -> None:
    body = "route:\n  - {when: {language: no}, use: cheap}\n  - {name: on, use: cheap}\n"
    rules = load(catalogue, {"s.yaml": task(body)}).checked().policies["support"].rules
    assert [rule.name for rule in rules] == ["rule-1", "on"]


def test_an_alias_stands_for_what_it_names(catalogue: Catalogue) -> None:
    body = """route:
  - {when: &tools {has: tools}, use: premium}
  - {when: {not: *tools, stream: true}, use: cheap}
  - use: cheap
"""
    assert len(load(catalogue, {"s.yaml": task(body)}).checked().policies["support"].rules) == 3


def test_a_test_by_facts_gets_the_circumstances_it_is_given(catalogue: Catalogue) -> None:
    body = """route:
  - use: [cheap, premium]
expected_output_tokens: 77
tests:
  - name: late
    facts: {input_tokens: 5, has: tools, metadata: {tier: 1.5}}
    given: {budget_used_pct: 95, hour: 3, headers: {X-Team: a}, absent: premium}
    expect: {use: [cheap], max_output_tokens: 4096}
"""
    loaded = load(catalogue, {"s.yaml": task(body)})
    (test,) = loaded.tests
    assert test.facts is not None
    facts = test.given.over(test.facts)
    assert (facts.hour, facts.weekday, facts.budget_used_pct) == (3, "wed", 95.0)
    assert (facts.headers, facts.metadata, facts.has) == ({"x-team": "a"}, {"tier": 1.5}, {"tools"})
    assert facts.expected_output_tokens == 77
    models = test.given.models(loaded.checked().models)
    assert models["premium"].absent
    assert models["cheap"].absent is None


# Every fault in its place


@pytest.mark.parametrize("broken", cases(), ids=lambda path: path.stem)
def test_a_broken_file_is_reported_as_it_states(catalogue: Catalogue, broken: Path) -> None:
    loaded = load_files(folder_with(broken), catalogue, {}, HERE)
    found = [str(fault) for fault in loaded.faults]
    expected = stated(broken)
    assert expected, "a broken file states its faults"
    # The catalogue's date is in its messages, so these are stated up to it.
    assert [
        line[: len(wanted) - 1] + "…" if wanted.endswith("…") else line
        for line, wanted in zip(found, expected, strict=True)
    ] == expected
    assert (loaded.set is None) == any(fault.stops for fault in loaded.faults)


def test_there_are_sixty_broken_files_and_no_message_tells_a_secret(catalogue: Catalogue) -> None:
    assert len(cases()) >= 60
    for broken in cases():
        for fault in load_files(folder_with(broken), catalogue, {}, HERE).faults:
            assert "verysecret" not in fault.message


def test_all_faults_of_all_files_come_in_one_run_and_in_order(catalogue: Catalogue) -> None:
    loaded = load(
        catalogue,
        {
            "z.yaml": task("route: [{use: nobody}]\n", "z"),
            "b.yaml": task("baseline: nobody\nroute: [{use: cheap, prefer: best}]\n", "b"),
            "models.yaml": WHOLE["models.yaml"] + b"  auto: {target: openai/gpt-4o}\n",
        },
    )
    assert [(fault.file, fault.line) for fault in loaded.faults] == [
        ("b.yaml", 3),
        ("b.yaml", 4),
        ("models.yaml", 7),
        ("z.yaml", 3),
    ]
    with pytest.raises(PolicyFaults) as raised:
        loaded.checked()
    assert raised.value.faults == tuple(lines(loaded))


def test_a_warning_does_not_keep_a_folder_from_being_used(catalogue: Catalogue) -> None:
    loaded = load(catalogue, {"s.yaml": task("match: {models: [cheap]}\nroute: [{use: cheap}]\n")})
    assert loaded.set is not None
    (said,) = lines(loaded)
    assert said.startswith('s.yaml:3:18: warning: "cheap" is in models.yaml')


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "1:1: error: the file is empty; it should begin with `version: 1`"),
        (b"# nothing\n", "1:1: error: the file is empty; it should begin with `version: 1`"),
        (b"version: 1\ntask: caf\xe9\n", "2:10: error: the file is not UTF-8: byte 0xe9"),
        (b"\xff\xfev\x00", "1:1: error: the file is not UTF-8: byte 0xff"),
        (b"a: " + b"x" * LARGEST_FILE_BYTES, f"1:1: error: the file is larger than {LARGEST_FILE_BYTES:,} bytes"),
        (b"a: " + b"[" * 100, "1:67: error: nested more than 64 deep"),
        (b"{" * 100_000, "1:2: error: a key must be text, not a list or a mapping"),
        (b"a: &a " + b"[x, x]\nb: &b " + b"[*a, *a]\n? *a\n: 1", "3:3: error: a key must be text, not an alias"),
    ],
)
def test_a_file_that_is_no_policy_at_all_is_a_fault(catalogue: Catalogue, data: bytes, said: str) -> None:
    assert f"s.yaml:{said}" in lines(load(catalogue, {"s.yaml": data}))


def test_aliases_that_multiply_are_refused_in_no_time(catalogue: Catalogue) -> None:
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 20)
    )
    started = time.perf_counter()
    loaded = load(catalogue, {"s.yaml": task() + laughs})
    assert time.perf_counter() - started < 2
    assert any("more than 250,000 values" in line for line in lines(loaded))


def test_a_byte_order_mark_moves_no_column(catalogue: Catalogue) -> None:
    loaded = load(catalogue, {"s.yaml": "\ufeff" + "vresion: 1\ntask: s\nroute: [{use: cheap}]\n"})
    assert any(line.startswith('s.yaml:1:1: error: unknown key "vresion"') for line in lines(loaded))


def test_columns_count_characters(catalogue: Catalogue) -> None:
    loaded = load(catalogue, {"s.yaml": task('route: [{name: é, use: "😀", prefer: x}]\n')})
    assert [(fault.line, fault.column) for fault in loaded.faults] == [(3, 16), (3, 24), (3, 37)]


# The folder


def test_only_yaml_files_count(catalogue: Catalogue, tmp_path: Path) -> None:
    for name, data in WHOLE.items():
        (tmp_path / name).write_bytes(data)
    for name in (".hidden.yaml", "a.yaml~", ".a.yaml.swp", "notes.txt", "#a.yaml#", "4913"):
        (tmp_path / name).write_text(": broken")
    assert load_folder(tmp_path, catalogue, {}).set is not None


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("{}", "Object missing required field `format`"),
        (b"\xff", "JSON is malformed: invalid character (byte 0)"),
        ('{"x": ' + "[" * 100_000, "maximum recursion depth exceeded while deserializing an object"),
    ],
)
def test_a_file_of_weights_that_can_not_be_used_is_a_fault(catalogue: Catalogue, data: str | bytes, said: str) -> None:
    assert lines(load(catalogue, {"difficulty.json": data})) == [
        f"difficulty.json:1:1: error: this is not a file of weights ({said}). Make one with farthing difficulty train"
    ]


def test_a_module_of_checks_that_exits_when_it_is_imported_is_a_fault(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checks_that_exit.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    rules = 'route: [{use: cheap, verify: {python: "checks_that_exit:is_fine", buffer: true}}]\n'
    (told,) = lines(load(catalogue, {"support.yaml": task(rules)}))
    assert told == (
        "support.yaml:3:39: error: checks_that_exit:is_fine can't be imported: SystemExit: 0; "
        "put its folder on PYTHONPATH"
    )


def test_a_text_that_is_almost_a_comparison_holds_nothing_up(catalogue: Catalogue) -> None:
    almost = "= 1   " * 11 + "!"  # each comparison more took four times as long
    rules = f"route: [{{when: {{language: '{almost}'}}, use: cheap}}, {{use: cheap}}]\n"
    started = time.perf_counter()
    (told,) = lines(load(catalogue, {"support.yaml": task(rules)}))
    assert time.perf_counter() - started < 0.5
    assert "`language` is two or three small letters" in told


@pytest.mark.parametrize(
    ("name", "value"),
    [("step", 1e6), ("step", -1.0), ("spread", 0.0), ("spread", -1.0), ("reference", [1.0, *[0.0] * 100])],
)
def test_weights_that_no_training_gives_are_a_fault(
    catalogue: Catalogue, name: str, value: float | list[float]
) -> None:
    weights = replace(shipped_weights(), **{name: value})
    (told,) = lines(load(catalogue, {"difficulty.json": msgspec.json.encode(weights)}))
    assert told.startswith("difficulty.json:1:1: error: this is a damaged file of weights")


def test_a_folder_that_is_missing_or_empty_is_a_fault(catalogue: Catalogue, tmp_path: Path) -> None:
    missing = load_folder(tmp_path / "none", catalogue, {})
    (fault,) = lines(missing)
    assert fault.startswith(f"{tmp_path / 'none'}:1:1: error: the folder can't be read: No such file or directory")
    assert fault.endswith("make one with `farthing init`")
    empty = load_folder(tmp_path, catalogue, {})
    assert empty.set is None
    assert any("models.yaml is missing" in fault.message for fault in empty.faults)


def test_what_is_no_file_is_a_fault_and_never_waited_for(catalogue: Catalogue, tmp_path: Path) -> None:
    for name, data in WHOLE.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "gone.yaml").symlink_to(tmp_path / "nowhere")
    found = {(Path(fault.file).name, fault.message) for fault in load_folder(tmp_path, catalogue, {}).faults}
    assert found == {
        ("folder.yaml", "this is not a file"),
        ("pipe.yaml", "this is not a file"),
        ("gone.yaml", "this is a link to a file that is not there"),
    }


def test_two_spellings_of_one_file_are_a_fault(catalogue: Catalogue) -> None:
    loaded = load(catalogue, {"models.yml": WHOLE["models.yaml"]})
    assert lines(loaded) == ["models.yml:1:1: error: models.yaml is there as well; keep one of the two"]


def test_a_folder_without_a_default_task_is_warned_about(catalogue: Catalogue) -> None:
    loaded = load(catalogue, {"a-first.yaml": task(name="other")})
    assert lines(loaded) == ['.:1:1: warning: there is no task "default", so a request that names none may be refused']


def test_a_thousand_tasks_of_twenty_rules_load_in_seconds(catalogue: Catalogue) -> None:
    rule = (
        "  - name: r{0}\n    when: {{input_tokens: {{lte: {0}}}, has: tools, "
        "any: [{{difficulty: {{gte: 0.5}}}}, {{language: en}}]}}\n    use: [cheap, premium]\n"
    )
    rules = "route:\n" + "".join(rule.format(number) for number in range(19)) + "  - use: cheap\n"
    files: dict[str, str | bytes] = {f"t{number}.yaml": task(rules, f"t{number}") for number in range(200)}
    started = time.perf_counter()
    loaded = load(catalogue, files)
    took_s = time.perf_counter() - started
    assert len(loaded.checked().policies) == 201
    print(f"1,000 tasks of 20 rules would take {took_s * 5:.1f} s")
    assert took_s * 5 < 30


# Anything


def _mutated(data: bytes, dice: random.Random) -> bytes:
    piece = bytearray(data)
    for _ in range(dice.randint(1, 6)):
        at, end = sorted((dice.randrange(len(piece) + 1), dice.randrange(len(piece) + 1)))
        match dice.randrange(6):
            case 0:
                piece[at : at + dice.randint(0, 8)] = b""
            case 1:
                piece[at:at] = dice.choice(SPLINTERS)
            case 2:
                piece[at:at] = bytes([dice.randrange(256)])
            case 3:
                piece[at:at] = piece[at : min(end, at + 40)]
            case 4 if at < len(piece):
                piece[at] = dice.randrange(128)
            case 5:
                words = data.split()
                piece[at:at] = b" " + dice.choice(words) + b" "
    return bytes(piece)


SPLINTERS = (
    b"{", b"}", b"[", b"]", b"*a", b"&a ", b"!!int ", b"? ", b": ", b"- ", b"\t", b"\n", b"\n  ", b"null",
    b".nan", b"-.inf", b"1e999999999", b"9" * 5000, b"0x", b'"', b"'", b"|\n", b">", b"%YAML 1.1\n",
    b"---\n", b"...\n", b"<<: *a", b"\xef\xbb\xbf", b"\x00", b"\xed\xa0\x80", b"\\ud800", b"2026-01-01",
    b"~", b"true", b"[[[[[[", b"{a: {a: {a: ", b"in: [", b'matches: "(a{1000}){1000}"', b"all: [{}]", b"${A}",
    b"when:", b"condition: late", b"condition: [late, dear]", b"include: _shared.yaml", b"include: [a/b.yaml, ../x]",
    b"cel: ", b'cel: "hour > 5 && "', b"cel: |\n        has(", b"metadata.a.", b"'tools' in has", b"(((((",
    b"# ", b"\xf0\x9f\x98\x80", b"1_000",
)  # fmt: skip


INCLUDING: dict[str, str | bytes] = {
    "_shared.yaml": "version: 1\n",
    "including.yaml": task("include: _shared.yaml\nroute: [{when: {condition: late}, use: dear}, {use: cheap}]\n"),
}
SHARING = (
    b"version: 1\nconditions:\n  late: {hour: {gte: 22}}\n  dear: {condition: late}\n",
    b"version: 1\ninclude: [a/b.yaml]\nconditions: {late: {cel: 'hour > 21 || \"tools\" in has'}}\n",
    b"version: 1\nprompts: {cheap: {system: Be short.}}\nconditions: {late: {all: [{hour: 1}, {condition: dear}]}}\n",
)


def test_no_mutated_file_raises(catalogue: Catalogue) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    sources = [path.read_bytes() for path in (*SHIPPED.glob("*.yaml*"), *BROKEN.rglob("*.yaml"))]
    for _ in range(int(os.environ.get("FARTHING_FUZZ", "300"))):
        name = dice.choice(("models.yaml", "accounts.yaml", "broken.yaml", "_shared.yaml"))
        data = _mutated(dice.choice(SHARING if name == "_shared.yaml" else sources), dice)
        loaded = load(catalogue, {**INCLUDING, name: data})
        assert all(isinstance(fault, Fault) and fault.line >= 1 and fault.column >= 1 for fault in loaded.faults)
        assert (loaded.set is None) == any(fault.level == "error" for fault in loaded.faults)


@given(data=st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_no_bytes_raise(catalogue: Catalogue, data: bytes) -> None:
    assert load(catalogue, {"s.yaml": data}).faults
