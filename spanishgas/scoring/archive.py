"""The archive that SageMaker unpacks to /opt/ml/model: equal models give equal bytes."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

from spanishgas.training import artefact

BESIDE = ("MLmodel", "requirements.txt")
"""What goes along for whoever opens the archive; the code is the image's."""


def archive(model_dir: Path) -> bytes:
    """model.tar.gz of the artefact in `model_dir`, without times and owners."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name in sorted([artefact.FILE, *BESIDE]):
            if (file := model_dir / name).exists():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = file.stat().st_size, 0o644
                with file.open("rb") as content:
                    tar.addfile(entry, content)
    return packed.getvalue()
