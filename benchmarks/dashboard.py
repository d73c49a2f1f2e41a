"""How long the dashboard's pages take on the server's side, by number of customers (extra dashboard).

Made-up tables with the columns that the pages read, in the lake's own form, and a local tracking store with a few runs
of each stage; each page is run as Streamlit runs it, once to warm up and then timed. The browser's own work is not in
it.
"""

from __future__ import annotations

import logging
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import duckdb

from spanishgas.lake import Lake, Snapshot
from spanishgas.settings import PROJECT, settings
from tests import dashboard_runs
from tests.tracked import own_store

OF_THE_LAKE = ("overview", "customers", "customer", "recommendations")
OF_THE_TRACKING = ("model", "drift", "pipeline")
SIZES, QUICK = {20_099: 2.0, 1_000_000: 5.0}, {2_000: 2.0}
"""Customers -> seconds that a page may take, warm, as a median."""
DAY = date(2024, 12, 31)
REPEATS = 5
_ID = "printf('C%08d', i) AS customer_id"
_TIER = "['Low', 'Low', 'Low', 'Medium', 'High', 'Critical'][1 + i % 6]"
TABLES = {
    "silver_customer": f"""
        SELECT {_ID}, CASE WHEN i % 3 = 0 THEN DATE '2024-11-05' END AS interaction_date,
            'phone' AS interaction_channel, 'asked for a better price' AS interaction_summary,
            'Pricing Offers' AS customer_intent, 'neutral' AS sentiment_label
        FROM range($n) AS t(i)""",
    "silver_customer_month": f"""
        SELECT {_ID}, printf('2024-%02d', m) AS month, random() * 300 AS monthly_elec_kwh,
            random() * 30 AS monthly_gas_m3,
            random() * 10 AS elec_margin, random() * 5 AS gas_margin, random() * 15 AS total_margin
        FROM range($n) AS t(i), range(1, 13) AS u(m) ORDER BY i, m""",
    "gold_master": f"""
        SELECT {_ID}, random() * 30 - 5 AS avg_monthly_margin,
            ['Residential', 'SME', 'Corporate'][1 + i % 3] AS segment,
            ['Office', 'Telemarketing', 'Own Website'][1 + i % 3] AS sales_channel, '0-3m' AS renewal_bucket,
            '1-2y' AS tenure_bucket
        FROM range($n) AS t(i)""",
    "scores": f"""
        SELECT {_ID}, random() AS churn_probability, i % 6 // 4 AS churn_flag, {_TIER} AS risk_tier,
            random() * 20 AS expected_monthly_loss, i % 5 = 0 AS in_training, '1' AS model_version,
            DATE '{DAY}' AS as_of
        FROM range($n) AS t(i)""",
    "recommendations": f"""
        SELECT {_ID}, {_TIER} AS risk_tier, ['Residential', 'SME', 'Corporate'][1 + i % 3] AS segment,
            CASE WHEN i % 6 > 3 THEN 'offer_small' ELSE 'no_offer' END AS action, 'immediate' AS timing_window,
            CASE WHEN i % 6 > 3 THEN 10.0 ELSE 0.0 END AS offer_budget, random() * 5 AS expected_margin_impact,
            ['their contract renews within ' || i % 12 || ' months', 'they asked for a better price'] AS reason_codes,
            0.1 AS probability_low, 0.2 AS probability_high
        FROM range($n) AS t(i)""",
}
_OF = {
    "gold_master": ("silver_customer", "silver_customer_month"),
    "scores": ("gold_master",),
    "recommendations": ("scores", "gold_master"),
}


def run(quick: bool) -> None:
    """Print a table of seconds by page and size beside the limit."""
    logging.disable(logging.WARNING)
    print(
        "| customers | page | seconds: least / median / most | CPU s, median | limit | |\n|---|---|---|---|---|---|"
    )
    for customers, limit in (QUICK if quick else SIZES).items():
        with tempfile.TemporaryDirectory() as folder, own_store(Path(folder)):
            fill(Lake(folder), customers)
            os.environ["SPANISHGAS_LAKE"] = folder
            settings.cache_clear()
            measure(OF_THE_LAKE, customers, limit)
            # Only now: their champion has no model to explain a customer by.
            dashboard_runs.filled(Path(folder))
            measure(OF_THE_TRACKING, customers, limit)


def measure(pages: Sequence[str], customers: int, limit: float) -> None:
    """Print a row per page."""
    for page in pages:
        taken = seconds(page)
        wall, cpu = [w for w, _ in taken], statistics.median(c for _, c in taken)
        kept = "kept" if statistics.median(wall) <= limit else "MISSED"
        spread = " / ".join(f"{of(wall):.2f}" for of in (min, statistics.median, max))
        print(f"| {customers:,} | {page} | {spread} | {cpu:.2f} | {limit:.0f} | {kept} |", flush=True)


def fill(lake: Lake, customers: int) -> None:
    """Publish every table that the pages read."""
    made: dict[str, Snapshot] = {}
    for table, sql in TABLES.items():

        def write(folder: Path, sql: str = sql) -> None:
            with duckdb.connect() as connection:
                connection.execute("SELECT setseed(0.7)")
                connection.execute(f"COPY ({sql}) TO '{folder}/part-0.parquet'", {"n": customers})

        built = {name: made[name].manifest.digest for name in _OF.get(table, ())}
        made[table] = lake.publish(table, DAY, write, built_from=built, fingerprint="drawn", code={})


def seconds(page: str) -> list[tuple[float, float]]:
    """Seconds, and CPU seconds of all threads, of each warm run of a page."""
    from streamlit import config
    from streamlit.runtime.context import ContextProxy
    from streamlit.testing.v1 import AppTest

    from spanishgas.dashboard import guard

    config.set_option("server.address", "127.0.0.1")
    # The test runner has no socket, and so no peer's address.
    ContextProxy.ip_address = None
    app = AppTest.from_file(str(PROJECT / "spanishgas" / "dashboard" / "app.py"), default_timeout=300)
    os.environ[guard.KEY] = app.query_params[guard.PARAMETER] = "here"
    app.run()
    app.session_state["customer_id"] = "C00001000"
    app.switch_page(f"views/{page}.py").run()
    taken = []
    for _ in range(REPEATS):
        app.session_state["customer_id"] = "C00001000"
        began, used = time.perf_counter(), time.process_time()
        app.run()
        taken.append((time.perf_counter() - began, time.process_time() - used))
        assert not app.exception, app.exception[0].message
        assert not app.error, app.error[0].value
    return taken
