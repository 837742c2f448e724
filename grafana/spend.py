"""The dashboard Spend: what is being spent, on what, what is saved, and what is about to run out."""

from __future__ import annotations

from grafana.board import Board, Panel, Query, Row, Steps, panel

USD = "currencyUSD"
COST = 'farthing_cost_usd_total{task=~"$task", model=~"$model"}'
BASELINE = 'farthing_baseline_cost_usd_total{task=~"$task"}'
TASK_COST = 'farthing_cost_usd_total{task=~"$task"}'
OVERHEAD = 'farthing_overhead_cost_usd_total{task=~"$task"}'
BUDGET = "scope, name, window"
FULL: Steps = ((None, "green"), (0.8, "yellow"), (0.95, "red"))
ABOVE_ONE: Steps = ((None, "green"), (0.9, "yellow"), (1.0, "red"))
GAIN: Steps = ((None, "red"), (0, "green"))
SHOULD_BE_ZERO: Steps = ((None, "green"), (0.000001, "red"))


def _per_hour(by: str, legend: str, title: str, description: str) -> Panel:
    query = Query(f"sum by ({by}) (rate({COST}[$__rate_interval])) * 3600", legend)
    return panel(title, description, query, unit=USD, shape="stack")


def _quantile(quantile: float) -> Query:
    buckets = 'farthing_answer_cost_usd_bucket{task=~"$task"}'
    expr = f"histogram_quantile({quantile}, sum by (le, task) (rate({buckets}[$__rate_interval])))"
    return Query(expr, f"{{{{task}}}} p{quantile * 100:.0f}")


NOW = Row(
    "Now",
    (
        panel(
            "Spent per hour",
            "Every dollar paid, at the present rate: answers, and calls that bought none.",
            f"sum(rate({COST}[$__rate_interval])) * 3600",
            unit=USD, shape="number", width=4, height=5, decimals=2,
        ),
        panel(
            "Spent in 24 hours",
            "What the counters rose by, within a percent or so. The ledger has the exact sum:"
            " `farthing spend --since 24h`.",
            f"sum(increase({COST}[24h]))",
            unit=USD, shape="number", width=4, height=5, decimals=2,
        ),
        panel(
            "Saved per hour",
            "What the baseline models would have cost, less every dollar paid. Negative where routing costs more than"
            " it saves. The baseline prices the same input tokens, and the output tokens that were really answered;"
            " another model might have answered at another length.",
            f"(sum(rate({BASELINE}[$__rate_interval])) - sum(rate({TASK_COST}[$__rate_interval]))) * 3600",
            unit=USD, shape="number", width=4, height=5, decimals=2, steps=GAIN, smallest=None,
        ),
        panel(
            "Saved",
            "Saved, as a part of what the baseline models would have cost.",
            f"1 - sum(rate({TASK_COST}[$__rate_interval])) / sum(rate({BASELINE}[$__rate_interval]))",
            unit="percentunit", shape="number", width=4, height=5, decimals=1, steps=GAIN, smallest=None,
        ),
        panel(
            "Bought no answer",
            "The part of the money that went to failed calls, escalations, shadows and judges.",
            f"(sum(rate({OVERHEAD}[$__rate_interval])) or vector(0)) / sum(rate({TASK_COST}[$__rate_interval]))",
            unit="percentunit", shape="number", width=4, height=5, decimals=1,
            steps=((None, "green"), (0.05, "yellow"), (0.15, "red")),
        ),
        panel(
            "Above budgets",
            "Dollars above requests' budgets, or what was held in others'. Should be 0: see FarthingSpendAboveBound.",
            "sum(increase(farthing_over_budget_usd_total[$__range]))",
            unit=USD, shape="number", width=4, height=5, steps=SHOULD_BE_ZERO,
        ),
    ),
)  # fmt: skip

BUDGETS = Row(
    "Budgets",
    (
        panel(
            "Used",
            "How much of each budget is spent in its present hour, day or month (UTC). 80 % and 95 % raise alerts.",
            Query("scope_name_window:farthing_budget_used:ratio", "{{scope}} {{name}}, {{window}}"),
            unit="percentunit", shape="bars", steps=FULL, largest=1,
        ),
        panel(
            "Forecast to the end of the window",
            "What will have been spent at the end of the hour, day or month if it goes on as in the last quarter of an"
            " hour, 6 hours or 3 days, as a part of the budget. Above 1 the budget will not last.",
            Query("scope_name_window:farthing_budget_forecast_slow:ratio", "{{scope}} {{name}}, {{window}}"),
            unit="percentunit", shape="bars", steps=ABOVE_ONE,
        ),
        panel(
            "In dollars",
            "Each budget: its limit, what is spent, what is held for requests under way, and what is left.",
            Query(f"max by ({BUDGET}) (farthing_budget_limit_usd)", "limit"),
            Query(f"max by ({BUDGET}) (farthing_budget_spent_usd)", "spent"),
            Query(f"max by ({BUDGET}) (farthing_budget_held_usd)", "held"),
            Query(f"min by ({BUDGET}) (farthing_budget_remaining_usd)", "left"),
            unit=USD, shape="table",
        ),
        panel(
            "Spent in the window, over time",
            "Each budget's spending: it falls to 0 where a new hour, day or month begins.",
            Query(f"max by ({BUDGET}) (farthing_budget_spent_usd)", "{{scope}} {{name}}, {{window}}"),
            unit=USD,
        ),
        panel(
            "Forecast over time",
            "The forecasts above as they were, by the quick rate and by the slow one.",
            Query("scope_name_window:farthing_budget_forecast_fast:ratio", "{{scope}} {{name}}, {{window}}: quick"),
            Query("scope_name_window:farthing_budget_forecast_slow:ratio", "{{scope}} {{name}}, {{window}}: slow"),
            unit="percentunit", steps=ABOVE_ONE,
        ),
        panel(
            "Answered past a soft budget",
            "Requests per second that were answered although a budget with `on_exceeded: warn` was used up.",
            Query(
                f"sum by ({BUDGET}) (rate(farthing_budget_warnings_total[$__rate_interval]))",
                "{{scope}} {{name}}, {{window}}",
            ),
            unit="reqps",
        ),
    ),
)  # fmt: skip

ON_WHAT = Row(
    "On what",
    (
        _per_hour("task", "{{task}}", "By task", "Dollars per hour by kind of work."),
        _per_hour("model", "{{model}}", "By model", "Dollars per hour by our name of the model."),
        _per_hour("task, rule", "{{task}}: {{rule}}", "By rule", "Dollars per hour by the rule that decided."),
        _per_hour("provider", "{{provider}}", "By provider", "Dollars per hour by whose invoice it will be on."),
        _per_hour("kind", "{{kind}}", "By kind", "Dollars per hour by the kind of model, as `models.yaml` calls it."),
        panel(
            "Saved by task",
            "Baseline less cost, per hour. Below 0 a task costs more than its baseline would have.",
            Query(
                f"(sum by (task) (rate({BASELINE}[$__rate_interval])) -"
                f" sum by (task) (rate({TASK_COST}[$__rate_interval]))) * 3600",
                "{{task}}",
            ),
            unit=USD, steps=GAIN, smallest=None,
        ),
    ),
)  # fmt: skip

FOR_WHAT = Row(
    "For what",
    (
        panel(
            "Cost of an answer",
            "What half of the answers cost less than, and what 95 % of them do; all calls for it included.",
            _quantile(0.5), _quantile(0.95),
            unit=USD,
        ),
        panel(
            "Cached part of the input",
            "The share of prompt tokens that the provider read from its cache, which costs a fraction."
            " Of the models chosen, for all their tasks.",
            Query(
                '(sum(rate(farthing_cached_input_tokens_total{model=~"$model"}[$__rate_interval])) or'
                " vector(0)) / sum(rate(gen_ai_client_token_usage_sum{"
                'gen_ai_token_type="input", gen_ai_request_model=~"$model"}[$__rate_interval]))',
                "cached",
            ),
            unit="percentunit", largest=1,
        ),
        panel(
            "Tokens per second",
            "Input and output tokens, as providers reported them or as we counted; of the models chosen, for all"
            " their tasks.",
            Query(
                "sum by (gen_ai_token_type) (rate(gen_ai_client_token_usage_sum{"
                'gen_ai_request_model=~"$model"}[$__rate_interval]))',
                "{{gen_ai_token_type}}",
            ),
        ),
        panel(
            "Bought no answer, by reason",
            "Dollars per hour for calls that bought no answer: failed requests, failed legs of answered ones, answers"
            " that failed their check, shadows, judges.",
            Query(f"sum by (reason) (rate({OVERHEAD}[$__rate_interval])) * 3600", "{{reason}}"),
            unit=USD, shape="stack",
        ),
        panel(
            "Not confirmed by a provider",
            "Dollars per hour that were charged by our own count: streams that callers left, answers without a usage.",
            Query(
                'sum by (certainty) (rate(farthing_unreported_cost_usd_total{model=~"$model"}[$__rate_interval]))'
                " * 3600",
                "{{certainty}}",
            ),
            unit=USD, shape="stack",
        ),
        panel(
            "At its ceiling after a crash",
            "Dollars that the ledger charges for requests that a crash cut off. They stay until they are corrected:"
            " `farthing spend --orphans` lists them.",
            "max(farthing_orphaned_cost_usd)",
            unit=USD, shape="number", steps=SHOULD_BE_ZERO,
        ),
    ),
)  # fmt: skip

SPEND = Board(
    "spend",
    "Spend",
    "What is being spent, on what, what is saved, and what is about to run out.",
    (NOW, BUDGETS, ON_WHAT, FOR_WHAT),
)
