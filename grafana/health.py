"""The dashboard Health: how fast, what fails, and what waits."""

from __future__ import annotations

from grafana.board import Board, Query, Row, Steps, panel

QUEUE: Steps = ((None, "green"), (100, "yellow"), (1000, "red"))
ANY: Steps = ((None, "green"), (1, "red"))
FAILED = 'sum by (model, reason) (rate(farthing_attempt_failures_total{model=~"$model"}[$__rate_interval]))'
WHOSE = "topk by (model) (1, group by (model, provider) (farthing_cost_usd_total))"
FAILED_BY_PROVIDER = (
    f"sum by (provider, reason) ({FAILED} * on (model) group_left (provider) {WHOSE} or"
    f' label_replace({FAILED} unless on (model) {WHOSE}, "provider", "$1", "model", "(.*)"))'
)
"""Failures know the model, and what was paid knows whose it is; a model that never answered goes by its own name."""


def _added(quantile: float) -> Query:
    buckets = "sum by (le) (rate(farthing_overhead_seconds_bucket[$__rate_interval]))"
    return Query(f"histogram_quantile({quantile}, {buckets})", f"p{quantile * 100:g}")


def _first_token(quantile: float) -> Query:
    buckets = 'rate(gen_ai_server_time_to_first_token_seconds_bucket{gen_ai_request_model=~"$model"}[$__rate_interval])'
    return Query(
        f"histogram_quantile({quantile}, sum by (le, gen_ai_request_model) ({buckets}))",
        f"{{{{gen_ai_request_model}}}} p{quantile * 100:g}",
    )


SPEED = Row(
    "Speed",
    (
        panel(
            "Requests per second",
            "Requests that ended, by how.",
            Query(
                'sum by (outcome) (rate(farthing_requests_total{task=~"$task", model=~"$model"}[$__rate_interval]))',
                "{{outcome}}",
            ),
            unit="reqps", shape="stack",
        ),
        panel(
            "Added by Farthing",
            "Time that a request spent in Farthing itself, and not with a provider.",
            _added(0.5), _added(0.95), _added(0.99),
            unit="s", steps=((None, "green"), (0.01, "yellow"), (0.05, "red")),
        ),
        panel(
            "Time to the first token",
            "From the arrival of a request to the first byte of its answer.",
            _first_token(0.5), _first_token(0.95),
            unit="s",
        ),
        panel(
            "Under way",
            "Requests that have come and are not answered to their end, by process.",
            Query("sum by (instance) (farthing_inflight_requests)", "{{instance}}"),
            width=8,
        ),
        panel(
            "Time to the whole answer by task",
            "From the arrival of a request to the last byte of its answer: 95 % take no longer.",
            Query(
                "histogram_quantile(0.95, sum by (le, task)"
                ' (rate(farthing_task_duration_seconds_bucket{task=~"$task"}[$__rate_interval])))',
                "{{task}}",
            ),
            unit="s", width=8,
        ),
        panel(
            "Event loop lag",
            "How late the event loop last ran a timer. Above 50 ms the process has more to do than one core can.",
            Query("max by (instance) (farthing_event_loop_lag_seconds)", "{{instance}}"),
            unit="s", width=8, steps=((None, "green"), (0.05, "yellow"), (0.25, "red")),
        ),
    ),
)  # fmt: skip

PROVIDERS = Row(
    "Providers",
    (
        panel(
            "Failed calls by provider",
            "Calls per second that failed, by whose they were. `unreachable`: no connection; `denied`: our key.",
            Query(FAILED_BY_PROVIDER, "{{provider}}: {{reason}}"),
            unit="reqps",
        ),
        panel(
            "Failed requests",
            "The part of the requests that no candidate could answer.",
            Query(
                '(sum(rate(farthing_requests_total{task=~"$task", model=~"$model", outcome="failed"}'
                "[$__rate_interval])) or vector(0)) /"
                ' sum(rate(farthing_requests_total{task=~"$task", model=~"$model"}[$__rate_interval]))',
                "failed",
            ),
            unit="percentunit", steps=((None, "green"), (0.01, "yellow"), (0.05, "red")),
        ),
        panel(
            "Open breakers",
            "Targets that are tried after all others for a while, for they keep failing.",
            Query('max by (model, target) (farthing_breaker_open{model=~"$model"})', "{{model}}: {{target}}"),
            steps=ANY, largest=1,
        ),
    ),
)  # fmt: skip

STORES = Row(
    "Stores and policies",
    (
        panel(
            "Ledger queue",
            "Rows that are taken on and not committed yet. Where it grows, the database is slow, or away.",
            Query("sum by (instance) (farthing_ledger_queue)", "{{instance}}"),
            steps=QUEUE,
        ),
        panel(
            "Unsettled holds",
            "Charges that Redis has not been told yet. Stays above 0 while Redis is away.",
            Query("sum by (instance) (farthing_unsettled_holds)", "{{instance}}"),
            steps=ANY,
        ),
        panel(
            "Budgets rebuilt",
            "Times that budgets were lost by Redis and rebuilt from the ledger.",
            Query("sum(increase(farthing_budget_rebuilds_total[$__rate_interval]))", "rebuilt"),
            steps=ANY,
        ),
        panel(
            "Refused for a store",
            "Requests per second that were refused because budgets or the ledger could not be reached.",
            Query(
                'sum(rate(farthing_refusals_total{task=~"$task", reason="store_unavailable"}[$__rate_interval]))'
                " or vector(0)",
                "refused",
            ),
            unit="reqps",
        ),
        panel(
            "Redis and database",
            "How long a store takes to answer: 95 % of what went to it together took no longer. `commit` is a batch of"
            " the ledger; an answer's last byte may wait for it. `hold` is on the way of each request.",
            Query(
                "histogram_quantile(0.95, sum by (le, store, verb)"
                " (rate(farthing_store_seconds_bucket[$__rate_interval])))",
                "{{store}} {{verb}}",
            ),
            unit="s", steps=((None, "green"), (0.01, "yellow"), (0.1, "red")),
        ),
        panel(
            "Policies read",
            "Policy folders that were read. `rejected`: an edit has a fault, and the last good policies stay.",
            Query("sum by (result) (increase(farthing_policy_reloads_total[$__rate_interval]))", "{{result}}"),
        ),
        panel(
            "Policies in force",
            "Which revision each process runs. More than one for longer than a moment: the folders differ.",
            Query("count by (revision) (farthing_policy_info)", "{{revision}}"),
            width=4,
        ),
        panel(
            "Prices are of",
            "The age of the bundled price catalogue. Above 30 days, an update is due.",
            "max(farthing_price_catalogue_age_days)",
            unit="d", shape="number", width=4, steps=((None, "green"), (30, "yellow"), (90, "red")), decimals=0,
        ),
    ),
)  # fmt: skip

HEALTH = Board("health", "Health", "How fast it is, what fails, and what waits.", (SPEED, PROVIDERS, STORES))
