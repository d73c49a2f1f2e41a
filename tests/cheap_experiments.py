"""Copies of experiments/ that are quick to run: few trees, few rungs, a gate that small tables can pass."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from spanishgas.settings import PROJECT


def cheap_search(folder: Path) -> Path:
    """The project's experiments, with trees few enough for a test."""
    shutil.copytree(PROJECT / "experiments", folder)
    search = yaml.safe_load((folder / "search.yaml").read_text())
    search["xgboost"]["start"] |= {"learning_rate": 0.1}
    search["xgboost"]["early_stopping"] |= {"most_trees": 30, "rounds": 30, "unmeasured": 30}
    (folder / "search.yaml").write_text(yaml.safe_dump(search, sort_keys=False))
    return folder


def lenient(experiments: Path) -> Path:
    """The same with a gate that a few hundred customers and one trial can pass."""
    file = experiments / "policy.yaml"
    policy = yaml.safe_load(file.read_text())
    policy["gate"] |= {"min_average_precision": 0.02, "max_calibration_error": 0.5}
    file.write_text(yaml.safe_dump(policy, sort_keys=False))
    return experiments


def two_rungs(experiments: Path) -> Path:
    """The same with E0 and E5 alone, the second on the first."""
    for file in experiments.glob("E*.yaml"):
        if file.stem not in ("E0", "E5"):
            file.unlink()
    upper = experiments / "E5.yaml"
    upper.write_text(yaml.safe_dump(yaml.safe_load(upper.read_text()) | {"below": "E0"}, sort_keys=False))
    return experiments
