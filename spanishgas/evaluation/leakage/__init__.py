"""Does a model know what it could not have known? Checks on the columns, the rows and the procedure of an evaluation.

    single_feature      one column alone predicts too well, out of fold
    value_of_churners   a value that nearly only churners have
    value_of_stayers    a value that no churner has
    made_of_the_label   churn rates follow a column more closely than chance lets any column follow
    pair_of_features    two columns of few values predict too well together, out of fold
    dated_after_as_of   an age counted from as_of is negative, or a date lies beyond it
    duplicates          a held-out customer stands among the training rows too, by id or by every value
    near_copies         a held-out customer is all but one of the training rows
    permuted_labels     trained on shuffled labels, the procedure still predicts them
    adversarial         training and held-out customers can be told apart

The checks of columns name a column once: the first that finds it. A finding that the policy's waivers name is
declared: known, dated and shown, but no reason to refuse.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from spanishgas.config.policy import Waiver
from spanishgas.evaluation.leakage.columns import columns
from spanishgas.evaluation.leakage.finding import LeakageFinding, Sides, table
from spanishgas.evaluation.leakage.procedure import OutOfFold, adversarial, permuted_labels
from spanishgas.evaluation.leakage.rows import dated_after, duplicates, near_copies
from spanishgas.evaluation.metrics import Labels

__all__ = [
    "LeakageFinding",
    "OutOfFold",
    "Sides",
    "adversarial",
    "check",
    "columns",
    "dated_after",
    "duplicates",
    "near_copies",
    "permuted_labels",
    "table",
]


def check(
    sides: Sides,
    as_of: date,
    waivers: Sequence[Waiver],
    out_of_fold: OutOfFold,
    y: Labels | None = None,
) -> list[LeakageFinding]:
    """Every finding on a model.

    `out_of_fold` is the procedure under test: it takes labels of the rows that train (`y`, if they are of other days
    than the sides) and gives scores of rows that the fit did not see. Labels of held-out rows are read by
    `made_of_the_label` alone.
    """
    labels = sides.trained["churn"].to_numpy(dtype="int64") if y is None else y
    return [
        *columns(sides, waivers),
        dated_after(sides.both, as_of),
        duplicates(sides.trained, sides.held_out),
        near_copies(sides.trained, sides.held_out),
        permuted_labels(labels, out_of_fold, sides.seed),
        adversarial(sides),
    ]
