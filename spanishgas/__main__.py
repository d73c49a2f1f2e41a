"""`python -m spanishgas <verb>`: what the entry points of MLproject call."""

from spanishgas.cli import run
from spanishgas.lifetime import end_with_parent

if __name__ == "__main__":
    end_with_parent()
    run()
