"""What each table guarantees, from the raw files to recommendations, and the check that holds it to that."""

from spanishgas.config.tiers import Tiers
from spanishgas.contracts.checking import check, check_pandas, contract, typed

__all__ = ["Tiers", "check", "check_pandas", "contract", "typed"]
