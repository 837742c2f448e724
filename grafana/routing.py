"""The dashboard Routing: where requests go and why, and how good the estimates are."""

from __future__ import annotations

from grafana.board import Board, Query, Row, panel
from grafana.spend import USD

REQUESTS = 'farthing_requests_total{task=~"$task", model=~"$model"}'
ANSWERS = 'farthing_requests_total{task=~"$task", model=~"$model", outcome=~"answered|cut"}'
RULE_COST = 'farthing_cost_usd_total{task=~"$task", model=~"$model"}'
ESCALATIONS = 'farthing_escalations_total{task=~"$task"}'

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
            Query("task:farthing_escalations:ratio_rate1h", "{{task}}"),
            unit="percentunit", steps=((None, "green"), (0.1, "yellow"), (0.3, "red")),
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
            Query(
                'sum by (task, rule, model) (rate(farthing_requests_total{task=~"$task", model=~"$model",'
                ' outcome!="answered", model!="none"}[$__rate_interval]) or 0 * rate('
                'farthing_requests_total{task=~"$task", model=~"$model", model!="none"}[$__rate_interval])) /'
                ' sum by (task, rule, model) (rate(farthing_requests_total{task=~"$task", model=~"$model",'
                ' model!="none"}[$__rate_interval]))',
                "{{task}}, {{rule}}: {{model}}",
            ),
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
    (MIX, HARD, ESTIMATES, SIDE_BY_SIDE),
)
