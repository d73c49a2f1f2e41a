"""Strict reading of configuration: what cannot run is refused by file, key and value before anything is computed."""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

from spanishgas.config.experiment import experiment_ids, load_experiment
from spanishgas.config.policy import load_policy
from spanishgas.config.search import load_search
from spanishgas.config.tiers import read_tiers
from spanishgas.errors import UsageError
from spanishgas.etl.mapping import read_mapping

LOADERS: dict[str, Callable[[], object]] = {
    "policy.yaml": load_policy,
    "search.yaml": load_search,
    "tiers.yaml": read_tiers,
    **{f"E{number}.yaml": lambda name=f"E{number}": load_experiment(name) for number in range(9)},  # type: ignore[misc]
}
SEARCH = [
    # a parameter that the estimator does not take, or a value that it cannot run with
    ("max_bin: 128}", "max_bin: true}", "xgboost.fixed.max_bin: must be text or a finite number, but got True"),
    ("max_bin: 128}", "max_bin: .nan}", "xgboost.fixed.max_bin"),
    ("max_bin: 128}", "max_bin: 128.0}", "xgboost.fixed.max_bin: Input should be a valid integer, but got 128.0"),
    ("max_bin: 128}", "max_bin: '128'}", "xgboost.fixed.max_bin"),
    ("max_bin: 128}", "max_bin: 1}", "greater than or equal to 2, but got 1"),
    ("max_bin: 128}", "max_bim: 128}", "unknown parameter of xgboost 'max_bim': expected one of"),
    ("max_bin: 128}", "max_bim: 128}", "Did you mean 'max_bin'?"),
    ("max_bin: 128}", "random_state: 1}", "unknown parameter of xgboost 'random_state'"),
    ("max_bin: 128}", "scale_pos_weight: 9.0}", "unknown parameter of xgboost 'scale_pos_weight'"),
    ("tree_method: hist", "tree_method: gpu_hist", "xgboost.fixed.tree_method: Input should be 'hist' or 'approx'"),
    ("max_bin: 128}", "max_depth: 3}", "xgboost.fixed.max_depth: stands in space too"),
    ("max_bin: 128}", "n_estimators: 300}", "xgboost.n_estimators: is what early_stopping finds"),
    ("n_estimators: 200", "n_estimators: 0", "forest.fixed.n_estimators"),
    ("n_estimators: 200", "n_estimators: 200, bootstrap: false", "forest.fixed.bootstrap"),
    ("max_iter: 2000", "max_iter: 2000.0", "logistic.fixed.max_iter"),
    ("max_iter: 2000", "max_iter: 2000, tol: 0.01", "unknown parameter of logistic 'tol'"),
    ("max_iter: 2000", "max_iter: 2000, n_estimators: 3", "unknown parameter of logistic 'n_estimators'"),
    # ranges
    ("learning_rate: {low: 0.02, ", "learning_rate: {low: -0.02, ", "xgboost.space.learning_rate"),
    ("subsample: {low: 0.6, high: 1.0}", "subsample: {low: 0.6, high: 1.5}", "xgboost.space.subsample"),
    ("max_depth: {low: 2, high: 8", "max_depth: {low: 0, high: 8", "xgboost.space.max_depth"),
    ("max_depth: {low: 2, high: 8, step: 1", "max_depth: {low: 2, high: 8", "xgboost.space.max_depth"),
    ("max_depth: {low: 2, high: 8, step: 1", "max_depth: {low: 2, high: 8, step: 4", "max_depth.step: must lead"),
    ("max_depth: {low: 2, high: 8, step: 1", "max_depth: {low: 2.5, high: 8.5, step: 1", "max_depth.step: must"),
    ("max_depth: {low: 2, high: 8, step: 1", "max_depth: {low: 2, high: 8, step: 0", "max_depth.step"),
    ("max_depth: {low: 2, high: 8, step: 1", "max_depth: {low: 2, high: 8, step: 1.5", "max_depth.step"),
    ("high: 64, step: 1, log: true", "high: 64, step: 2, log: true", "max_leaves.step: must lead"),
    ("max_features: {low: 0.1, high: 0.4}", "max_features: {low: 0.0, high: 0.4}", "forest.space.max_features"),
    ("C: {low: 0.001, high: 30.0", "C: {low: .nan, high: 30.0", "logistic.space.C.low: Input should be a finite"),
    ("C: {low: 0.001, high: 30.0", "C: {low: 0.001, high: .inf", "logistic.space.C.high"),
    ("C: {low: 0.001, high: 30.0", "C: {low: true, high: 30.0", "logistic.space.C.low: Input should be a valid number"),
    ("C: {low: 0.001, high: 30.0", "C: {low: 1e-3, high: 30.0", "a valid number, such as 0.001, but got '1e-3'"),
    ("C: {low: 0.001, high: 30.0", "C: {low: 2026-01-01, high: 30.0", "logistic.space.C.low"),
    ("C: {low: 0.001, high: 30.0", "C: {low: 30.0, high: 0.001", "needs low <= high"),
    ("low: 0.05, high: 1.0, when", "low: 0.05, high: 1.5, when", "logistic.space.l1_ratio"),
    ("start: {penalty: l2, C: 1.0, class_weight: balanced}\n  space:\n    penalty: {choices: [l2, elasticnet]}\n"
     "    l1_ratio: {low: 0.05, high: 1.0, when: {penalty: elasticnet}}", "start: {l1_ratio: 0.5, C: 1.0, "
     "class_weight: balanced}\n  space:\n    l1_ratio: {low: 0.05, high: 1.0}", "logistic.space.l1_ratio: needs when"),
    ("log: true}\n    class_weight: {choices: [none, balanced]}", "log: 1}", "C.log: Input should be a valid boolean"),
    # choices, starts and conditions
    ("categories: {choices: [one_hot, native]}", "categories: {choices: []}", "xgboost.space.categories.choices"),
    ("choices: [one_hot, native]", "choices: [one_hot, native, native]", "names native twice"),
    ("choices: [one_hot, native]", "choices: [one_hot, native, natif]", "space.categories: Input should be"),
    ("choices: [one_hot, native]", "choices: [one_hot, true]", "categories.choices.1: must be text or a finite"),
    ("when: {limit: depth}", "when: {limit: 1}", "max_depth hangs on limit = 1"),
    ("when: {limit: depth}", "when: {max_features: 0.2}", "which is no earlier choice"),
    ("max_depth: 16", "max_depth: 16.0", "start.max_depth is 16.0"),
    ("max_depth: 16", "max_depth: yes", "forest.start.max_depth: must be text or a finite number"),
    # early stopping
    ("  fixed: {n_estimators: 200}",
     "  early_stopping: {most_trees: 9, rounds: 1, share: 0.1, fewest: 1, unmeasured: 2}",
     "forest.early_stopping: is for xgboost alone"),
    ("share: 0.15", "share: 0.0", "xgboost.early_stopping.share"),
    ("rounds: 100", "rounds: 100.5", "xgboost.early_stopping.rounds"),
    ("rounds: 100", "rounds: 5000", "rounds and unmeasured must be at most most_trees, 1200"),
    ("fewest: 50", "fewst: 50", "unknown key 'xgboost.early_stopping.fewst'"),
    ("fewest: 50", "fewst: 50", "Did you mean 'fewest'?"),
]  # fmt: skip
EXPERIMENTS = [
    ("E1.yaml", "[1A, MP_CORE]", "[1A, 1A]", "tiers: names 1A twice"),
    ("E1.yaml", "[1A, MP_CORE]", "[1A, MP_COR]", "tier in 'tiers' of E1.yaml 'MP_COR'"),
    ("E1.yaml", "[1A, MP_CORE]", "[1A, MP_COR]", "Did you mean 'MP_CORE'"),
    ("E1.yaml", "[1A, MP_CORE]", "1A", "tiers: Input should be a valid list"),
    ("E1.yaml", "[1A, MP_CORE]", "[1A, 3]", "tiers.1: Input should be a valid string: write it in quotes, but got 3"),
    ("E1.yaml", "below: E0", "below: E1", "round in a circle from E1: E1"),
    ("E1.yaml", "below: E0", "below: 0", "below: Input should be a valid string"),
    ("E0.yaml", "id: E0", "id: E0\nbelow: E1", "round in a circle"),
    ("E0.yaml", "id: E0", "id: ''", "id: "),
    ("E0.yaml", "question: How far does the contract alone go?", "question: 2026-01-01", "question: Input should be"),
    ("E8.yaml", "without: [", "without: [intent_x_sentiment, ", "without: names intent_x_sentiment twice"),
    ("E7.yaml", "below: E6", "wihout: []", "Did you mean 'without'"),
    ("E0.yaml", "[1A]", "[2B]\nwithout: [sentiment_label, is_negative_sentiment, complaint_x_negative_sentiment]",
     "E0.yaml leaves no feature for a linear model"),
]  # fmt: skip
TIERS = [
    ("kind: numeric, max_null: 0.95,", "kind: number, max_null: 0.95,", "1A.features.months_to_renewal.kind"),
    ("max_null: 0.95, words: months to", "max_null: 1.5, words: months to", "1A.features.months_to_renewal.max_null"),
    ("max_null: 0.95, words: months to", "max_null: .nan, words: months to", "months_to_renewal.max_null"),
    ("max_null: 0.95, low: 0, words: months as", "low: 5, high: 0, words: months as", "tenure_months.low: must be at"),
    ("{kind: flag, words: renewal", "{kind: flag, max_null: 0.5, words: renewal", "is_within_3m_of_renewal.max_null"),
    ("words: months to renewal", "words: 3", "months_to_renewal.words: Input should be a valid string"),
    ("values: [expired, 0-3m, 3-6m, 6-12m, 12m+]", "values: []", "renewal_bucket.values"),
    ("values: [expired, 0-3m,", "values: [expired, expired,", "renewal_bucket.values: names expired twice"),
    ("    months_to_renewal:", "    churn:", "1A.features.churn: must be a new column's name"),
    ("    months_to_renewal:", "    customer_id:", "1A.features.customer_id"),
    ("    months_to_renewal:", "    as_of:", "1A.features.as_of"),
    ("    months_to_renewal:", "    Months to renewal:", "1A.features.Months to renewal"),
    ("  title: Lifecycle", "  titel: Lifecycle", "unknown key '1A.titel'"),
    ("max_null: 0.95, words: months to", "maxnull: 0.95, words: months to", "Did you mean 'max_null'"),
    ("whole: true, high: 12", "whole: 1, high: 12", "active_months_count.whole"),
    ("whole: true, high: 12", "whole: true, max_null: 0.5, high: 12", "is not for whole features"),
    ("    tenure_months:", "    months_to_renewal:", "'months_to_renewal' stands twice"),
]  # fmt: skip
POLICY = [
    ("share: 0.2\n", "share: true\n", "holdout.share: Input should be a valid number"),
    ("salt: spanishgas-holdout-1", "salt: ''", "holdout.salt"),
    ("salt: spanishgas-holdout-1", "salt: 7", "holdout.salt: Input should be a valid string: write it in quotes"),
    ("folds: 5", "folds: 5.0", "folds: Input should be a valid integer"),
    ("folds: 5", "folds: '5'", "folds"),
    ("folds: 5", "folds: 010", "'010' is no plain decimal number"),
    ("folds: 5", "folds: 1_0", "'1_0' is no plain decimal number"),
    ("folds: 5", "folds: 1:30", "'1:30' is no plain decimal number"),
    ("folds: 5", "folds: 500", "folds: Input should be less than or equal to 50"),
    ("folds: 5", "folds: true", "folds: Input should be a valid integer"),
    ("repeats: 2", "repeat: 2", "Did you mean 'repeats'?"),
    ("rule: recall_floor", "rule: true", "threshold.rule"),
    ("min_recall: 0.70", "min_recall: 70", "threshold.min_recall"),
    ("kept_customer_eur: 224.0", "kept_customer_eur: .inf", "threshold.retention.kept_customer_eur"),
    ("  Critical: 0.8", "  Extreme: 0.8", "risk_tiers must start at 0 and ascend below 1"),
    ("  Critical: 0.8", "  Critical: .nan", "risk_tiers.Critical"),
    ("  Critical: 0.8\n", "", "'Critical'"),
    ("min_value_eur: 0 ", "min_value_eur: .nan ", "gate.min_value_eur"),
    ("clean_work_tree: false", "clean_work_tree: 0", "gate.clean_work_tree: Input should be a valid boolean"),
    ("approvers: []", "approvers: [7]", "promotion.approvers.0"),
    ("approvers: []", "approvers: ana", "promotion.approvers: Input should be a valid list"),
    ("approvers: []", "approvers: [ana, ana]", "promotion.approvers: names ana twice"),
    ("action: propose", "action: rollbak", "probation.action: Input should be 'propose' or 'rollback'"),
    ("days: null", "days: 0", "probation.days"),
    ("control: {share: 0.1, salt: spanishgas-control-1}", "control: {share: 0.1, salt: ' '}", "offers.control.salt"),
    ("control: {share: 0.1,", "control: {share: 1.0,", "offers.control.share"),
    ("    offer_small:", "    no_offer:", "offers.menu.no_offer: unknown name 'no_offer'"),
    ("    offer_small:", "    offer_smal:", "Did you mean 'offer_small'"),
    ("cost_eur: 10.0", "cost_eur: .nan", "offers.menu.offer_small.cost_eur"),
    ("cost_eur: 10.0", "cost_eur: '10'", "offers.menu.offer_small.cost_eur"),
    ("acceptance: 0.30", "acceptance: 1.30", "offers.menu.offer_small.acceptance"),
    ("immediate: 30", "immediate: 70", "offers.timing_days: must ascend"),
    ("immediate: 30", "immediate: 60", "offers.timing_days: must ascend"),
    ("immediate: 30", "immediate: 0", "offers.timing_days.immediate"),
    ("    immediate: 30", "    at_once: 30", "offers.timing_days.at_once: unknown name"),
    ("windows: {k: 2, of: 3}", "windows: {k: 4, of: 3}", "drift.windows"),
    ("windows: {k: 2, of: 3}", "windows: {k: 2, oft: 3}", "unknown key 'drift.windows.oft'"),
    ("false_alarm_rate: 0.01", "false_alarm_rate: 0.01\n  baseline: nowhere", "drift.baseline: must be a folder"),
    ("false_alarm_rate: 0.01", "false_alarm_rate: 0.01\n  baseline: 3", "drift.baseline"),
    ("check: outcome_conditioned_text", "check: outcome_conditioned_txt", "Did you mean 'outcome_conditioned_text'"),
    ("check: outcome_conditioned_text", "check: duplicates", "waivers.0.check: unknown check that can be waived"),
    ("check: outcome_conditioned_text", "check: signature", "waivers.0.features: are for outcome_conditioned_text"),
    ("      - customer_intent\n", "      - customer_inten\n", "waivers.0.features: unknown feature 'customer_inten'"),
    ("      - customer_intent\n", "      - is_price_sensitive\n", "waivers.0.features: names is_price_sensitive twice"),
    ("date: 2026-11-23", f"date: {date.today() + timedelta(days=30)}", "waivers.0.date: lies in the future"),
    ("reason: >-\n", "reason: ''\n    more: >-\n", "unknown key 'waivers.0.more'"),
    ("date: 2026-11-23", "date: 20261123", "waivers.0.date"),
    ("date: 2026-11-23", "date: 2026-11-23 10:00:00", "waivers.0.date"),
    ("date: 2026-11-23", "date: 2026-13-23", "is not YAML that can be read"),
    ("date: 2026-11-23", "date: soon", "waivers.0.date"),
]  # fmt: skip
FAULTS = [
    *(("search.yaml", *row) for row in SEARCH),
    *EXPERIMENTS,
    *(("tiers.yaml", *row) for row in TIERS),
    *(("policy.yaml", *row) for row in POLICY),
]


@pytest.mark.parametrize(("file", "before", "after", "named"), FAULTS)
def test_a_value_that_cannot_run_is_refused_by_file_key_and_value(
    experiments: Path, file: str, before: str, after: str, named: str
) -> None:
    path = experiments / file
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after, 1), encoding="utf-8")
    with pytest.raises(UsageError) as refused:
        LOADERS[file]()
    assert named in str(refused.value)
    assert file in str(refused.value) or "circle" in str(refused.value)


@pytest.mark.parametrize("file", ["E0.yaml", "policy.yaml", "search.yaml", "tiers.yaml"])
@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "must hold keys, but got None"),
        (b"# nothing\n", "must hold keys, but got None"),
        (b"- a\n- b\n", "must hold keys, but got ['a', 'b']"),
        (b"caf\xe9: 1\n", "is not YAML that can be read as UTF-8"),
        ("a: 1\n".encode("utf-16"), "is not YAML that can be read as UTF-8"),
        (b"a:\n\t- 1\n", "line 2"),
        (b"a: 1\na: 2\n", "'a' stands twice"),
        (b"a: {b: [{c: 1, 'c': 2}]}\n", "'c' stands twice"),
        (b"a: &x {b: 1}\nc: {<<: *x, d: 2}\n", "the key << is no plain text"),
        (b"3: 1\n", "the key 3 is no plain text: write it in quotes"),
        (b"yes: 1\n", "the key yes is no plain text"),
        (b"[a]: 1\n", "is no plain text"),
        (b"a: !!python/object:os.system {}\n", "could not determine a constructor"),
        (b"a: 1\n---\nb: 2\n", "expected a single document"),
        (b"[" * 5000, "is not YAML that can be read"),
    ],
)
def test_a_file_that_is_no_set_of_keys_is_refused_by_name(
    experiments: Path, file: str, content: bytes, named: str
) -> None:
    (experiments / file).write_bytes(content)
    with pytest.raises(UsageError) as refused:
        LOADERS[file]()
    assert named in str(refused.value)
    assert str(experiments / file) in str(refused.value)


def test_a_folder_in_place_of_a_file_is_refused_by_name(experiments: Path) -> None:
    (experiments / "search.yaml").unlink()
    (experiments / "search.yaml").mkdir()
    with pytest.raises(UsageError, match=r"search\.yaml is not YAML that can be read"):
        load_search()


def test_every_fault_of_a_file_stands_in_one_message(experiments: Path) -> None:
    path = experiments / "policy.yaml"
    text = path.read_text().replace("folds: 5", "folds: true").replace("cost_eur: 10.0", "cost_eur: -1.0")
    path.write_text(text)
    with pytest.raises(UsageError) as refused:
        load_policy()
    assert str(refused.value).count("\n  - ") == 2


def test_an_experiment_whose_ending_hides_it_is_named(experiments: Path) -> None:
    (experiments / "E9.yml").write_text("id: E9")
    with pytest.raises(UsageError, match=r"E9\.yml would not be read: name it E9\.yaml"):
        experiment_ids()


def test_trees_without_features_are_refused_and_a_linear_model_is_not(experiments: Path) -> None:
    (experiments / "E0.yaml").write_text("id: E0\nquestion: Strings alone?\ntiers: [1B]\n")
    crossed = load_experiment("E0")
    assert crossed.features(read_tiers(), linear=True)
    with pytest.raises(UsageError, match=r"E0\.yaml leaves no feature for trees"):
        crossed.features(read_tiers(), linear=False)


def test_what_stands_in_the_project_is_read_with_a_byte_order_mark_or_an_anchor_too(
    experiments: Path,
) -> None:
    for name in ("search.yaml", "policy.yaml", *(f"{name}.yaml" for name in experiment_ids())):
        text = (experiments / name).read_text(encoding="utf-8")
        (experiments / name).write_text(text.replace("share: 0.2\n", "share: &a 0.2\n"), encoding="utf-8-sig")
        LOADERS[name]()


def test_baseline_variation_lies_beside_the_policy(experiments: Path) -> None:
    (experiments / "ours").mkdir()
    path = experiments / "policy.yaml"
    path.write_text(path.read_text().replace("min_effect: 0.1", "min_effect: 0.1\n  baseline: ours"))
    assert load_policy().drift.baseline == experiments / "ours"


def test_a_second_waiver_of_a_check_is_refused(experiments: Path) -> None:
    path = experiments / "policy.yaml"
    text, waivers = path.read_text().split("waivers:\n")
    path.write_text(f"{text}waivers:\n{waivers}{waivers}")
    with pytest.raises(UsageError, match="names outcome_conditioned_text twice"):
        load_policy()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("churn_label: {file: a.csv, file: b.csv}", "'file' stands twice"),
        (
            "churn_label: {columns: {churn: true}}",
            "churn_label.columns.churn: Input should be a valid string",
        ),
        ("churn_label: {columns: {churn: ''}}", "churn_label.columns.churn"),
        ("churn_label: {columns: {churn: customer_id}}", "churn_label.columns: must name a header once"),
        ("churn_label: {columns: [churn]}", "churn_label.columns"),
        ("churn_label: {file: /etc/passwd}", "churn_label.file: must lie in the raw folder"),
        ("churn_label: {file: a.csv}\nprice_history: {file: a.csv}", "names a.csv twice"),
        ("churn_label: nothing", "churn_label: Input should be a valid dictionary"),
        ("", "must hold keys, but got None: it must name tables"),
    ],
)
def test_a_mapping_is_read_as_strictly(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "mapping.yaml").write_text(text)
    with pytest.raises(UsageError) as refused:
        read_mapping(tmp_path / "mapping.yaml")
    assert named in str(refused.value)
    assert str(tmp_path / "mapping.yaml") in str(refused.value)
