"""The one command for all benchmarks: every limit in one table at its end, whatever fails on the way."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from benchmarks import __main__ as benchmarks


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    def keeps(quick: bool) -> None:
        print("warming up")
        print(f"the figure: 3 s; kept, at most {2 if quick else 4} s")

    def fails(quick: bool) -> None:
        print("| ratio | 0.3 | at least 0.5 | MISSED |")
        raise RuntimeError("no network")

    for name, run in (("keeps", keeps), ("fails", fails), ("again", keeps)):
        module = ModuleType(name)
        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(benchmarks, "BENCHMARKS", {n: (n, n) for n in ("keeps", "fails", "again")})


def ended(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["benchmarks", *words])
    with pytest.raises(SystemExit) as end:
        benchmarks.main()
    return int(end.value.code or 0)


def test_one_that_fails_stops_no_other_and_every_limit_stands_in_one_table(
    three: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(monkeypatch) == 1
    out, err = capsys.readouterr()
    assert out.split("|---|---|\n")[1].splitlines() == [
        "| keeps | the figure: 3 s; kept, at most 4 s |",
        "| fails | ratio , 0.3 , at least 0.5 , MISSED |",
        "| again | the figure: 3 s; kept, at most 4 s |",
        "| fails | FAILED, see above |",
    ]
    assert out.startswith("warming up\n")
    assert "RuntimeError: no network" in err


def test_one_that_is_named_runs_alone(
    three: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(monkeypatch, "keeps", "--quick") == 0
    assert capsys.readouterr().out.count("at most 2 s") == 2
