"""Every page as Streamlit runs it: over a full lake, over none, and with the tracking server down."""

from __future__ import annotations

import ast
import json
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from spanishgas.cli.chain import QUIET
from spanishgas.config.search import XGBOOST
from spanishgas.dashboard import customer, tables, tracking
from spanishgas.evaluation.importance import contributions
from spanishgas.features import load_tiers
from spanishgas.lake import Lake
from spanishgas.lifecycle import registry, runs
from spanishgas.rendering import markdown
from spanishgas.settings import PROJECT, settings
from tests import dashboard_runs
from tests.churn_models import churn_model
from tests.dashboard_lake import CUSTOMERS, DAY, LATER, filled
from tests.offer_world import registered_offers
from tests.tracked import own_store
from tests.versions import add_version

if TYPE_CHECKING:
    from streamlit.testing.v1 import AppTest

pytestmark = [
    pytest.mark.dashboard,
    # Streamlit's test runner leaves its event loop to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]
APP = PROJECT / "spanishgas" / "dashboard" / "app.py"
OF_THE_LAKE = ("overview", "customers", "customer", "recommendations")
OF_THE_TRACKING = ("model", "drift", "pipeline")
OF_CUSTOMERS = ("customers", "customer")
RIGHT = "the key of this start"
Open = Callable[..., "AppTest"]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dashboard") / "lake"
    filled(Lake(root))
    filled(Lake(root), LATER, rows=20, seed=1)
    return root


@pytest.fixture
def address(tracking: Path) -> Iterator[Callable[[str | None], None]]:
    """Sets the address that the server listens on; here unless a test says otherwise."""
    from streamlit import config

    before = config.get_option("server.address")
    config.set_option("server.address", "127.0.0.1")
    yield lambda value: config.set_option("server.address", value)
    config.set_option("server.address", before)


@pytest.fixture
def see(address: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Opens a page of the dashboard over a lake, from this machine and with the key unless told otherwise."""
    from streamlit.runtime.context import ContextProxy
    from streamlit.testing.v1 import AppTest

    # The test runner has no socket.
    monkeypatch.setattr(ContextProxy, "ip_address", None)

    def opened(
        page: str, lake: Path | str, state: Mapping[str, object] | None = None, key: str = RIGHT
    ) -> AppTest:
        monkeypatch.setenv("SPANISHGAS_LAKE", str(lake))
        monkeypatch.setenv("SPANISHGAS_DASHBOARD_KEY", RIGHT)
        settings.cache_clear()
        app = AppTest.from_file(str(APP), default_timeout=60)
        app.query_params["key"] = key
        app.run()
        for name, value in (state or {}).items():
            app.session_state[name] = value
        return app.switch_page(f"views/{page}.py").run()

    yield opened
    settings.cache_clear()
    tracking.model.cache_clear()


def metrics(app: AppTest) -> dict[str, str]:
    return {m.label: m.value for m in app.metric}


def texts(app: AppTest) -> str:
    return "\n".join(
        str(e.value) for kind in ("markdown", "caption", "info", "error", "warning") for e in app.get(kind)
    )


@pytest.mark.parametrize("page", OF_THE_LAKE)
def test_a_page_over_a_full_lake_shows_no_failure(see: Open, full: Path, page: str) -> None:
    app = see(page, full)
    assert not app.exception
    assert not app.error
    assert app.title[0].value.casefold() == page


@pytest.mark.parametrize("page", OF_THE_LAKE)
def test_a_page_over_a_lake_on_s3_shows_no_failure_and_names_a_bucket_that_is_not_there(
    see: Open, bucket: str, page: str
) -> None:
    lake = f"s3://{bucket}/lake"
    filled(Lake(lake))
    app = see(page, lake, {"customer_id": "C00005"})
    assert not app.exception
    assert not app.error
    assert not app.info
    assert len(app.metric) >= 3
    app = see(page, "s3://no-such-bucket/lake")
    assert not app.exception
    assert "there is no such bucket" in app.error[0].value


def test_a_name_of_a_closed_set_is_shown_as_words() -> None:
    from spanishgas.dashboard import frame

    assert [frame.words(name) for name in ("offer_small", "60_90_days")] == ["offer small", "60 to 90 days"]


@pytest.mark.parametrize("page", OF_THE_LAKE)
def test_a_page_over_an_empty_lake_says_which_command_fills_it(see: Open, tmp_path: Path, page: str) -> None:
    app = see(page, tmp_path / "none")
    assert not app.exception
    assert "run `spanishgas score`" in app.info[0].value


def test_the_overview_counts_the_customers_of_the_newest_date_and_then_of_the_chosen_one(
    see: Open, full: Path
) -> None:
    app = see("overview", full)
    assert metrics(app)["Customers"] == "20"
    app.sidebar.selectbox[0].select(DAY).run()
    assert metrics(app)["Customers"] == str(CUSTOMERS)
    assert metrics(app)["Expected monthly loss"].endswith(" EUR")


def test_filters_change_table_and_totals_alike(see: Open, full: Path) -> None:
    app = see("customers", full)
    assert metrics(app)["Customers"] == str(len(app.dataframe[0].value)) == "20"
    app.multiselect[0].select("Critical").run()
    rows = app.dataframe[0].value
    assert set(rows["risk_tier"]) == {"Critical"}
    assert not rows["action"].str.contains("_").any()
    assert re.fullmatch(r"cost [\d,]+ EUR at most", app.metric[2].delta)
    assert metrics(app)["Expected gain after cost"].endswith(" EUR")
    assert metrics(app)["Customers"] == str(len(rows))


def test_filters_that_nobody_passes_say_so(see: Open, full: Path) -> None:
    app = see("customers", full)
    app.number_input[0].set_value(1e9).run()
    assert "No customer passes" in app.info[0].value


def test_a_customer_is_shown_with_reasons_months_contact_and_lineage(see: Open, full: Path) -> None:
    app = see("customer", full)
    app.text_input[0].input("C00003").run()
    assert app.header[0].value == "C00003"
    shown = texts(app)
    assert "sentiment of the last contact: negative" in shown
    assert "Pricing Offers" in str(app.dataframe[0].value)
    assert Lake(full).current("gold_master").manifest.digest[:16] in str(app.dataframe[1].value)


def test_a_customer_is_shown_what_raises_and_what_lowers_the_risk_by_the_model_of_the_score(
    see: Open, full: Path, tmp_path: Path
) -> None:
    fitted = churn_model(XGBOOST)
    with own_store(tmp_path):
        MlflowClient().create_registered_model(settings().registered_model)
        add_version()
        add_version()
        with runs.stage("evaluate", "the third"):
            logged = registry.log_model(fitted, "E5", {}).model_uri
        add_version(source=mlflow.artifacts.download_artifacts(logged))
        app = see("customer", full)
        app.text_input[0].input("C00003").run()
        assert not app.error
        charts = [json.loads(chart.proto.spec) for chart in app.get("vega_lite_chart")]
    assert any(c.get("encoding", {}).get("x", {}).get("field") == "adds" for c in charts)
    found = tables.scored(Lake(full), None)
    shown = customer.contributions(found, "C00003", fitted)
    row = Lake(full).current("gold_master").pandas().query("customer_id == 'C00003'")
    expected = contributions(fitted, row).iloc[0].sort_values(key=abs, ascending=False)
    assert len(shown) == customer.STRONGEST
    np.testing.assert_allclose(shown["adds"], expected.iloc[: customer.STRONGEST])
    assert shown["feature"].iloc[0] == load_tiers().words(expected.index[0])


def test_a_customer_is_shown_without_that_picture_where_the_model_cannot_be_loaded(
    see: Open, full: Path
) -> None:
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    app = see("customer", full)
    app.text_input[0].input("C00003").run()
    assert not app.error
    assert any("No picture of what moves the risk" in c.value for c in app.caption)
    assert len(app.dataframe) == 2


def test_the_beginning_of_an_id_offers_those_that_begin_so(see: Open, full: Path) -> None:
    app = see("customer", full)
    app.text_input[0].input("c0001").run()
    assert app.main.selectbox[0].options == [f"C{i:05d}" for i in range(10, 20)]


def test_an_id_that_nobody_has_is_said_to_be_unknown(see: Open, full: Path) -> None:
    app = see("customer", full)
    app.text_input[0].input("X1").run()
    assert "begins with 'X1'" in app.warning[0].value


@pytest.mark.parametrize("elsewhere", [None, "0.0.0.0", "192.0.2.1"])
@pytest.mark.parametrize("page", OF_CUSTOMERS)
def test_served_beyond_this_machine_a_page_of_customers_shows_none(
    see: Open, full: Path, address: Callable[[str | None], None], page: str, elsewhere: str | None
) -> None:
    address(elsewhere)
    app = see(page, full, {"customer_id": "C00003"})
    assert "or after a login" in app.error[0].value
    assert not app.dataframe
    assert "C00003" not in texts(app)


@pytest.mark.parametrize("key", ["", "another"])
@pytest.mark.parametrize("page", OF_CUSTOMERS)
def test_without_the_key_of_this_start_a_page_of_customers_shows_none(
    see: Open, full: Path, page: str, key: str
) -> None:
    app = see(page, full, {"customer_id": "C00003"}, key=key)
    assert "address with a key" in app.error[0].value
    assert not app.dataframe
    assert "C00003" not in texts(app)


HERE, ELSEWHERE = "127.0.0.1", "192.0.2.1"


@pytest.mark.parametrize(
    ("listens", "peer", "key", "expected"),
    [
        (HERE, None, RIGHT, True),
        (HERE, "127.0.0.2", RIGHT, True),
        ("localhost", "::1", RIGHT, True),
        ("::1", None, RIGHT, True),
        # A proxy on this machine: its socket is here, and whatever it says of itself, it has no key.
        (HERE, None, None, False),
        (HERE, None, "", False),
        (HERE, None, RIGHT[:-1], False),
        (HERE, None, RIGHT + "\udc80", False),
        (HERE, ELSEWHERE, RIGHT, False),
        (HERE, "no address", RIGHT, False),
        ("0.0.0.0", None, RIGHT, False),
        ("::", None, RIGHT, False),
        (ELSEWHERE, ELSEWHERE, RIGHT, False),
        ("localhost.example.org", None, RIGHT, False),
        (None, None, RIGHT, False),
        ("", None, RIGHT, False),
    ],
)
def test_a_page_is_local_by_socket_and_key_together(
    listens: str | None, peer: str | None, key: str | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spanishgas.dashboard import guard

    monkeypatch.setenv(guard.KEY, RIGHT)
    assert guard.local(listens, peer, key) is expected


@pytest.mark.parametrize("key", [None, "", RIGHT])
def test_a_server_that_was_started_without_a_key_takes_none(
    key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spanishgas.dashboard import guard

    monkeypatch.delenv(guard.KEY, raising=False)
    assert not guard.local(HERE, None, key)
    monkeypatch.setenv(guard.KEY, "")
    assert not guard.local(HERE, None, key)


def test_the_verb_serves_the_dashboard_on_its_port(tracking: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [
        sys.executable,
        "-m",
        "spanishgas",
        "dashboard",
        "--port",
        str(port),
        "--lake",
        str(tracking / "none"),
    ]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            assert answer(f"http://127.0.0.1:{port}/_stcore/health") == "ok"
        finally:
            server.terminate()


def answer(url: str, seconds: float = 60) -> str:
    """What a server that is about to start says."""
    until = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as said:
                return str(said.read().decode())
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def test_a_lake_that_cannot_be_read_is_an_error_that_names_the_file(see: Open, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    filled(lake)
    (lake.current("scores").folder / "_manifest.json").write_text("{")
    app = see("overview", tmp_path / "lake")
    assert not app.exception
    assert "cannot be read" in app.error[0].value


@pytest.fixture(scope="module")
def store(full: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tracking store that runs wrote to, on the full lake."""
    root = tmp_path_factory.mktemp("tracked")
    with own_store(root):
        dashboard_runs.filled(root, full)
    return f"sqlite:///{root}/mlflow.db"


def test_the_model_page_tells_verdict_ladder_slices_and_history(see: Open, full: Path, store: str) -> None:
    mlflow.set_tracking_uri(store)
    app = see("model", full)
    assert not app.exception
    assert not app.error
    assert "Gate passed: holdout.average_precision is 0.750" in app.success[0].value
    shown = "".join(table.value.to_csv() for table in app.dataframe)
    assert all(words in shown for words in ("ranks worse", "E4", "E5", "tester"))
    assert "0.750 (0.688 to 0.828)" in shown


def test_the_drift_page_tells_of_the_newest_alarm_what_moved_and_shows_evidentlys_page(
    see: Open, full: Path, store: str
) -> None:
    mlflow.set_tracking_uri(store)
    app = see("drift", full)
    assert not app.exception
    assert not app.error
    assert metrics(app) == {"Alarm": "yes", "Inputs that moved": "60%", "Predictions moved by": "0.30 sd"}
    assert "moved 6.0 times its baseline variation; the alarm rings above 5.0" in texts(app)
    app.radio[0].set_value("the model's inputs").run()
    assert not app.exception
    assert "&lt;p&gt;Evidently on 0.6&lt;/p&gt;" in app.get("iframe")[0].proto.srcdoc
    app.main.selectbox[0].select_index(1).run()
    assert metrics(app)["Alarm"] == "no"


def test_the_pipeline_page_tells_of_runs_failures_and_data_quality(see: Open, full: Path, store: str) -> None:
    mlflow.set_tracking_uri(store)
    app = see("pipeline", full)
    assert not app.exception
    assert dashboard_runs.FAILURE in app.code[0].value
    assert "churn_label" in texts(app)
    app.main.selectbox[0].select("drift").run()
    assert set(app.dataframe[0].value["stage"]) == {"drift"}


@pytest.mark.parametrize("page", OF_THE_TRACKING)
def test_a_page_of_runs_without_any_says_which_command_makes_them(
    see: Open, tmp_path: Path, page: str
) -> None:
    app = see(page, tmp_path / "none")
    assert not app.exception
    assert any("spanishgas main" in note.value for note in app.info)


@pytest.mark.parametrize("page", OF_THE_TRACKING)
def test_a_page_of_runs_names_a_server_that_is_down(see: Open, full: Path, page: str) -> None:
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    app = see(page, full)
    assert not app.exception
    assert markdown("http://127.0.0.1:9 cannot be reached") in app.error[0].value


def test_a_smaller_budget_makes_fewer_offers_at_less_cost(see: Open, full: Path) -> None:
    app = see("recommendations", full, {"as_of": DAY})
    before = metrics(app)
    app.slider[0].set_value(app.slider[0].max / 2).run()
    after = metrics(app)
    assert int(after["Offers"]) < int(before["Offers"])
    assert euros(after["Cost at most"]) <= euros(before["Cost at most"]) / 2
    assert euros(after["Expected value"]) < euros(before["Expected value"])


def test_recommendations_by_learned_effects_say_what_they_rest_on(see: Open, tmp_path: Path) -> None:
    with registered_offers(tmp_path) as version:
        lake = Lake(tmp_path / "lake")
        filled(lake)
        before = lake.current("recommendations")
        rows = before.pandas()
        offered = rows["action"].ne("no_offer")
        told = {"expected_effect": 0.08, "effect_low": 0.02, "effect_high": 0.12}
        rows = rows.assign(
            better_left_alone=~offered,
            **{name: np.where(offered, value, np.nan) for name, value in told.items()},
        )
        built_from = {**before.manifest.built_from, version.name: version.number}
        write = partial(_one_part, rows)
        lake.publish(
            "recommendations",
            DAY,
            write,
            built_from=built_from,
            fingerprint="by effects",
            code={"commit": "c0ffee"},
        )
        app = see("recommendations", tmp_path / "lake")
        assert not app.exception
        assert "Who gets an offer" in [one.value for one in app.subheader]
        rules = next(one.value for one in app.dataframe if "rule" in one.value)
        assert rules["rule"].tolist() == ["everyone", "risk rule", "learned effects"]
        (picture,) = app.get("image")
        assert picture.value[0].endswith(".png")
        said = " ".join(one.value for one in app.caption)
        assert f"version 1 of {version.name}" in said
        assert f"{(~offered).sum()} customers at risk are better left alone" in said
        who = str(rows["customer_id"][offered].iloc[0])
        page = see("customer", tmp_path / "lake")
        page.text_input[0].input(who).run()
        assert "lowers the probability of leaving by 8.0 points" in texts(page)


def _one_part(rows: pd.DataFrame, folder: Path) -> None:
    rows.to_parquet(folder / "part-0.parquet", index=False)


def euros(text: str) -> float:
    return float(text.removesuffix(" EUR").replace(",", ""))


def test_the_tracking_server_is_not_needed_to_look_at_customers(see: Open, full: Path) -> None:
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    app = see("customers", full)
    assert not app.error
    assert len(app.dataframe[0].value) == 20


def test_no_page_shows_a_string_of_its_source() -> None:
    pages = sorted((APP.parent / "views").glob("*.py"))
    assert len(pages) == 7
    for file in (APP, *pages):
        _, *statements = ast.parse(file.read_text("utf-8")).body
        bare = [s.value for s in statements if isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant)]
        assert bare == [], file
    assert QUIET["runner.magicEnabled"] == "false"
