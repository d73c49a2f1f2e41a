"""What the pages on AWS say, held against the files that they speak of."""

from __future__ import annotations

import re
from pathlib import Path

from tests.infra.terraform import ROOT, module

PROJECT = Path(__file__).resolve().parents[2]
GUIDE, SECURITY = ((PROJECT / "docs" / name).read_text() for name in ("aws.md", "security.md"))


def test_the_costs_add_up_and_are_called_an_estimate() -> None:
    rows = [
        [cell.strip("* ") for cell in line.strip("|").split("|")]
        for line in GUIDE.splitlines()
        if "|" in line
    ]
    costs = [(row[0], int(row[2]), int(row[3])) for row in rows if len(row) == 4 and row[2].isdigit()]
    *parts, (name, dev, prod) = costs
    assert (name, len(parts)) == ("together", 7)
    assert (sum(p[1] for p in parts), sum(p[2] for p in parts)) == (dev, prod)
    assert "An estimate for 20,099 customers" in GUIDE


def test_the_endpoints_that_are_paid_are_those_that_are_made() -> None:
    ((endpoints, zones),) = re.findall(r"interface endpoints, (\d+) in one zone, in prod in (\w+)", GUIDE)
    made = re.search(r"for_each += toset\((\[[^]]*\"sts\"\])\)", module("network").text)
    assert made is not None
    assert made[1].count('"') == 2 * int(endpoints)
    assert zones == "two"
    assert "endpoint_zones    = 2" in (ROOT / "environments" / "prod.tfvars").read_text()


def test_it_says_plainly_what_it_was_tested_against() -> None:
    assert "Never against AWS itself." in GUIDE


def test_every_output_and_task_that_the_guide_uses_is_there() -> None:
    outputs = set(re.findall(r"output -raw (\w+)", GUIDE))
    assert outputs
    assert outputs <= module().named("output").keys()
    assert '"${var.name}-tracking-${each.key}"' in module("tracking").text
    assert 'users = "users"' in module("tracking").text


def test_what_is_kept_is_kept_as_long_as_the_page_says() -> None:
    rules = {
        rule["id"]: rule for rule in module("storage").one("aws_s3_bucket_lifecycle_configuration")["rule"]
    }
    assert f"after {rules['bronze-to-infrequent-access']['transition'][0]['days']} days" in SECURITY
    assert f"| scored | {rules['scored-expires']['expiration'][0]['days']} days |" in SECURITY
    days = rules["old-versions-expire"]["noncurrent_version_expiration"][0]["noncurrent_days"]
    assert f"{days} days after they were replaced or deleted" in SECURITY


def test_the_guide_leads_to_nothing_that_would_be_committed() -> None:
    assert "*.account.tfvars" in (PROJECT / ".gitignore").read_text()
