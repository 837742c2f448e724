"""The dashboard Routing: where requests go and why, and how good the estimates are."""

from __future__ import annotations

from grafana.board import Board, Query, Row, panel
from grafana.spend import USD

REQUESTS = 'farthing_requests_total{task=~"$task", model=~"$model"}'
ANSWERS = 'farthing_requests_total{task=~"$task", model=~"$model", outcome=~"answered|cut"}'
ROUTED = 'farthing_requests_total{task=~"$task", model=~"$model", model!="none"}'
BADLY_ENDED = 'farthing_requests_total{task=~"$task", model=~"$model", model!="none", outcome=~"failed|cut"}'
RULE_COST = 'farthing_cost_usd_total{task=~"$task", model=~"$model"}'
ESCALATIONS = 'farthing_escalations_total{task=~"$task"}'

PASSED = 'farthing_checked_answers_total{task=~"$task", result="passed"}'
CHECKED = 'farthing_checked_answers_total{task=~"$task"}'
TRIED = 'farthing_experiment_requests_total{task=~"$task"}'
TRIED_BADLY = 'farthing_experiment_requests_total{task=~"$task", result="failed"}'
PASSED_TRIAL = 'farthing_experiment_checks_total{task=~"$task", result="passed"}'
CHECKED_TRIAL = 'farthing_experiment_checks_total{task=~"$task"}'
SIDES = "task, rule, side"
SIDE = "{{task}}, {{rule}}: {{side}}"


def _part(part: str, whole: str, by: str) -> str:
    """Return an expression of what part of the counter `whole` rose with the counter `part`; 0 where that never did."""
    parts, wholes = (f"sum by ({by}) (rate({one}[$__rate_interval]))" for one in (part, whole))
    return f"({parts} or 0 * {wholes}) / {wholes}"


MIX = Row(
    "Mix",
    (
        panel(
            "Models",
            "The share of requests that each model got. `none`: refused before one was chosen.",
            Query(f"sum by (model) (rate({REQUESTS}[$__rate_interval]))", "{{model}}"),
            unit="reqps", shape="shares",
        ),
        panel(
            "Rules",
            "The share of requests that each rule decided. `pinned`: the caller named a model.",
            Query(f"sum by (task, rule) (rate({REQUESTS}[$__rate_interval]))", "{{task}}: {{rule}}"),
            unit="reqps", shape="shares",
        ),
        panel(
            "Outcomes",
            "Requests per second by how they ended. `cut`: ended at its budget; `cancelled`: the caller hung up.",
            Query(f"sum by (outcome) (rate({REQUESTS}[$__rate_interval]))", "{{outcome}}"),
            unit="reqps", shape="stack",
        ),
        panel(
            "Refusals",
            "Requests per second that Farthing refused, by error code. `budget_exceeded`: a budget is used up.",
            Query(
                'sum by (task, reason) (rate(farthing_refusals_total{task=~"$task"}[$__rate_interval]))',
                "{{task}}: {{reason}}",
            ),
            unit="reqps", width=12,
        ),
        panel(
            "Failed calls",
            "Calls per second that a model failed, by reason. Where another one answered, the caller saw none of it.",
            Query(
                'sum by (model, reason) (rate(farthing_attempt_failures_total{model=~"$model"}[$__rate_interval]))',
                "{{model}}: {{reason}}",
            ),
            unit="reqps", width=12,
        ),
    ),
)  # fmt: skip

HARD = Row(
    "Hard and easy",
    (
        panel(
            "Difficulty",
            "How many requests had which difficulty, from 0 to 1, where a rule of the task looks at it.",
            Query(
                'sum by (le) (increase(farthing_difficulty_bucket{task=~"$task"}[$__rate_interval]))', "{{le}}"
            ),
            shape="heat",
        ),
        panel(
            "Escalations",
            "Answers per second that failed their check and were asked for again elsewhere, and why.",
            Query(
                f"sum by (from, to, reason) (rate({ESCALATIONS}[$__rate_interval]))", "{{from}} → {{to}}: {{reason}}"
            ),
            unit="reqps",
        ),
        panel(
            "Escalated part of the requests",
            "Escalations for each request, by task. Where it rises, a cheap model has got worse at a task, or the task"
            " has changed.",
            Query('task:farthing_escalations:ratio_rate1h{task=~"$task"}', "{{task}}"),
            unit="percentunit", steps=((None, "green"), (0.1, "yellow"), (0.3, "red")),
        ),
    ),
)  # fmt: skip

CHECKS = Row(
    "Checked answers",
    (
        panel(
            "What checks came to",
            "Answers of rules with `verify`. `escalated`: failed, and another model's answer was given; `failed`: given"
            " all the same, for no other was to be had; `unchecked`: could not be checked.",
            Query(f"sum by (result) (rate({CHECKED}[$__rate_interval]))", "{{result}}"),
            unit="reqps", shape="shares",
        ),
        panel(
            "Passed at the first try",
            "The part of a rule's checked answers that needed no second one. Where it falls, its first model does"
            " worse, or its check asks for more than that can give.",
            Query(_part(PASSED, CHECKED, "task, rule"), "{{task}}: {{rule}}"),
            unit="percentunit", largest=1, steps=((None, "red"), (0.7, "yellow"), (0.9, "green")),
        ),
        panel(
            "Learned from",
            "Labels per hour that a task's difficulty learns from, by where they come from.",
            Query(
                'sum by (task, source) (rate(farthing_learning_labels_total{task=~"$task"}[$__rate_interval])) * 3600',
                "{{task}}: {{source}}",
            ),
        ),
    ),
)  # fmt: skip

TRIALS = Row(
    "Experiments",
    (
        panel(
            "Where experiments stand",
            "Each experiment's state. An aborted canary gets no more requests; a promoted one gets all.",
            Query(
                'max by (task, rule, state) (farthing_experiment_state{task=~"$task"}) > 0',
                "{{task}}, {{rule}}: {{state}}",
            ),
            largest=1,
        ),
        panel(
            "Requests by side",
            "Requests per second of each side: `control` is the rule as it was, `canary` the model on trial, `shadow`"
            " one that is asked behind the answer.",
            Query(f"sum by ({SIDES}) (rate({TRIED}[$__rate_interval]))", SIDE),
            unit="reqps",
        ),
        panel(
            "Not answered",
            "The part of each side's requests that its model did not answer.",
            Query(_part(TRIED_BADLY, TRIED, SIDES), SIDE),
            unit="percentunit", steps=((None, "green"), (0.02, "yellow"), (0.05, "red")),
        ),
        panel(
            "Cost of a request",
            "Average dollars for a request of each side.",
            Query(
                f'sum by ({SIDES}) (rate(farthing_experiment_cost_usd_total{{task=~"$task"}}[$__rate_interval])) /'
                f" sum by ({SIDES}) (rate({TRIED}[$__rate_interval]))",
                SIDE,
            ),
            unit=USD,
        ),
        panel(
            "Time to the whole answer, p95",
            "95 % of a side's answers were whole sooner than this.",
            Query(
                "histogram_quantile(0.95, sum by (le, task, rule, side) (rate("
                'farthing_experiment_latency_seconds_bucket{task=~"$task"}[$__rate_interval])))',
                SIDE,
            ),
            unit="s",
        ),
        panel(
            "Passed their check",
            "The part of each side's checked answers that passed, where the rule has `verify`.",
            Query(_part(PASSED_TRIAL, CHECKED_TRIAL, SIDES), SIDE),
            unit="percentunit", largest=1,
        ),
        panel(
            "How much shadows agree",
            "Average agreement of a shadow's answers with those that callers got: 1 is the same words.",
            Query(
                'sum by (task, rule) (rate(farthing_experiment_agreement_sum{task=~"$task"}[$__rate_interval])) /'
                ' sum by (task, rule) (rate(farthing_experiment_agreement_count{task=~"$task"}[$__rate_interval]))',
                "{{task}}: {{rule}}",
            ),
            unit="percentunit", largest=1, width=12,
        ),
        panel(
            "Not mirrored",
            "Requests per second that a shadow was to be asked and was not, and why.",
            Query(
                "sum by (task, rule, reason) (rate("
                'farthing_experiment_shadows_dropped_total{task=~"$task"}[$__rate_interval]))',
                "{{task}}, {{rule}}: {{reason}}",
            ),
            unit="reqps", width=12,
        ),
    ),
)  # fmt: skip

ESTIMATES = Row(
    "Estimates",
    (
        panel(
            "Charged for what was held",
            "How many requests were charged which part of what was held for them. Above 1 a hold did not suffice.",
            Query("sum by (le) (increase(farthing_estimate_ratio_bucket[$__rate_interval]))", "{{le}}"),
            shape="heat", width=12,
        ),
        panel(
            "Charged for what was held, on average",
            "Where it falls, holds are too wide and callers are refused for money that stays unspent; where it rises"
            " towards 1, answers get longer.",
            Query("farthing:estimate_ratio:mean6h", "6 hours"),
            Query("farthing:estimate_ratio:mean6h offset 1w", "the same hours last week"),
            unit="percentunit", width=12,
        ),
    ),
)  # fmt: skip

SIDE_BY_SIDE = Row(
    "Models of one rule side by side",
    (
        panel(
            "Cost of an answer",
            "Average dollars for an answer by the models of each rule: a canary beside the stable model, a tuned one"
            " beside the large one.",
            Query(
                f"sum by (task, rule, model) (rate({RULE_COST}[$__rate_interval])) /"
                f" sum by (task, rule, model) (rate({ANSWERS}[$__rate_interval]))",
                "{{task}}, {{rule}}: {{model}}",
            ),
            unit=USD,
        ),
        panel(
            "Failed or cut",
            "The part of each model's requests that failed, or was cut off at its budget, by rule.",
            Query(_part(BADLY_ENDED, ROUTED, "task, rule, model"), "{{task}}, {{rule}}: {{model}}"),
            unit="percentunit",
        ),
        panel(
            "Time to the whole answer, p95",
            "95 % of the answers of a model were whole sooner than this.",
            Query(
                "histogram_quantile(0.95, sum by (le, gen_ai_request_model) (rate("
                'gen_ai_server_request_duration_seconds_bucket{gen_ai_request_model=~"$model",'
                ' outcome="answered"}[$__rate_interval])))',
                "{{gen_ai_request_model}}",
            ),
            unit="s",
        ),
    ),
)  # fmt: skip

ROUTING = Board(
    "routing",
    "Routing",
    "Where requests go and why, and how good the estimates are.",
    (MIX, HARD, CHECKS, ESTIMATES, SIDE_BY_SIDE, TRIALS),
)
