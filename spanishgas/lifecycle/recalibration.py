"""The champion with probabilities made right again: its model as it is, curve and threshold by the newest labels."""

from __future__ import annotations

from spanishgas.config.adopted import bring_labels
from spanishgas.errors import TooEarly, UsageError
from spanishgas.lake import Lake
from spanishgas.lifecycle import registry
from spanishgas.lifecycle.evaluation import evaluated, inputs_of
from spanishgas.lifecycle.experiments import training_gold
from spanishgas.lifecycle.version import Version


def recalibrate(*, lake: Lake) -> Version:
    """Register the champion with curve and threshold fitted to the newest labels, and judge it on that table.

    Folds of its training table say what it would have said of customers that it learned from. The same champion,
    labels, policy and code give the version that is there already. TooEarly where the champion has these labels.
    """
    champion, newest = registry.champion(), training_gold(lake).manifest
    if champion is None:
        raise UsageError("there is no champion to recalibrate: run `spanishgas main` or `spanishgas promote`")
    chosen = champion.record.chosen
    if newest.digest in chosen.tables or newest.as_of <= chosen.as_of:
        raise TooEarly(
            f"version {champion.number} has the newest labels, of {newest.as_of}: {bring_labels()}, "
            "then recalibrate"
        )
    if chosen.earlier or champion.model.hazard is not None:
        raise UsageError(
            f"version {champion.number} is judged by time or says when customers leave, and later labels would change "
            "more than its curve: spanishgas retrain"
        )
    later = chosen.model_copy(update={"recalibrated": newest.digest})
    return evaluated(inputs_of(later, champion.record.of_run, lake))
