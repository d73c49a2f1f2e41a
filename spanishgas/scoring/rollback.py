"""Going back to the champion before this one, and what becomes of what the bad version scored."""

from __future__ import annotations

from spanishgas.lake import Lake
from spanishgas.lifecycle import lineage, promotion
from spanishgas.lifecycle.registry import Alias
from spanishgas.settings import of_offers


def rollback(reason: str, *, lake: Lake, rescore: bool, offers: bool = False) -> str:
    """Go back to the champion before this one; gives in words what the bad version had scored.

    Where none of the versions of learned `offers` was champion before, the risk rule decides again.
    """
    with of_offers(offers):
        move = promotion.rollback(reason, to_none=offers)
        made = lineage.produced(str(move.replaced), lake)
    with_it = f" with version {move.version}" if move.version else ""
    now_champion = f"version {move.version}" if move.version else "none, the risk rule decides"
    lines = [
        f"champion: {now_champion}; version {move.replaced} is marked as rolled back",
        f"{len(made)} snapshots were made with version {move.replaced}:",
        *(
            f"  {s.manifest.table} as of {s.manifest.as_of}{', current' if now else ''}: {s.uri}"
            for s, now in made
        ),
    ]
    if rescore:
        from spanishgas.scoring.recommend import recommend
        from spanishgas.scoring.score import score

        score(Alias.CHAMPION, lake=lake)
        lines.append(f"scored again{with_it}: {recommend(lake=lake).manifest.rows:,} customers")
    elif any(current for _, current in made):
        lines.append("the current scores are still its own: run `spanishgas score`")
    return "\n".join(lines)
