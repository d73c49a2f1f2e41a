"""The ladder in words, as a table and as files for a document."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from spanishgas.evaluation import charts
from spanishgas.evaluation.selection import Compared, Step, steps
from spanishgas.rendering import as_markdown

PROTOCOL = (
    "Every search used the same folds. The scores are of the winners refitted on fresh repeated folds that no search "
    "saw, the same for all rungs; intervals and the paired standard error allow for the rows that folds share."
)


def ladder_words(compared: Sequence[Compared]) -> str:
    """The ladder as Markdown: what it found, its table, how it was measured, and whether each tier pays."""
    pays = "\n".join(f"- {step.words}" for step in steps([c.rung for c in compared]))
    table = as_markdown(ladder_table(compared))
    return "\n\n".join(part for part in (sentence(compared), table, PROTOCOL, pays) if part)


def write_ladder(compared: Sequence[Compared], folder: Path) -> list[Path]:
    """The ladder as files for a document: ladder.md, ladder.png and ladder.svg in `folder`, made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    words, chart = folder / "ladder.md", charts.ladder_chart(compared)
    words.write_text(ladder_words(compared) + "\n", encoding="utf-8")
    pictures = [folder / "ladder.png", folder / "ladder.svg"]
    for picture in pictures:
        chart.savefig(picture, dpi=110, metadata={"Date": None} if picture.suffix == ".svg" else None)
    return [words, *pictures]


def sentence(compared: Sequence[Compared]) -> str:
    """What the ladder found, in words."""
    best = min(compared, key=lambda c: c.behind)
    pick = next(c for c in compared if c.chosen)
    chosen = f"{pick.rung.experiment} {pick.rung.model} ({pick.rung.features} features)"
    if pick.rung is best.rung:
        return f"{chosen} is best, and no simpler rung is within one paired standard error of it."
    return (
        f"{chosen} is the simplest within one paired standard error ({pick.standard_error:.4f}) of the best, "
        f"{best.rung.experiment} {best.rung.model}: it is {pick.behind:.4f} behind."
    )


def ladder_table(compared: Sequence[Compared]) -> pd.DataFrame:
    """The ladder as a table, one row per rung."""
    gains = {step.rung.run_id: step for step in steps([c.rung for c in compared])}
    return pd.DataFrame(
        [
            {
                "experiment": c.rung.experiment,
                "model": c.rung.model,
                "features": c.rung.features,
                "average precision": c.rung.score,
                "95 % interval": _span(*c.rung.interval),
                "behind the best": c.behind,
                "paired s.e.": c.standard_error,
                **_gain(gains.get(c.rung.run_id)),
                "chosen": "chosen" if c.chosen else "",
            }
            for c in compared
        ]
    )


def _gain(step: Step | None) -> dict[str, str]:
    if step is None:
        return {"over": "", "gain": "", "95 % interval of the gain": ""}
    gain = {"over": step.below.experiment, "gain": f"{step.gain:+.4f}"}
    return gain | {"95 % interval of the gain": _span(step.low, step.high)}


def _span(low: float, high: float) -> str:
    return f"{low:.4f} to {high:.4f}"
