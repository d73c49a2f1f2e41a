"""Raw files to bronze, silver and gold, through Ibis."""

from spanishgas.etl.build import EtlReport, build

__all__ = ["EtlReport", "build"]
