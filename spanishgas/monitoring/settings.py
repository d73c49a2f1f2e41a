"""Where alerts and metrics go: from the environment, or a .env file."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Alerting(BaseSettings):
    """Who is told of an alarm; the prefix is SPANISHGAS_ALERT_."""

    model_config = SettingsConfigDict(
        env_prefix="SPANISHGAS_ALERT_",
        env_file=".env",
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )

    file: Path = Path("alerts.jsonl")
    """File that gets a JSON line per alert."""
    sns_topic: str = ""
    """ARN of an SNS topic that gets every alert; none if empty."""
    webhook: SecretStr = SecretStr("")
    """URL that gets every alert as Slack takes it; none if empty. Who has it may post, so it is a secret."""
    cloudwatch: str = ""
    """Namespace of CloudWatch's metrics of drift, scoring and data quality; none are sent if empty."""
