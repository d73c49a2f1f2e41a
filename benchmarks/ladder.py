"""How long the ladder takes, with tracking, searches and refits: XGBoost and logistic regression, then the forest.

CPU seconds stand beside the clock's: where they alone are within a limit, one core keeps it, whoever else works on
the machine. Noise: CPU seconds move by a twentieth from run to run, the clock by whatever else runs; on two cores
without other work a correct build keeps both limits every time.

What writing the trials cost is given as a share of the searches' time. The ladder's table and chart are
left in `ladder/` where the command runs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.clock import Clock
from benchmarks.utility import AS_OF, PUBLISHED_SIZE, drawn
from spanishgas.config.experiment import experiment_ids
from spanishgas.evaluation.charts import ladder_chart
from spanishgas.evaluation.selection import Compared, ladder_words
from spanishgas.lake import Lake
from spanishgas.lifecycle import runs
from spanishgas.lifecycle.ladder import ladder_inputs, run_ladder
from tests.tracked import own_store

SEED, TRIALS, TRACKING = 7, 8, 0.05
LIMITS = {("xgboost", "logistic"): 20 * 60, ("xgboost", "logistic", "forest"): 45 * 60}


def run(quick: bool) -> None:
    """Print the ladder and its seconds against the limits."""
    gold = drawn(1_500 if quick else PUBLISHED_SIZE, SEED).gold
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, own_store(Path(folder)):  # studies too
        lake = Lake(Path(folder) / "lake")
        lake.publish(
            "gold_master",
            AS_OF,
            lambda to: gold.to_parquet(to / "part-0.parquet", index=False),
            built_from={},
            fingerprint="benchmark",
            code={},
        )
        ids, trials = (["E0", "E5"], 2) if quick else (experiment_ids(), TRIALS)
        clock = Clock()
        for models, limit in LIMITS.items():
            compared = run_ladder(ladder_inputs(ids, models, trials=trials, lake=lake, seed=SEED))
            seconds, cpu = clock.read()
            print(
                f"{', '.join(models)} on {len(gold)} customers, {trials} trials: {seconds:.0f} s, {cpu:.0f} CPU s; "
                f"{'kept' if seconds <= limit else 'MISSED'}, at most {limit} s",
                flush=True,
            )
            print(write_ladder(compared, here / "ladder")[0].read_text(encoding="utf-8"))
            _print_tracking()


def _print_tracking() -> None:
    """What writing the trials took of each search, and of all of them."""
    shares: dict[str, float] = {}
    spent = searched = 0.0
    for run in runs.find({"stage": "experiment"}):
        took = run.data.metrics
        spent, searched = spent + took["search.tracking_seconds"], searched + took["search.seconds"]
        shares[run.info.run_name] = took["search.tracking_seconds"] / took["search.seconds"]
    most = max(shares, key=lambda name: shares[name])
    print(
        f"tracking took {spent / searched:.3f} of the searches' time, at most {shares[most]:.3f} ({most}); "
        f"{'kept' if spent / searched < TRACKING else 'MISSED'}, below {TRACKING}",
        flush=True,
    )


def write_ladder(compared: Sequence[Compared], folder: Path) -> list[Path]:
    """The ladder as files for a document: ladder.md, ladder.png and ladder.svg in `folder`, made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    words, chart = folder / "ladder.md", ladder_chart(compared)
    words.write_text(ladder_words(compared) + "\n", encoding="utf-8")
    pictures = [folder / "ladder.png", folder / "ladder.svg"]
    for picture in pictures:
        chart.savefig(picture, dpi=110, metadata={"Date": None} if picture.suffix == ".svg" else None)
    return [words, *pictures]
