"""The local backend: the serving process on this machine, asked as SageMaker would ask it.

One request per part with the documented headers; an answer other than 200 is tried again as often as the job's
settings say if the server failed, and not at all if it refused.
"""

from __future__ import annotations

import http.client
from collections.abc import Iterator

from spanishgas.scoring.process import Answer, Endpoint, serving_process
from spanishgas.scoring.settings import Transform
from spanishgas.scoring.shards import Part
from spanishgas.scoring.transform import Progress, Task, TransformError


class LocalTransform:
    """Scores by one serving process that lives as long as the answers are read."""

    def __init__(self, given: Transform) -> None:
        self.given = given

    def answers(self, task: Task, progress: Progress) -> Iterator[bytes]:
        """The answer to each part, each read before the next part is cut."""
        done = 0
        environment = task.environment(self.given, workers=1)
        with serving_process(task.model_dir, environment=environment) as endpoint:
            for part in task.shards:
                yield self._scored(endpoint, part)
                done += part.rows
                progress("score", done, max(task.rows, done))

    def clean_up(self, task: Task) -> None:
        """Nothing is left behind."""

    def _scored(self, endpoint: Endpoint, part: Part) -> bytes:
        fault = ""
        for _ in range(1 + self.given.retries):
            answer = self._asked(endpoint, part)
            if isinstance(answer, Answer) and answer.status == 200:
                return answer.body
            fault = answer if isinstance(answer, str) else _words(answer)
            if endpoint.process.poll() is not None:
                raise TransformError(f"the serving process ended at {part.name}:\n{endpoint.tail()}")
            if isinstance(answer, Answer) and answer.status < 500:
                break
        raise TransformError(f"{part.name} was not scored, so nothing was published: {fault}")

    def _asked(self, endpoint: Endpoint, part: Part) -> Answer | str:
        media = self.given.media
        try:
            return endpoint.post(part.body, media, media, self.given.timeout_seconds)
        except (OSError, http.client.HTTPException) as fault:
            return f"no answer ({type(fault).__name__}: {fault})"


def _words(answer: Answer) -> str:
    return f"status {answer.status}, {answer.body[:500].decode(errors='replace')}"
