"""What the terminal shows: a bar for long work, and results as rendered Markdown.

Without a terminal (a log file, CI) there is no bar; the stages' own log lines tell how far a run is.
"""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

_bars: dict[str, tuple[Progress, TaskID]] = {}
console = Console()


def bar(what: str, done: int, total: int) -> None:
    """Show that `done` of `total` steps of `what` are over; the bar goes when all are."""
    if not console.is_terminal:
        return
    if what not in _bars:
        for name in list(_bars):
            _bars.pop(name)[0].stop()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        shown = Progress(*columns, console=console, transient=True)
        shown.start()
        _bars[what] = shown, shown.add_task(what, total=total)
    shown, task = _bars[what]
    shown.update(task, completed=done)
    if done >= total:
        _bars.pop(what)[0].stop()


def show(markdown: str) -> None:
    """Print Markdown: rendered on a terminal, as it is elsewhere."""
    if console.is_terminal:
        from rich.markdown import Markdown

        console.print(Markdown(markdown))
    else:
        print(markdown)
