"""What each table guarantees, from the seven raw files (after typed parsing) to recommendations.

seven raw files -> bronze_customer, bronze_customer_month -> silver_* -> gold_master -> scores -> recommendations
"""

from __future__ import annotations

from collections.abc import Mapping

from spanishgas.contracts.dictionary import Entry, Tiers
from spanishgas.contracts.fields import AMOUNT, DAY, FLAG, ID, MONTH, NUMBER, TEXT, Field, Kind, Table

ATTRIBUTES: Mapping[str, Field] = {
    "contracted_power_kw": AMOUNT,
    "is_industrial": FLAG,
    "is_second_residence": FLAG,
    "province_code": Field(Kind.CODE),
    "region": TEXT,
    "is_high_competition_province": FLAG,
    "is_urban": FLAG,
    "sales_channel": TEXT,
}
CONTRACTS: Mapping[str, Field] = {
    "customer_first_activation_date": DAY,
    "contract_start_date": DAY,
    "last_product_change_date": DAY,
    "next_renewal_date": DAY,
}
PRICES: Mapping[str, Field] = {
    "variable_price_tier1_eur_kwh": AMOUNT,
    "variable_price_tier2_eur_kwh": AMOUNT,
    "variable_price_tier3_eur_kwh": AMOUNT,
    "elec_fixed_fee_eur_month": AMOUNT,
    "elec_fixed_cost_eur_month": AMOUNT,
    "gas_variable_price_eur_m3": AMOUNT,
    "gas_fixed_revenue_eur_year": AMOUNT,
    "gas_fixed_cost_eur_year": AMOUNT,
}
COSTS: Mapping[str, Field] = {
    "elec_var_cost_eur_kwh": AMOUNT,
    "gas_var_cost_eur_m3": AMOUNT,
    "peaje_elec_eur_kwh": AMOUNT,
}

# A raw row may lack its id or key: the dictionary counts such rows and leaves them out, it does not stop.
RAW: Mapping[str, Table] = {
    "churn_label": Table({"customer_id": TEXT, "churn": FLAG}, closed=False),
    "customer_attributes": Table({"customer_id": TEXT, **ATTRIBUTES}, closed=False),
    "customer_contracts": Table({"customer_id": TEXT, **CONTRACTS}, closed=False),
    "price_history": Table({"customer_id": TEXT, "pricing_date": DAY, **PRICES}, closed=False),
    "costs_by_province_month": Table(
        {"province": Field(Kind.CODE), "month": Field(Kind.MONTH), **COSTS}, closed=False
    ),
    "customer_interactions": Table(
        {"customer_id": TEXT, "date": DAY, "channel": TEXT, "interaction_summary": TEXT}, closed=False
    ),
    "consumption_hourly_2024": Table(
        {
            "customer_id": TEXT,
            "timestamp": DAY,
            "consumption_elec_kwh": NUMBER,
            "consumption_gas_m3": NUMBER,
        },
        closed=False,
    ),
}
DATED: Mapping[str, tuple[str, ...]] = {
    "customer_contracts": tuple(CONTRACTS),
    "customer_interactions": ("date",),
}
"""Dates that may be unreadable: such a value is null and counted, as the dictionary has it for contracts."""

PERIODS = ("tier_1_peak", "tier_2_standard", "tier_3_offpeak")
CONSUMPTION = (
    *("monthly_elec_kwh", "monthly_gas_m3", "monthly_gas_kwh"),
    *(f"{unit}_{period}" for unit in ("elec_kwh", "gas_m3", "gas_kwh") for period in PERIODS),
)
PROFIT_AND_LOSS = (
    *("elec_revenue_variable", "elec_revenue_fixed", "elec_cost_variable", "elec_cost_fixed", "elec_margin"),
    *("gas_revenue_variable", "gas_revenue_fixed", "gas_cost_variable", "gas_cost_fixed", "gas_margin"),
    *("total_revenue", "total_cost", "total_margin"),
)
SEGMENTS = ("Residential", "SME", "Corporate")
RESIDENTIAL_TYPES = ("Primary_Residence", "Second_Residence")
CHANNELS: Mapping[str, str] = {
    "presencial_comercial": "In-Person Commercial",
    "comparador": "Comparison Website",
    "oficina": "Office",
    "telemarketing": "Telemarketing",
    "web_propia": "Own Website",
    "desconocido": "Unknown",
    "unknown": "Unknown",
}
"""The source's sales channels and the names that gold gives them."""
SENTIMENTS = ("positive", "negative", "neutral")
INTENTS = (
    "Cancellation / Switch",
    "Complaint / Escalation",
    "Billing / Payment",
    "Contract Renewal",
    "Pricing Offers",
    "Plan / Product Inquiry",
    "Account / Service Inquiry",
    "General / Operational Contact",
    "Other / Unclassified",
)
"""Intents in the order in which their rules are tried."""
RISK_TIERS = ("Low", "Medium", "High", "Critical")
ACTIONS = ("no_offer", "offer_small", "offer_medium", "offer_large")
TIMINGS = ("immediate", "30_60_days", "60_90_days")

_SHARE = Field(Kind.NUMBER, low=0, high=1)
_PROBABILITY = Field(Kind.NUMBER, required=True, low=0, high=1)
_MONEY = Field(Kind.NUMBER, required=True)
_BRONZE_CUSTOMER: Mapping[str, Field] = {
    "customer_id": ID,
    "churn": FLAG,
    **ATTRIBUTES,
    **CONTRACTS,
    "interaction_date": DAY,
    "interaction_channel": TEXT,
    "interaction_summary": TEXT,
}
_BRONZE_MONTH: Mapping[str, Field] = {
    "customer_id": ID,
    "month": MONTH,
    **{name: Field(Kind.NUMBER, required=True, low=0) for name in CONSUMPTION},
    **PRICES,
    **COSTS,
}
DERIVED: Mapping[str, Table] = {
    "quarantine": Table(
        {
            "source_table": ID,
            "rule": ID,
            "column": TEXT,
            "customer_id": TEXT,
            "row": ID,
            "run_id": TEXT,
        }
    ),
    "bronze_customer": Table(_BRONZE_CUSTOMER, key=("customer_id",)),
    "bronze_customer_month": Table(_BRONZE_MONTH, key=("customer_id", "month")),
    "silver_customer": Table(
        {
            **_BRONZE_CUSTOMER,
            "sales_channel": Field(Kind.TEXT, required=True, values=tuple(dict.fromkeys(CHANNELS.values()))),
            "segment": Field(Kind.TEXT, values=SEGMENTS),
            "residential_type": Field(Kind.TEXT, values=RESIDENTIAL_TYPES),
            "customer_intent": Field(Kind.TEXT, values=INTENTS),
            **{f"sentiment_{label}": _SHARE for label in SENTIMENTS},
            "sentiment_label": Field(Kind.TEXT, values=SENTIMENTS),
        },
        key=("customer_id",),
    ),
    "silver_customer_month": Table(
        {
            **_BRONZE_MONTH,
            "raw_price_tier1_eur_kwh": AMOUNT,
            "raw_gas_price_eur_m3": AMOUNT,
            "uses_elec": Field(Kind.FLAG, required=True),
            "uses_gas": Field(Kind.FLAG, required=True),
            **dict.fromkeys(PROFIT_AND_LOSS, _MONEY),
        },
        key=("customer_id", "month"),
    ),
    "scores": Table(
        {
            "customer_id": ID,
            "churn_probability": _PROBABILITY,
            "churn_flag": Field(Kind.FLAG, required=True),
            "risk_tier": Field(Kind.TEXT, required=True, values=RISK_TIERS),
            "expected_monthly_loss": AMOUNT,
            "in_training": Field(Kind.YESNO, required=True),
            "model_version": Field(Kind.TEXT, required=True),
            "as_of": Field(Kind.DAY, required=True),
        },
        key=("customer_id",),
    ),
    "recommendations": Table(
        {
            "customer_id": ID,
            "risk_score": _PROBABILITY,
            "risk_tier": Field(Kind.TEXT, required=True, values=RISK_TIERS),
            "segment": Field(Kind.TEXT, values=SEGMENTS),
            "action": Field(Kind.TEXT, required=True, values=ACTIONS),
            "timing_window": Field(Kind.TEXT, values=TIMINGS),
            "offer_budget": AMOUNT,
            "expected_margin_impact": NUMBER,
            "reason_codes": Field(Kind.LIST, required=True),
            "model_version": Field(Kind.TEXT, required=True),
            "as_of": Field(Kind.DAY, required=True),
        },
        key=("customer_id",),
    ),
}


def gold(tiers: Tiers) -> Table:
    """The contract of gold_master: six columns beside the features of the data dictionary, in its order."""
    beside = {
        "customer_id": ID,
        "churn": FLAG,
        "avg_monthly_margin": NUMBER,
        "total_margin_2024": NUMBER,
        "contracted_power_kw": AMOUNT,
        "is_urban": Field(Kind.FLAG, required=True),
    }
    features = {name: _feature(tiers.entry(name)) for name in tiers.features()}
    return Table({**beside, **features}, key=("customer_id",))


def _feature(entry: Entry) -> Field:
    if entry.kind == "flag":
        return Field(Kind.FLAG, required=True)
    if entry.kind == "numeric":
        kind = Kind.COUNT if entry.whole else Kind.NUMBER
        return Field(kind, required=entry.whole, low=entry.low, high=entry.high)
    return Field(Kind.TEXT, required=entry.kind == "cross", values=entry.values)
