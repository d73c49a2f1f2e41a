"""Silver: segments, channels, intent and sentiment per customer; full prices, profit and loss per customer-month."""

from __future__ import annotations

from functools import lru_cache, reduce
from operator import add

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from spanishgas.config.tariff import tariff
from spanishgas.contracts import contract
from spanishgas.contracts.tables import CHANNELS, COSTS, SENTIMENTS, price_columns
from spanishgas.etl.engines import Engine
from spanishgas.etl.intent import intent
from spanishgas.etl.prices import impute
from spanishgas.etl.quality import Audit, flagged
from spanishgas.etl.sentiment import SentimentModel, label

SME_KW = 10
"""An industrial customer of up to this power is an SME, above it a Corporate."""
NAMED_CHANNELS = 20
"""Unknown sales channels that the quality report names."""


def customer(bronze: ir.Table, model: SentimentModel, audit: Audit) -> ir.Table:
    """silver_customer from bronze_customer."""
    _count_unknown_channels(bronze, audit)
    table = bronze.mutate(
        sales_channel=_channel(bronze.sales_channel),
        segment=_segment(bronze),
        residential_type=ibis.cases(
            (bronze.is_second_residence == 1, "Second_Residence"),
            (bronze.is_second_residence == 0, "Primary_Residence"),
        ),
    )
    read = audit.engine.import_table("texts", _read_texts(bronze, model, audit.engine))
    table = table.left_join(read, "interaction_summary").drop("interaction_summary_right")
    return audit.engine.materialize(
        "silver_customer", table.select(*contract("silver_customer").fields), by=["customer_id"]
    )


def customer_month(bronze: ir.Table, customers: ir.Table, audit: Audit) -> ir.Table:
    """silver_customer_month from bronze_customer_month; prices hold their filled values, raw_* two as they came."""
    months = impute(_with_use(bronze, customers), audit)
    _count_missing(months, audit)
    table = profit_and_loss(months).select(*contract("silver_customer_month").fields)
    return audit.engine.materialize("silver_customer_month", table, by=["customer_id", "month"])


@lru_cache(maxsize=8)
def _with_use(bronze: ir.Table, customers: ir.Table) -> ir.Table:
    """The months with two prices as they came, and whether the customer is of industry and uses either fuel."""
    per_customer = ibis.window(group_by="customer_id")
    months = bronze.mutate(
        raw_price_tier1_eur_kwh=bronze.variable_price_tier1_eur_kwh.nullif(0),
        raw_gas_price_eur_m3=bronze.gas_variable_price_eur_m3.nullif(0),
        uses_elec=(bronze.monthly_elec_kwh.sum().over(per_customer) > 0).cast("int64"),
        uses_gas=(bronze.monthly_gas_m3.sum().over(per_customer) > 0).cast("int64"),
    )
    industrial = customers.select("customer_id", "is_industrial")
    return months.left_join(industrial, "customer_id").drop("customer_id_right")


def profit_and_loss(months: ir.Table) -> ir.Table:
    """The thirteen columns of profit and loss, EUR per customer-month.

    A missing price or cost counts as 0; a side that the customer does not use in the window has no revenue or cost.
    """
    m = {name: months[name].fill_null(0.0) for name in (*price_columns(), *COSTS)}
    prices = zip(tariff().prices, tariff().periods, strict=True)
    energy = [months[f"elec_kwh_{period}"] * m[price] for price, period in prices]
    electricity = {
        "elec_revenue_variable": reduce(add, energy),
        "elec_revenue_fixed": m["elec_fixed_fee_eur_month"],
        "elec_cost_variable": months.monthly_elec_kwh
        * (m["elec_var_cost_eur_kwh"] + m["peaje_elec_eur_kwh"]),
        "elec_cost_fixed": m["elec_fixed_cost_eur_month"],
    }
    gas = {
        "gas_revenue_variable": months.monthly_gas_m3 * m["gas_variable_price_eur_m3"],
        "gas_revenue_fixed": m["gas_fixed_revenue_eur_year"] / 12,
        "gas_cost_variable": months.monthly_gas_m3 * m["gas_var_cost_eur_m3"],
        "gas_cost_fixed": m["gas_fixed_cost_eur_year"] / 12,
    }
    sides = {name: ibis.ifelse(months.uses_elec == 1, value, 0.0) for name, value in electricity.items()}
    sides |= {name: ibis.ifelse(months.uses_gas == 1, value, 0.0) for name, value in gas.items()}
    return _margins(months.mutate(**sides))


def _margins(m: ir.Table) -> ir.Table:
    revenue = {side: m[f"{side}_revenue_variable"] + m[f"{side}_revenue_fixed"] for side in ("elec", "gas")}
    cost = {side: m[f"{side}_cost_variable"] + m[f"{side}_cost_fixed"] for side in ("elec", "gas")}
    m = m.mutate(
        elec_margin=revenue["elec"] - cost["elec"],
        gas_margin=revenue["gas"] - cost["gas"],
        total_revenue=revenue["elec"] + revenue["gas"],
        total_cost=cost["elec"] + cost["gas"],
    )
    return m.mutate(total_margin=m.elec_margin + m.gas_margin)


def _segment(bronze: ir.Table) -> ir.Value:
    industrial, power = bronze.is_industrial == 1, bronze.contracted_power_kw
    return ibis.cases(
        (bronze.is_industrial == 0, "Residential"),
        (industrial & (power <= SME_KW), "SME"),
        (industrial & (power > SME_KW), "Corporate"),
    )


def _channel(raw: ir.StringValue) -> ir.Value:
    folded = raw.strip().lower()
    return ibis.cases(*((folded == source, name) for source, name in CHANNELS.items()), else_="Unknown")


def _count_unknown_channels(bronze: ir.Table, audit: Audit) -> None:
    folded = bronze.sales_channel.strip().lower()
    odd = bronze.filter(folded.notin(list(CHANNELS))).group_by("sales_channel").agg(n=lambda t: t.count())
    unknown = audit.engine.fetch(odd.order_by([ibis.desc("n"), "sales_channel"])).to_pylist()
    named = ", ".join(f"{row['sales_channel'].strip()[:40]} ({row['n']})" for row in unknown[:NAMED_CHANNELS])
    total = sum(row["n"] for row in unknown)
    audit.quality.add("silver_customer", **{"odd.unknown_channel": total, "odd.unknown_channel_names": named})


def _count_missing(months: ir.Table, audit: Audit) -> None:
    """Prices and costs that count as 0 for a customer who uses that commodity."""
    missing = {}
    for name in (*price_columns(), *COSTS):
        uses = months.uses_gas if name.startswith("gas") else months.uses_elec
        missing[f"missing_as_0.{name}"] = flagged((uses == 1) & months[name].isnull())
    audit.measure("silver_customer_month", months, **missing)


def _read_texts(bronze: ir.Table, model: SentimentModel, engine: Engine) -> pa.Table:
    """Intent and sentiment of every text that is not blank, each text once."""
    texts = bronze.filter(bronze.interaction_summary.strip() != "").select("interaction_summary").distinct()
    unique = sorted(engine.fetch(texts).column(0).to_pylist())
    scores = model(unique)
    columns = {
        "interaction_summary": pa.array(unique, pa.string()),
        "customer_intent": pa.array([intent(text) for text in unique], pa.string()),
        **{f"sentiment_{name}": pa.array(scores[:, i], pa.float64()) for i, name in enumerate(SENTIMENTS)},
        "sentiment_label": pa.array([label(row) for row in scores], pa.string()),
    }
    return pa.table(columns)
