"""From two gold tables to a champion, scores, recommendations and a drift report, on one tracking store.

labelled gold -> ladder E4, E5 -> version -> @champion -> scores of the same table, then of a later, shifted one
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import skops.io
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from sklearn.metrics import average_precision_score

from benchmarks.ladder import write_ladder
from spanishgas import pipeline, provenance
from spanishgas.cli import chain as cli_chain
from spanishgas.cli import lifecycle
from spanishgas.config.experiment import experiment_ids, load_experiment
from spanishgas.config.policy import Promotion, load_policy
from spanishgas.config.search import XGBOOST, load_search
from spanishgas.errors import DataError, TrackingError, UsageError
from spanishgas.evaluation import card
from spanishgas.evaluation.metrics import ranking
from spanishgas.evaluation.selection import Compared
from spanishgas.evaluation.value import NO_OFFER
from spanishgas.lake import Lake, Snapshot
from spanishgas.lifecycle import compare as versions
from spanishgas.lifecycle import evaluation, gate, history, promotion, refit, registry, runs
from spanishgas.lifecycle.compare import reproduce
from spanishgas.lifecycle.experiments import (
    experiment_inputs,
    kinds_of,
    run_experiment,
    silent,
    training_side,
)
from spanishgas.lifecycle.ladder import ladder_inputs, run_ladder
from spanishgas.lifecycle.registry import Alias
from spanishgas.lifecycle.version import Version
from spanishgas.monitoring.drift import Drift, drift
from spanishgas.monitoring.outcomes import outcomes
from spanishgas.monitoring.reports import compare, sizes
from spanishgas.scoring import rollback as rolling
from spanishgas.scoring.reasons import GENERIC
from spanishgas.scoring.recommend import recommend
from spanishgas.scoring.score import score
from spanishgas.settings import settings
from spanishgas.training.calibration import fit_final
from spanishgas.training.model import FLAG, PROBABILITY, TIER, ChurnModel
from spanishgas.training.sides import in_holdout
from tests.cheap_experiments import cheap_search
from tests.gold_frames import gold_frame, publish_gold
from tests.tracked import forget, own_model, own_store
from tests.versions import add_version

DAY, LATER = date(2024, 12, 31), date(2025, 3, 31)
CUSTOMERS, TRIALS, SEED = 1500, 2, 7
IDS = ["E4", "E5"]


@dataclass(frozen=True)
class Chain:
    """Everything that one pass through the chain left behind."""

    root: Path
    lake: Lake
    gold: Snapshot
    later: Snapshot
    ladder: list[Compared]
    again: list[Compared]
    evaluated: Version
    twice: Version
    fitted: list[ChurnModel]
    scores: Snapshot
    recommendations: Snapshot
    shifted: Drift


def labelled_gold() -> pd.DataFrame:
    """Customers who leave for one plain reason: the sentiment of their contact."""
    frame = gold_frame(CUSTOMERS)
    chance = np.where(frame["sentiment_label"] == "negative", 0.95, 0.03)
    frame["churn"] = pd.array(np.random.default_rng(1).random(CUSTOMERS) < chance, dtype="Int64")
    return frame


def later_gold() -> pd.DataFrame:
    """A later table: 500 customers left, 500 came, every number tripled and every flag up."""
    frame = gold_frame(CUSTOMERS, seed=2, labelled=False, first_id=501)
    beside = ["churn", "avg_monthly_margin", "total_margin_2024", "contracted_power_kw", "is_urban"]
    for name in frame.select_dtypes("number").columns.difference(beside):
        frame[name] = 1 if set(frame[name].unique()) == {0, 1} else frame[name] * 3
    angry = np.random.default_rng(3).random(CUSTOMERS) < 0.5
    frame.loc[angry, "sentiment_label"] = "negative"
    frame["churn"] = pd.array([pd.NA] * CUSTOMERS, dtype="Int64")
    return frame


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    root = tmp_path_factory.mktemp("chain")
    with own_store(root) as patch:
        patch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        patch.setenv("MLFLOW_UV_AUTO_DETECT", "false")
        patch.setenv("SPANISHGAS_EXPERIMENTS", str(cheap_search(root / "experiments")))
        forget()
        yield pass_through(root, patch)
    forget()


def pass_through(root: Path, patch: pytest.MonkeyPatch) -> Chain:
    fitted: list[ChurnModel] = []
    log_model = registry.log_model

    def remember(model: ChurnModel, name: str, params: dict[str, object]) -> object:
        fitted.append(model)
        return log_model(model, name, params)

    patch.setattr(registry, "log_model", remember)
    lake = Lake(root / "lake")
    gold = publish_gold(lake, labelled_gold(), DAY)
    ladder = run_ladder(ladder_inputs(IDS, ["xgboost"], trials=TRIALS, lake=lake, seed=SEED))
    again = run_ladder(ladder_inputs(IDS, ["xgboost"], trials=TRIALS, lake=lake, seed=SEED))
    evaluated = evaluation.evaluate(None, lake=lake)
    # As a kill right after the version was registered leaves it.
    MlflowClient().delete_registered_model_alias(settings().registered_model, "challenger")
    twice = evaluation.evaluate(None, lake=lake)
    promotion.promote("challenger", "first")
    score("champion", lake=lake)
    later = publish_gold(lake, later_gold(), LATER)
    scores, recommendations = score("champion", lake=lake), recommend(lake=lake)
    shifted = drift(None, lake=lake)
    return Chain(
        root,
        lake,
        gold,
        later,
        ladder,
        again,
        evaluated,
        twice,
        fitted,
        scores,
        recommendations,
        shifted,
    )


def runs_of(stage: str) -> list[Run]:
    return runs.find({"stage": stage})


def artifacts(run_id: str) -> set[str]:
    return {a.path for a in MlflowClient().list_artifacts(run_id)}


# Experiments and the ladder


def test_an_experiment_run_carries_its_tags_and_a_score_with_an_interval(chain: Chain) -> None:
    found = runs_of("experiment")
    assert {(r.data.tags["experiment"], r.data.tags["model"]) for r in found} == {(i, "xgboost") for i in IDS}
    for run in found:
        low, score, high = (run.data.metrics[f"cv.average_precision{part}"] for part in (".low", "", ".high"))
        assert low < score < high


def test_an_experiment_has_as_many_child_runs_as_trials(chain: Chain) -> None:
    for run in runs_of("experiment"):
        children = runs.find({"stage": "trial", "mlflow.parentRunId": run.info.run_id})
        assert len(children) == TRIALS


def test_the_neighbours_best_is_tried_second_and_the_runs_say_so(chain: Chain) -> None:
    lower, upper = (c.rung.run_id for c in chain.ladder)
    best = runs.artifact(lower, "chosen.json")
    words = f"published, then E4 trial {best['trial']}"
    tags = [MlflowClient().get_run(run_id).data.tags["warm_start"] for run_id in (lower, upper)]
    assert tags == ["published", words]
    (second,) = runs.find({"stage": "trial", "experiment": "E5", "trial": "1"})
    assert second.data.tags["warm_start"] == words
    drawn = load_search().of(XGBOOST).admitted(best["params"])
    assert drawn is not None
    assert {name: second.data.params[name] for name in drawn} == {k: str(v) for k, v in drawn.items()}


def test_the_ladders_table_names_its_protocol_and_the_gain_of_each_rung(chain: Chain) -> None:
    (ladder,) = runs_of("ladder")
    words = Path(mlflow.artifacts.download_artifacts(f"runs:/{ladder.info.run_id}/ladder.md")).read_text()
    assert "fresh repeated folds that no search saw" in words
    assert re.search(r"\| E5 \| xgboost \| 23 \|.*\| E4 \| [+-]0\.\d{4} \|", words)
    assert "E4 to E5 with xgboost" in words
    assert all(len(c.rung.fold_scores) == 10 and c.rung.repeats == 2 for c in chain.ladder)


def test_how_the_threshold_was_chosen_is_logged_with_its_sensitivity(chain: Chain) -> None:
    (run,) = runs_of("evaluate")
    assert run.data.params["threshold.rule"] == "recall_floor"
    assert run.data.params["calibration"] in ("sigmoid", "isotonic")
    assert {"cv.brier.sigmoid", "cv.brier.isotonic", "cv.recall"} <= set(run.data.metrics)
    words = Path(
        mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/threshold_sensitivity.md")
    ).read_text()
    assert words.count("| uplift |") == 3


def test_every_cross_validated_metric_has_an_interval_and_every_fold_its_value(chain: Chain) -> None:
    run = runs.find({"stage": "experiment", "experiment": "E5"})[0]
    policy = load_policy()
    for name in set(card.METRICS) - {"value_eur"}:
        low, value, high = (run.data.metrics[f"cv.{name}{end}"] for end in (".low", "", ".high"))
        assert low <= value <= high
        history = MlflowClient().get_metric_history(run.info.run_id, f"cv.fold.{name}")
        repeats = policy.repeats if name == "average_precision" else 1
        assert len(history) == repeats * policy.folds


def test_an_experiment_says_what_it_read_and_which_code_ran(chain: Chain) -> None:
    tags = runs.find({"stage": "experiment", "experiment": "E5"})[0].data.tags
    assert (tags["data.uri"], tags["data.digest"]) == (chain.gold.uri, chain.gold.manifest.digest)
    assert tags["code.dirty"] in ("true", "false")
    assert tags["code.commit"]


def test_an_experiment_leaves_curves_tables_and_the_searchs_own_plots(chain: Chain) -> None:
    run_id = runs.find({"stage": "experiment", "experiment": "E5"})[0].info.run_id
    assert {"out_of_fold.png", "confusion.json", "folds.json", "search"} <= artifacts(run_id)
    plots = {a.path for a in MlflowClient().list_artifacts(run_id, "search")}
    assert {"search/search.html", "search/history.png", "search/slices.png"} <= plots


def test_the_confusion_table_counts_every_training_customer(chain: Chain) -> None:
    run = runs.find({"stage": "experiment", "experiment": "E5"})[0]
    (counts,) = runs.artifact(run.info.run_id, "confusion.json")["data"]
    assert sum(counts) == (~in_holdout(labelled_gold()["customer_id"], load_policy().holdout)).sum()
    assert counts[0] / (counts[0] + counts[1]) == pytest.approx(run.data.metrics["cv.recall"])


def test_out_of_fold_predictions_are_a_table_of_the_training_customers_in_the_lake(chain: Chain) -> None:
    run = runs.find({"stage": "experiment", "experiment": "E5"})[0]
    snapshot = chain.lake.by_digest(run.data.tags["out_of_fold.digest"], "out_of_fold")
    rows, gold = snapshot.pandas(), chain.gold.pandas()
    trained = gold[~in_holdout(gold["customer_id"], load_policy().holdout)]
    assert set(rows["customer_id"]) == set(trained["customer_id"])
    assert rows.set_index("customer_id")["churn"].equals(
        trained.set_index("customer_id")["churn"].astype("int64")
    )
    assert ranking(rows["churn"].to_numpy(), rows[PROBABILITY].to_numpy())["brier"] == pytest.approx(
        run.data.metrics["cv.brier"]
    )
    assert (snapshot.uri, snapshot.manifest.run_id) == (run.data.tags["out_of_fold"], run.info.run_id)


@pytest.mark.parametrize("stage", ["experiment", "trial", "ladder", "evaluate"])
def test_every_run_says_in_words_what_it_shows(chain: Chain, stage: str) -> None:
    assert all("average" in run.data.tags["mlflow.note.content"].lower() for run in runs_of(stage))


def test_the_experiments_page_says_what_each_rung_asks_unless_somebody_wrote_another_text(
    chain: Chain,
) -> None:
    client, (ladder,) = MlflowClient(), runs_of("ladder")
    where = ladder.info.experiment_id
    words = client.get_experiment(where).tags["mlflow.note.content"]
    assert all(f"{name}: {load_experiment(name).question}" in words for name in experiment_ids())
    (asked,) = re.findall(r"filter `(.*?)`", words)
    assert {run.info.run_id for run in client.search_runs([where], asked)} == {
        run.info.run_id for run in runs_of("experiment")
    }
    runs.introduce(where, "another")
    assert client.get_experiment(where).tags["mlflow.note.content"] == words


def test_a_ladder_leaves_a_list_a_table_and_a_chart(chain: Chain) -> None:
    assert {"ladder.json", "ladder.md", "ladder.png"} <= artifacts(runs_of("ladder")[0].info.run_id)


def test_a_ladder_is_one_sortable_comparison(chain: Chain) -> None:
    (ladder,) = runs_of("ladder")
    assert "ladder_table.json" in ladder.data.tags["mlflow.loggedArtifacts"]
    assert f"tags.ladder = '{ladder.info.run_id}'" in ladder.data.tags["mlflow.note.content"]
    found = runs.find({"ladder": ladder.info.run_id})
    assert {r.info.run_id for r in found} == {c.rung.run_id for c in chain.ladder}
    assert min(r.data.metrics["ladder.behind"] for r in found) == 0
    assert sum(r.data.tags["chosen"] == "true" for r in found) == 1


def test_a_ladder_is_written_as_files_that_are_the_same_every_time(chain: Chain, tmp_path: Path) -> None:
    first, again = (write_ladder(chain.ladder, tmp_path / name) for name in ("a", "b"))
    assert [p.name for p in first] == ["ladder.md", "ladder.png", "ladder.svg"]
    assert "| E5 | xgboost | 23 |" in first[0].read_text()
    assert [p.read_bytes() for p in first[:2]] == [p.read_bytes() for p in again[:2]]


def test_exactly_one_rung_is_chosen_and_the_ladder_names_it(chain: Chain) -> None:
    (chosen,) = [c.rung.run_id for c in chain.ladder if c.chosen]
    assert runs.artifact(runs_of("ladder")[0].info.run_id, "ladder.json")["chosen"] == chosen


def test_an_unchanged_ladder_is_reused_with_its_runs(chain: Chain) -> None:
    assert [c.rung.run_id for c in chain.again] == [c.rung.run_id for c in chain.ladder]
    assert len(runs_of("ladder")) == 1


def test_an_unchanged_experiment_is_reused(chain: Chain) -> None:
    reused = run_experiment(
        experiment_inputs("E4", "xgboost", trials=TRIALS, lake=chain.lake, seed=SEED), reuse=True
    )
    assert reused == chain.ladder[0].rung.run_id


def test_an_experiment_refuses_trials_below_one(chain: Chain) -> None:
    with pytest.raises(UsageError, match="got -3"):
        experiment_inputs("E4", "xgboost", trials=-3, lake=chain.lake, seed=SEED)


def test_a_stage_within_a_stage_lies_in_the_same_mlflow_experiment(chain: Chain) -> None:
    with runs.stage("outer", "outer") as outer, runs.stage("inner", "inner") as inner:
        assert inner.experiment_id == outer.experiment_id


# Evaluation and the version


def test_the_version_is_the_run_that_the_ladder_chose(chain: Chain) -> None:
    (chosen,) = [c.rung for c in chain.ladder if c.chosen]
    assert chain.evaluated.tags["experiment"] == chosen.experiment
    run = MlflowClient().get_run(chain.evaluated.run_id)
    assert run.data.params["of_run"] == chosen.run_id


def test_a_version_has_signature_and_a_synthetic_input_example(chain: Chain) -> None:
    info = mlflow.models.get_model_info("models:/spanishgas-churn@challenger")
    assert info.signature.inputs.input_names() == list(chain.fitted[0].features)
    assert info.signature.outputs.input_names() == [PROBABILITY, FLAG, TIER]
    assert info.saved_input_example_info is not None


def test_a_versions_requirements_are_pinned(chain: Chain) -> None:
    path = mlflow.artifacts.download_artifacts("models:/spanishgas-churn@challenger/requirements.txt")
    lines = [line for line in Path(path).read_text().splitlines() if line and not line.startswith("#")]
    assert lines
    assert all(re.fullmatch(r"[\w.-]+==[\w.+]+", line) for line in lines)


def test_a_version_names_the_data_that_it_was_trained_on(chain: Chain) -> None:
    tags = chain.evaluated.tags
    assert (tags["data.uri"], tags["data.digest"]) == (chain.gold.uri, chain.gold.manifest.digest)


def test_the_logged_model_carries_the_holdout_metrics_and_their_data_set(chain: Chain) -> None:
    model = MlflowClient().get_logged_model(str(chain.evaluated.entity.source).removeprefix("models:/"))
    metrics = {m.key: m for m in model.metrics}
    value = metrics["holdout.average_precision"]
    assert value.value == pytest.approx(chain.evaluated.metrics["holdout.average_precision"])
    assert value.dataset_digest == chain.gold.manifest.digest[:16]


def test_an_evaluation_leaves_card_tables_and_pictures(chain: Chain) -> None:
    run = MlflowClient().get_run(chain.evaluated.run_id)
    left = {"model_card.md", "model_card.html", "holdout.png", "importance.png"}
    tables = {"leakage.json", "slices.json", "importance.json"}
    assert left | tables <= artifacts(run.info.run_id)
    assert {t["path"] for t in json.loads(run.data.tags["mlflow.loggedArtifacts"])} == tables


def test_every_holdout_metric_has_an_interval_around_it(chain: Chain) -> None:
    found = chain.evaluated.metrics
    for name in card.METRICS:
        low, value, high = (found[f"holdout.{name}{end}"] for end in (".low", "", ".high"))
        assert low <= value <= high or name == "ece"  # resampling adds to a calibration error


def test_the_only_leak_of_the_chain_is_the_declared_one(chain: Chain) -> None:
    rows = runs.artifact(chain.evaluated.run_id, "leakage.json")
    verdicts = {row[0]: row[3] for row in rows["data"]}
    assert verdicts.pop("outcome_conditioned_text") == "declared"
    assert set(verdicts.values()) == {"nothing found"}
    assert set(verdicts) >= {
        "single_feature",
        "dated_after_as_of",
        "duplicates",
        "permuted_labels",
        "adversarial",
    }


def test_the_versions_description_is_the_short_card(chain: Chain) -> None:
    words = registry.resolve("challenger").entity.description
    assert "cannot say by when" in words
    assert "outcome_conditioned_text (declared)" in words
    assert f"runs:/{chain.evaluated.run_id}/model_card.html" in words


def test_the_verdict_is_an_artefact_and_a_tag(chain: Chain) -> None:
    version = chain.evaluated
    content = runs.artifact(version.run_id, "verdict.json")
    assert gate.Verdict.model_validate(content["verdict"]) == chain.evaluated.verdict
    assert registry.resolve(str(version.number)).tags["gate"] == "passed"


def test_an_evaluated_version_is_the_challenger(chain: Chain) -> None:
    assert registry.aliases()[Alias.CHALLENGER] == chain.evaluated.number


def test_evaluating_twice_registers_one_version_and_opens_the_holdout_once(chain: Chain) -> None:
    assert chain.twice.number == chain.evaluated.number
    assert chain.twice.verdict == chain.evaluated.verdict
    assert registry.aliases()["challenger"] == chain.evaluated.number
    model = MlflowClient().get_registered_model("spanishgas-churn")
    assert model.tags["holdout_openings"] == "1"
    assert len(MlflowClient().search_model_versions("name = 'spanishgas-churn'")) == 1


def test_the_holdout_metrics_are_of_the_held_out_customers_alone(chain: Chain) -> None:
    ids = chain.gold.pandas(["customer_id"])["customer_id"]
    held_out = in_holdout(ids, load_policy().holdout).sum()
    assert chain.evaluated.metrics["holdout.rows"] == held_out


def test_the_loaded_champion_predicts_what_the_fitted_model_predicted(chain: Chain) -> None:
    frame = chain.later.pandas()
    pd.testing.assert_frame_equal(
        registry.resolve("champion").model.predict(frame), chain.fitted[0].predict(frame)
    )


def test_pyfunc_answers_with_a_table_of_probability_flag_and_tier(chain: Chain) -> None:
    model = mlflow.pyfunc.load_model("models:/spanishgas-churn@champion")
    answer = model.predict(registry.example(chain.fitted[0]))
    assert list(answer.columns) == [PROBABILITY, FLAG, TIER]
    assert len(answer) == 3
    assert answer[PROBABILITY].between(0, 1).all()


# The gate


def test_a_first_champion_is_judged_on_every_check_but_the_champions(chain: Chain) -> None:
    names = {c.name for c in chain.evaluated.verdict.checks}
    assert {"holdout.ece", "input.contract", "leakage.duplicates", "slices.worse", gate.FIRST} <= names
    assert not [name for name in names if name.startswith("champion.")]
    assert chain.evaluated.verdict.passed


def test_the_verdict_stands_as_a_table_in_the_versions_description(chain: Chain) -> None:
    assert chain.evaluated.verdict.table() in registry.resolve("1").entity.description


def held_out(chain: Chain) -> pd.DataFrame:
    rows = chain.gold.pandas()
    return rows[in_holdout(rows["customer_id"], load_policy().holdout)].reset_index(drop=True)


def test_a_challenger_is_compared_with_the_champion_on_the_same_held_out_customers(chain: Chain) -> None:
    rows = held_out(chain)
    y = rows["churn"].to_numpy(dtype="int64")
    blind = rows.assign(sentiment_label="neutral")

    class Blind(ChurnModel):
        def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
            return super().predict(blind)

    fitted = chain.fitted[0]
    challenger = Blind(fitted.calibrated, fitted.features, fitted.kinds, fitted.threshold, fitted.risk_tiers)
    found = gate.against(registry.resolve("champion"), challenger, rows, y, load_policy().offers, SEED)
    assert found is not None
    difference = found.differences["average_precision"]
    ours = average_precision_score(y, fitted.predict_proba(blind)[:, 1])
    theirs = average_precision_score(y, fitted.predict_proba(rows)[:, 1])
    assert difference.value == pytest.approx(ours - theirs)
    assert difference.high < -load_policy().gate.champion.average_precision_margin
    assert found.signature_changes == 0


def test_a_champion_that_cannot_be_loaded_leaves_the_comparison_missing(model: str, chain: Chain) -> None:
    promotion.promote(add_version(), "its artefact is nowhere")
    rows = held_out(chain)
    y = rows["churn"].to_numpy(dtype="int64")
    champion, offers = registry.resolve("champion"), load_policy().offers
    assert gate.against(champion, chain.fitted[0], rows, y, offers, SEED) is None


def test_a_version_is_reproduced_to_the_last_digit(chain: Chain) -> None:
    found = reproduce("1", chain.lake)
    assert found.equal, found.words
    assert "reproduced to the last digit on 1,500 customers" in found.words


def test_what_is_not_reproduced_says_by_how_much_and_what_differs(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refit, "training_side", lambda *of: training_side(*of[:-1], SEED + 1))
    monkeypatch.setattr(provenance, "commit", lambda: "another")
    found = reproduce("1", chain.lake)
    assert not found.equal
    assert found.largest > 0
    assert "NOT reproduced" in found.words
    assert "here it is another" in found.words


# Promotion, on a registered model of the test's own


@pytest.fixture
def model(chain: Chain, request: pytest.FixtureRequest) -> Iterator[str]:
    with own_model(request.node.name) as name:
        yield name


def test_no_champion_is_an_error_that_says_what_to_run(model: str, chain: Chain) -> None:
    with pytest.raises(TrackingError, match=r"no version 'champion'.*spanishgas promote"):
        score("champion", lake=chain.lake)


class Stranger:
    """A type that no artefact of this project holds."""


def test_an_artefact_with_an_untrusted_type_is_refused(model: str, tmp_path: Path) -> None:
    skops.io.dump(Stranger(), tmp_path / "model.skops")
    with pytest.raises(UsageError, match=r"not trusted.*Stranger"):
        _ = registry.resolve(add_version(source=str(tmp_path))).model


def test_an_artefact_in_another_format_is_refused(model: str, tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(b"")
    with pytest.raises(UsageError, match="not a skops artefact"):
        _ = registry.resolve(add_version(source=str(tmp_path))).model


def test_an_artefact_that_was_half_uploaded_is_not_loaded_and_the_gate_misses_its_comparison(
    model: str, chain: Chain, tmp_path: Path
) -> None:
    skops.io.dump(chain.fitted[0], tmp_path / "model.skops")
    whole = (tmp_path / "model.skops").read_bytes()
    (tmp_path / "model.skops").write_bytes(whole[: len(whole) // 2])
    promotion.promote(add_version(source=str(tmp_path)), "its artefact is half there")
    with pytest.raises(DataError, match=r"model\.skops of version 1 .* is damaged"):
        _ = registry.resolve("champion").model
    rows = held_out(chain)
    y = rows["churn"].to_numpy(dtype="int64")
    champion, offers = registry.resolve("champion"), load_policy().offers
    assert gate.against(champion, chain.fitted[0], rows, y, offers, SEED) is None


# Scores and recommendations


def test_scores_hold_one_row_per_customer_of_the_newest_gold(chain: Chain) -> None:
    scores = chain.scores.pandas()
    assert scores["customer_id"].tolist() == chain.later.pandas()["customer_id"].tolist()
    assert chain.scores.manifest.as_of == LATER
    assert set(scores["model_version"]) == {chain.evaluated.number}


def test_the_account_of_what_came_back_stands_on_the_run(chain: Chain) -> None:
    account = runs.artifact(str(chain.scores.manifest.run_id), "reconciled.json")
    assert account["rows"] == sum(part["rows"] for part in account["parts"]) == CUSTOMERS
    assert all(len(part["sha256"]) == 64 for part in account["parts"])


def test_s24_a_customers_score_is_the_models_answer_for_that_customers_own_row(chain: Chain) -> None:
    scores, rows = chain.scores.pandas().set_index("customer_id"), chain.later.pandas()
    some = rows.sample(
        50, random_state=0
    )  # as the replaced system's test rows: in another order than the file's
    answer = chain.fitted[0].predict(some)[PROBABILITY].to_numpy()
    np.testing.assert_array_equal(scores.loc[some["customer_id"], PROBABILITY], answer)
    faulty = rows["customer_id"].tail(50)  # it took the last ids of the file for them
    assert not np.array_equal(scores.loc[faulty, PROBABILITY], answer)


def test_in_training_marks_the_customers_that_the_model_learned_from(chain: Chain) -> None:
    scores = chain.scores.pandas()
    known = scores["customer_id"].isin(set(chain.gold.pandas()["customer_id"]))
    expected = known & ~in_holdout(scores["customer_id"], load_policy().holdout)
    assert scores["in_training"].tolist() == expected.tolist()
    assert 0 < expected.sum() < known.sum()


def test_expected_loss_is_probability_times_the_positive_margin(chain: Chain) -> None:
    scores, margin = chain.scores.pandas(), chain.later.pandas()["avg_monthly_margin"]
    expected = scores[PROBABILITY] * np.maximum(margin, 0)
    np.testing.assert_allclose(scores["expected_monthly_loss"], expected)
    assert (margin < 0).any()


def test_unchanged_inputs_leave_scores_and_recommendations_as_they_are(chain: Chain) -> None:
    before = {p: p.stat().st_mtime_ns for p in (chain.lake.root / "scored").rglob("*")}
    assert score("champion", lake=chain.lake).manifest == chain.scores.manifest
    assert recommend(lake=chain.lake).manifest == chain.recommendations.manifest
    assert {p: p.stat().st_mtime_ns for p in (chain.lake.root / "scored").rglob("*")} == before


def test_recommendations_hold_one_row_per_scored_customer(chain: Chain) -> None:
    table, scores = chain.recommendations.pandas(), chain.scores.pandas()
    assert table["customer_id"].tolist() == scores["customer_id"].tolist()
    assert table["risk_score"].tolist() == scores[PROBABILITY].tolist()


def test_reasons_are_never_empty(chain: Chain) -> None:
    reasons = chain.recommendations.pandas()["reason_codes"]
    assert all(len(r) and all(r) for r in reasons)


def test_a_low_risk_has_the_generic_reason_and_no_offer(chain: Chain) -> None:
    table = chain.recommendations.pandas()
    low = table[table[TIER] == "Low"]
    assert len(low)
    assert {tuple(r) for r in low["reason_codes"]} == {(GENERIC,)}
    assert set(low["action"]) == {NO_OFFER}


def test_a_risk_from_medium_up_is_explained_by_the_models_own_inputs(chain: Chain) -> None:
    table = chain.recommendations.pandas()
    raised = table[table[TIER] != "Low"]
    assert len(raised)
    assert not any(GENERIC in r for r in raised["reason_codes"])
    assert any("negative" in reason for r in raised["reason_codes"] for reason in r)


def test_a_negative_margin_gets_no_offer(chain: Chain) -> None:
    table, margin = chain.recommendations.pandas(), chain.later.pandas()["avg_monthly_margin"]
    at_risk = table[TIER] != "Low"
    assert set(table.loc[at_risk & (margin < 0), "action"]) == {NO_OFFER}
    assert (table.loc[at_risk & (margin > 0), "action"] != NO_OFFER).any()


def test_no_offer_costs_and_brings_nothing(chain: Chain) -> None:
    table = chain.recommendations.pandas()
    offered = table["action"] != NO_OFFER
    assert (table.loc[~offered, ["offer_budget", "expected_margin_impact"]] == 0).all(axis=None)
    assert (table.loc[offered, ["offer_budget", "expected_margin_impact"]] > 0).all(axis=None)


# Drift


def test_a_drift_report_is_pages_and_data(chain: Chain) -> None:
    parts = ("inputs", "predictions", "quality")
    expected = {f"drift-{part}.{kind}" for part in parts for kind in ("html", "json")}
    assert expected | {"drift.json", "drift.html", "drift-features.json"} <= artifacts(chain.shifted.run_id)


def test_a_drift_run_carries_share_and_prediction_as_metrics(chain: Chain) -> None:
    metrics = MlflowClient().get_run(chain.shifted.run_id).data.metrics
    assert metrics["drift.share"] == pytest.approx(chain.shifted.share)
    assert metrics["prediction_drift"] == pytest.approx(chain.shifted.prediction)
    assert (metrics["drift.alarm"], metrics["drift.statistic"]) == (1, pytest.approx(chain.shifted.statistic))
    assert metrics["drift.standardised.sentiment_label"] > metrics["drift.threshold"]
    assert 0 < metrics["drift.weighted"] <= 1


@pytest.mark.slow
def test_the_training_table_itself_has_not_drifted(chain: Chain) -> None:
    same = drift(DAY, lake=chain.lake, pages=False)
    assert (same.share, dict(same.drifted)) == (0.0, {})
    assert (same.alarm, same.statistic) == (False, 0.0)


@pytest.mark.slow
def test_effect_sizes_are_those_of_evidently_s_report(chain: Chain) -> None:
    kinds = chain.fitted[0].kinds
    before = chain.gold.pandas()
    after = before.iloc[::3].reset_index(drop=True)
    after[[name for name, kind in kinds.items() if kind == "numeric"]] *= 1.1
    for now in (after, before):
        told = [
            (m.get("config", {}).get("column"), m["value"])
            for m in compare(before, now, kinds, 0.1).dict()["metrics"]
        ]
        reported = {column: pytest.approx(value, abs=1e-9) for column, value in told if column is not None}
        assert sizes(before, now, kinds) == reported
    assert set(sizes(before, before, kinds).values()) == {0.0}


def test_watching_tells_of_the_alarm_once_and_one_window_alone_trains_nothing(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPANISHGAS_ALERT_FILE", str(tmp_path / "alerts.jsonl"))
    said: list[str] = []
    for _ in range(2):
        found = pipeline.watched(None, "champion", lake=chain.lake, progress=silent, say=said.append)
        assert found.run_id == chain.shifted.run_id
    [line] = (tmp_path / "alerts.jsonl").read_text().splitlines()
    assert json.loads(line)["moved"][0] == chain.shifted.reasons[0]
    assert not re.search(r"C\d{5}", line)
    run = MlflowClient().get_run(chain.shifted.run_id)
    assert run.data.metrics["drift.rows"] == chain.later.manifest.rows
    assert (said, run.data.tags.get("retrain")) == ([], None)


def test_shifted_data_is_reported_as_drift(chain: Chain) -> None:
    assert chain.shifted.alarm
    assert chain.shifted.share >= 0.5
    assert chain.shifted.prediction >= 0.1
    assert "sentiment_label" in chain.shifted.drifted


def test_the_reference_is_the_champions_training_table_by_digest(chain: Chain) -> None:
    inputs = MlflowClient().get_run(chain.shifted.run_id).inputs.dataset_inputs
    read = {next(t.value for t in i.tags if t.key == "mlflow.data.context"): i.dataset.digest for i in inputs}
    assert read == {
        "reference": chain.gold.manifest.digest[:16],
        "current": chain.later.manifest.digest[:16],
        "scores": chain.scores.manifest.digest[:16],
    }


def test_an_unchanged_drift_report_is_reused(chain: Chain) -> None:
    assert drift(None, lake=chain.lake).run_id == chain.shifted.run_id


def test_labels_of_the_later_table_are_held_against_the_scores_that_were_made_of_it(
    chain: Chain, tmp_path: Path
) -> None:
    scored = chain.scores.pandas()
    leaves = np.random.default_rng(8).random(len(scored)) < scored[PROBABILITY]
    file = tmp_path / "labels.csv"
    pd.DataFrame({"customer_id": scored["customer_id"], "churn": leaves.astype(int)}).to_csv(
        file, index=False
    )
    found = outcomes(file, lake=chain.lake)
    metrics = MlflowClient().get_run(found.run_id).data.metrics
    assert (found.as_of, found.probation) == (LATER, [])
    assert metrics["outcomes.unseen"] == (~scored["in_training"]).sum()
    assert metrics["estimated.average_precision.low"] < metrics["outcomes.average_precision"]
    assert metrics["uplift.controls"] == (chain.lake.current("treatments").pandas()["arm"] == "control").sum()


@pytest.mark.slow
def test_a_lake_on_s3_is_scored_and_watched_as_a_folder_is(chain: Chain, bucket: str) -> None:
    remote = Lake(f"s3://{bucket}/lake")
    for listed in chain.lake.store.listing("gold"):
        remote.store.put(Path(chain.lake.root) / listed.key, listed.key)
    for table, published in {
        "scores": score("champion", lake=remote),
        "recommendations": recommend(lake=remote),
    }.items():
        assert published.uri.startswith(f"s3://{bucket}/lake/scored/{table}/as_of={LATER}/")
        assert remote.current(table).manifest.digest == chain.lake.current(table).manifest.digest
    assert drift(None, lake=remote).run_id == chain.shifted.run_id


# Comparing versions, and moving the champion while scoring goes on


def test_a_version_compared_with_itself_moves_nobody(chain: Chain) -> None:
    found = versions.compare("champion", "1", chain.lake)
    assert (found.customers, len(found.moved)) == (CUSTOMERS, 0)
    assert int(np.diag(found.tiers).sum()) == CUSTOMERS
    assert "0 change their tier" in versions.as_markdown(found)


def test_a_comparison_says_whose_tier_changes_and_which_feature_moved_them(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other version was trained by hand on labels that follow months_to_renewal, and nothing else."""
    frame, ours = chain.later.pandas(), registry.resolve("champion")
    rng = np.random.default_rng(5)
    labels = rng.random(len(frame)) < np.where(frame["months_to_renewal"] > 9, 0.9, 0.02)
    training = training_side(
        frame.assign(churn=pd.array(labels, dtype="Int64")),
        kinds_of(load_experiment("E5"), XGBOOST),
        XGBOOST,
        load_policy(),
        SEED,
    )
    other = fit_final(training, {"n_estimators": 20, "learning_rate": 0.3}, 0.5, load_policy())
    theirs = Version(ours.entity)
    theirs.__dict__["model"] = other
    monkeypatch.setattr(registry, "resolve", lambda which: ours if which == "champion" else theirs)
    found = versions.compare("champion", "other", chain.lake)
    then, now = ours.model.predict(frame)[TIER], other.predict(frame)[TIER]
    assert set(found.moved["customer_id"]) == set(frame["customer_id"][then != now])
    assert int(found.tiers.to_numpy().sum()) == CUSTOMERS
    assert set(found.features.index[:2]) == {"months_to_renewal", "sentiment_label"}
    assert "months_to_renewal" in found.moved["moved_by"].iloc[0]
    assert f"{len(found.moved):,} change their tier" in versions.as_markdown(found)


# What other programs read


def printed(
    capsys: pytest.CaptureFixture[str], verb: Callable[..., None], *words: object, **more: object
) -> Any:
    """What a verb prints as JSON."""
    capsys.readouterr()
    verb(*words, as_json=True, **more)
    return json.loads(capsys.readouterr().out)


def test_every_table_that_a_verb_prints_can_be_had_as_json(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    how = {"trials": TRIALS, "lake": chain.lake, "seed": SEED}
    rungs = printed(capsys, lifecycle.ladder, ",".join(IDS), "xgboost", **how)
    assert [rung["experiment"] for rung in rungs["rungs"]] == IDS
    verdict = printed(capsys, lifecycle.evaluate, None, chain.lake)
    assert (verdict["version"], verdict["passed"]) == (chain.evaluated.number, True)
    assert len(verdict["checks"]) == len(chain.evaluated.verdict.checks)
    moved = printed(capsys, lifecycle.compare, "champion", "champion", chain.lake)
    assert (moved["customers"], moved["moved"]) == (CUSTOMERS, [])
    assert {row["state"] for row in printed(capsys, cli_chain.doctor, chain.lake)} <= {"ok", "note", "fault"}


# Privacy


def test_no_customer_id_reaches_the_tracking_store(chain: Chain) -> None:
    ids = {i.encode() for s in (chain.gold, chain.later) for i in s.pandas(["customer_id"])["customer_id"]}
    files = [p for p in chain.root.rglob("*") if p.is_file() and not p.is_relative_to(chain.lake.root)]
    assert any(p.name == "drift-inputs.html" for p in files)
    found = {p.name: ids & set(re.findall(rb"\bC\d{5}\b", p.read_bytes())) for p in files}
    assert {name: hits for name, hits in found.items() if hits} == {}


# All of them side by side


def ranked(gold: Snapshot, metric: str = "cv.average_precision") -> list[tuple[str, float]]:
    """Logged models by a metric on the training table, best first, as MLflow's Models tab ranks them."""
    on = {"dataset_name": "gold_master", "dataset_digest": gold.manifest.digest[:16]}
    order = [{"field_name": f"metrics.{metric}", "ascending": False, **on}]
    models = mlflow.search_logged_models(
        [runs.experiment_id()], datasets=[on], order_by=order, output_format="list"
    )
    values = [(m.name, {one.key: one.value for one in m.metrics}.get(metric)) for m in models]
    return [(name, value) for name, value in values if value is not None]


def test_mlflow_ranks_every_rung_and_version_on_the_training_table(chain: Chain) -> None:
    rungs = {f"{c.rung.experiment}-{c.rung.model}": c.rung.score for c in chain.ladder}
    (chosen,) = [c.rung for c in chain.ladder if c.chosen]
    versions = {f"churn-{chosen.experiment}-{chosen.model}": chosen.score}
    answer = ranked(chain.gold)
    assert dict(answer) == pytest.approx(rungs | versions)
    assert [value for _, value in answer] == sorted(dict(answer).values(), reverse=True)


def test_a_rungs_logged_model_has_its_parameters_and_no_bytes(chain: Chain) -> None:
    run_id = chain.ladder[0].rung.run_id
    (made,) = MlflowClient().get_run(run_id).outputs.model_outputs
    model = MlflowClient().get_logged_model(made.model_id)
    best = runs.artifact(run_id, "chosen.json")["params"]
    assert (model.status, model.source_run_id) == ("READY", run_id)
    assert model.params == {name: str(value) for name, value in best.items()}
    assert not Path(str(model.artifact_location)).exists()


def test_the_registered_models_page_shows_every_version_with_interval_and_picture(chain: Chain) -> None:
    described = str(MlflowClient().get_registered_model(settings().registered_model).description)
    metrics = chain.evaluated.metrics
    low, point, high = (f"{metrics[f'holdout.average_precision{end}']:.3f}" for end in (".low", "", ".high"))
    rows = {
        line.split(" | ")[0].strip("| "): line for line in described.splitlines() if line.startswith("| ")
    }
    row = rows[chain.evaluated.number]
    assert f"{point} ({low} to {high})" in row
    assert f"{metrics['holdout.ece']:.3f}" in row
    assert "champion" in rows[registry.aliases()["champion"]]
    newest = runs_of("versions")[0]
    assert f"/runs/{newest.info.run_id}/artifacts/versions.png" in described
    assert {"versions.png", "versions.json"} <= artifacts(newest.info.run_id)
    (point_of,) = MlflowClient().get_metric_history(newest.info.run_id, "versions.average_precision")
    assert (point_of.step, point_of.value) == (1, metrics["holdout.average_precision"])


# Retraining comes last: it registers a version


@pytest.mark.slow
def test_retraining_starts_from_the_champions_parameters_and_leaves_a_challenger_where_the_policy_says_so(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = load_policy()
    by_hand = policy.model_copy(update={"promotion": Promotion(automatic=False)})
    monkeypatch.setattr(pipeline, "load_policy", lambda: by_hand)
    before = history.read()
    of_run = registry.resolve("champion").record.of_run
    done = pipeline.retrain(TRIALS, lake=chain.lake, seed=SEED + 1, progress=lambda what, n, of: None)
    assert history.read().moves == before.moves
    assert registry.aliases() == before.aliases | {"challenger": done.number}
    names = {c.name for c in done.verdict.checks}
    assert {"champion.average_precision.difference", "champion.value_eur.difference", "signature"} <= names
    fresh = MlflowClient().get_run(done.record.of_run)
    assert of_run in fresh.data.tags["warm_start"]
    champions = runs.artifact(of_run, "chosen.json")["params"]
    tried = runs.find({"stage": "trial", "mlflow.parentRunId": fresh.info.run_id})
    assert {k: str(v) for k, v in champions.items()} in [
        {k: v for k, v in trial.data.params.items() if k in champions} for trial in tried
    ]


def test_a_champion_that_was_moved_in_the_ui_is_scored_with_or_refused_by_who_watches(chain: Chain) -> None:
    """`said` moves the alias as the UI does, and at last interrupts."""
    heard: list[str] = []
    client, before, foreign = MlflowClient(), registry.aliases(), add_version(0.01)

    def said(words: str) -> None:
        heard.append(words)
        if len(heard) == 3:
            raise KeyboardInterrupt
        target = foreign if len(heard) == 1 else before["champion"]
        client.set_registered_model_alias(settings().registered_model, "champion", target)

    with pytest.raises(KeyboardInterrupt):
        pipeline.watch(lake=chain.lake, every=0, say=said)
    scored, refused, back = heard
    assert scored == back
    assert scored.startswith(f"champion: version {before['champion']}, {CUSTOMERS:,} customers scored")
    assert refused.startswith("not scored: ")
    assert "--override" in refused
    moves = [m for m in history.read().done if m.how == history.How.ELSEWHERE]
    assert [m.version for m in moves][-2:] == [foreign, before["champion"]]


@pytest.mark.slow
def test_a_rollback_scores_again_with_the_version_gone_back_to_if_asked(chain: Chain) -> None:
    before, after = registry.resolve("champion").number, registry.resolve("challenger").number
    promotion.promote(str(after), "a mistake", "to be regretted")
    score("champion", lake=chain.lake)
    assert set(chain.lake.current("scores").pandas(["model_version"])["model_version"]) == {str(after)}
    bad = chain.lake.current("scores").uri
    words = rolling.rollback("worse", lake=chain.lake, rescore=True)
    assert f"snapshots were made with version {after}:" in words
    assert f"scores as of {LATER}, current: {bad}" in words
    assert set(chain.lake.current("scores").pandas(["model_version"])["model_version"]) == {str(before)}
    assert f"scored again with version {before}: {CUSTOMERS:,} customers" in words
    assert chain.lake.current("recommendations").manifest.built_from["scores"] == (
        chain.lake.current("scores").manifest.digest
    )


@pytest.mark.slow
def test_a_million_customers_are_scored_part_by_part_and_each_is_there_once(
    chain: Chain, tmp_path: Path
) -> None:
    million, part = 1_000_000, 50_000
    lake = Lake(shutil.copytree(chain.lake.root, tmp_path / "lake"))

    def write(folder: Path) -> None:
        for first in range(0, million, part):
            frame = gold_frame(part, seed=first, labelled=False, first_id=100_000 + first)
            frame.to_parquet(folder / f"part-{first:07}.parquet", index=False)

    parts: list[int] = []
    gold = lake.publish(
        "gold_master", date(2025, 6, 30), write, built_from={}, fingerprint="a million", code={}
    )
    scores = score("champion", lake=lake, progress=lambda what, done, total: parts.append(done))
    assert scores.manifest.built_from["gold_master"] == gold.manifest.digest
    assert (scores.manifest.rows, parts[-1]) == (million, million)
    assert len(parts) >= million // part
    scored = scores.pandas(["customer_id", PROBABILITY])
    assert set(scored["customer_id"]) == {f"C{i}" for i in range(100_000, 100_000 + million)}
    assert scored[PROBABILITY].between(0, 1).all()
