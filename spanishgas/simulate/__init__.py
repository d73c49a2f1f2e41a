"""The synthetic utility: raw files in the source's schema and, apart from them, the truth behind every outcome.

    population -> market (energy, prices) -> churn -> contacts
                     energy -> hours              all of it -> extract: the raw files, and the truth

Everything is drawn from streams keyed by seed and block of customers, so an extract is reproduced byte for byte,
memory does not grow with the number of customers, and a later extract shows the same utility months later.
"""

from spanishgas.simulate.extract import write_extract

__all__ = ["write_extract"]
