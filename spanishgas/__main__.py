"""`python -m spanishgas <verb>`: what the entry points of MLproject call."""

from spanishgas.cli import run

if __name__ == "__main__":
    run()
