"""What each table guarantees, from the seven raw files (after typed parsing) to recommendations.

seven raw files -> bronze_customer, bronze_customer_month -> silver_* -> gold_master -> scores -> recommendations
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from spanishgas.config.policy import ACTIONS, RISK_TIERS, TIMINGS
from spanishgas.config.tiers import Entry, Tiers
from spanishgas.contracts.fields import AMOUNT, DAY, FLAG, ID, MONTH, NUMBER, TEXT, Field, Kind, Table

# A share of nulls that a sound extract stays far below; a join that went wrong, or a column not filled, does not.
_NEARLY_ALL = 0.95
_LARGEST = 1e9
"""No price, cost or power is larger (EUR, kW); beyond it sums and deviations leave the range of a double."""
_PRICE = Field(Kind.NUMBER, low=0, high=_LARGEST)
_ELEC_PRICE = Field(Kind.NUMBER, low=0, high=_LARGEST, max_null=_NEARLY_ALL)
_POWER = Field(Kind.NUMBER, low=0, high=_LARGEST, max_null=_NEARLY_ALL)
_KNOWN_FLAG = Field(Kind.FLAG, max_null=_NEARLY_ALL)
_KNOWN_DAY = Field(Kind.DAY, max_null=_NEARLY_ALL)
_KEY_DAY = Field(Kind.DAY, required=True)

LARGEST_READING = 2**63 / 1e12
"""One hour's value (kWh, m3) that is no reading: a 64-bit integer of units of 1e-12 does not hold it. More than a
city's load."""
ATTRIBUTES: Mapping[str, Field] = {
    "contracted_power_kw": _POWER,
    "is_industrial": _KNOWN_FLAG,
    "is_second_residence": _KNOWN_FLAG,
    "province_code": Field(Kind.CODE, max_null=_NEARLY_ALL),
    "region": TEXT,
    "is_high_competition_province": _KNOWN_FLAG,
    "is_urban": _KNOWN_FLAG,
    "sales_channel": TEXT,
}
CONTRACTS: Mapping[str, Field] = {
    "customer_first_activation_date": _KNOWN_DAY,
    "contract_start_date": _KNOWN_DAY,
    "last_product_change_date": DAY,
    "next_renewal_date": _KNOWN_DAY,
}
PRICES: Mapping[str, Field] = {
    "variable_price_tier1_eur_kwh": _ELEC_PRICE,
    "variable_price_tier2_eur_kwh": _ELEC_PRICE,
    "variable_price_tier3_eur_kwh": _ELEC_PRICE,
    "elec_fixed_fee_eur_month": _PRICE,
    "elec_fixed_cost_eur_month": _PRICE,
    "gas_variable_price_eur_m3": _PRICE,
    "gas_fixed_revenue_eur_year": _PRICE,
    "gas_fixed_cost_eur_year": _PRICE,
}
COSTS: Mapping[str, Field] = {
    "elec_var_cost_eur_kwh": _ELEC_PRICE,
    "gas_var_cost_eur_m3": _PRICE,
    "peaje_elec_eur_kwh": _PRICE,
}

# In a raw table a row without a required value, or with one outside its limits, goes to quarantine.
_RAW: Mapping[str, Mapping[str, Field]] = {
    "churn_label": {"customer_id": ID, "churn": Field(Kind.FLAG, required=True)},
    "customer_attributes": {"customer_id": ID, **ATTRIBUTES},
    "customer_contracts": {"customer_id": ID, **CONTRACTS},
    "price_history": {"customer_id": ID, "pricing_date": _KEY_DAY, **PRICES},
    "costs_by_province_month": {"province": Field(Kind.CODE, required=True), "month": MONTH, **COSTS},
    "customer_interactions": {
        "customer_id": ID,
        "date": _KEY_DAY,
        "channel": TEXT,
        "interaction_summary": TEXT,
    },
    "consumption_hourly_2024": {
        "customer_id": ID,
        "timestamp": Field(Kind.TIME, required=True),
        "consumption_elec_kwh": Field(Kind.NUMBER, high=LARGEST_READING),
        "consumption_gas_m3": Field(Kind.NUMBER, high=LARGEST_READING),
    },
}
RAW: Mapping[str, Table] = {name: Table(fields, closed=False) for name, fields in _RAW.items()}
DATED: Mapping[str, tuple[str, ...]] = {
    "customer_contracts": tuple(CONTRACTS),
}
"""Dates that may be unreadable: such a value is null and counted, and its row is kept."""

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
ARMS = ("offer", "control")
"""What becomes of a customer an offer was chosen for: it is made, or withheld by chance to measure what offers do."""

_SHARE = Field(Kind.NUMBER, low=0, high=1)
_PROBABILITY = Field(Kind.NUMBER, required=True, low=0, high=1)
_MONEY = Field(Kind.NUMBER, required=True)
_FLAG = Field(Kind.FLAG, required=True)
_TIER = Field(Kind.TEXT, required=True, values=RISK_TIERS)
_IN_TRAINING = Field(Kind.YESNO, required=True)
_MADE: Mapping[str, Field] = {"model_version": Field(Kind.TEXT, required=True), "as_of": _KEY_DAY}
"""The version that made a row, and the day that it is about."""
_BRONZE_CUSTOMER: Mapping[str, Field] = {
    "churn": FLAG,
    **ATTRIBUTES,
    **CONTRACTS,
    "interaction_date": DAY,
    "interaction_channel": TEXT,
    "interaction_summary": TEXT,
}
_BRONZE_MONTH: Mapping[str, Field] = {
    **{name: Field(Kind.NUMBER, required=True, low=0) for name in CONSUMPTION},
    **PRICES,
    **COSTS,
}
_CHANNEL = Field(Kind.TEXT, required=True, values=tuple(dict.fromkeys(CHANNELS.values())))
_QUARANTINE = dict.fromkeys(("source_table", "rule"), ID) | dict.fromkeys(("column", "customer_id"), TEXT)
_QUARANTINE |= {"row": ID, "run_id": TEXT}


def _by_customer(layer: str, **fields: Field) -> Table:
    return Table({"customer_id": ID, **fields}, key=("customer_id",), layer=layer)


def _by_month(layer: str, **fields: Field) -> Table:
    return Table({"customer_id": ID, "month": MONTH, **fields}, key=("customer_id", "month"), layer=layer)


DERIVED: Mapping[str, Table] = {
    "quarantine": Table(_QUARANTINE, layer="quarantine"),
    "bronze_customer": _by_customer("bronze", **_BRONZE_CUSTOMER),
    "bronze_customer_month": _by_month("bronze", **_BRONZE_MONTH),
    "silver_customer": _by_customer(
        "silver",
        **{**_BRONZE_CUSTOMER, "sales_channel": _CHANNEL},
        segment=Field(Kind.TEXT, values=SEGMENTS),
        residential_type=Field(Kind.TEXT, values=RESIDENTIAL_TYPES),
        customer_intent=Field(Kind.TEXT, values=INTENTS),
        **{f"sentiment_{label}": _SHARE for label in SENTIMENTS},
        sentiment_label=Field(Kind.TEXT, values=SENTIMENTS),
    ),
    "silver_customer_month": _by_month(
        "silver",
        **_BRONZE_MONTH,
        raw_price_tier1_eur_kwh=AMOUNT,
        raw_gas_price_eur_m3=AMOUNT,
        uses_elec=_FLAG,
        uses_gas=_FLAG,
        **dict.fromkeys(PROFIT_AND_LOSS, _MONEY),
    ),
    "gold_master": _by_customer(
        "gold",
        churn=FLAG,
        avg_monthly_margin=NUMBER,
        total_margin_2024=NUMBER,
        contracted_power_kw=AMOUNT,
        is_urban=Field(Kind.FLAG, required=True),
    ),
    "out_of_fold": _by_customer(
        "experiments",
        churn=_FLAG,
        fold=Field(Kind.COUNT, required=True, low=0),
        log_odds=NUMBER,
        churn_probability=_PROBABILITY,
    ),
    "scores": _by_customer(
        "scored",
        churn_probability=_PROBABILITY,
        churn_flag=_FLAG,
        risk_tier=_TIER,
        expected_monthly_loss=AMOUNT,
        in_training=_IN_TRAINING,
        **_MADE,
    ),
    "recommendations": _by_customer(
        "scored",
        risk_score=_PROBABILITY,
        risk_tier=_TIER,
        segment=Field(Kind.TEXT, values=SEGMENTS),
        action=Field(Kind.TEXT, required=True, values=ACTIONS),
        timing_window=Field(Kind.TEXT, values=TIMINGS),
        offer_budget=AMOUNT,
        expected_margin_impact=NUMBER,
        reason_codes=Field(Kind.LIST, required=True),
        **_MADE,
        expected_monthly_loss=AMOUNT,
        probability_low=_PROBABILITY,
        probability_high=_PROBABILITY,
    ),
    "treatments": _by_customer(
        "scored",
        arm=Field(Kind.TEXT, required=True, values=ARMS),
        offer=Field(Kind.TEXT, required=True, values=ACTIONS[1:]),
        offer_cost=AMOUNT,
        timing_window=Field(Kind.TEXT, values=TIMINGS),
        risk_score=_PROBABILITY,
        expected_margin_impact=NUMBER,
        control_share=_SHARE,
        **_MADE,
    ),
    "outcomes": _by_customer(
        "scored",
        churn=_FLAG,
        label_date=DAY,
        churn_probability=_PROBABILITY,
        churn_flag=_FLAG,
        risk_tier=_TIER,
        in_training=_IN_TRAINING,
        arm=Field(Kind.TEXT, values=ARMS),
        **_MADE,
    ),
}
"""In the order in which they are made; gold_master without its features, which `gold` adds."""
LAYERS: Mapping[str, str] = {name: table.layer for name, table in DERIVED.items()}
"""The folder of the lake that each table lies in."""


def gold(tiers: Tiers) -> Table:
    """The contract of gold_master: six columns beside the features of the data dictionary, in its order."""
    beside = DERIVED["gold_master"]
    return replace(
        beside, fields={**beside.fields, **{name: _feature(tiers.entry(name)) for name in tiers.features()}}
    )


def _feature(entry: Entry) -> Field:
    if entry.kind == "flag":
        return Field(Kind.FLAG, required=True)
    if entry.kind == "numeric":
        kind = Kind.COUNT if entry.whole else Kind.NUMBER
        return Field(kind, required=entry.whole, low=entry.low, high=entry.high, max_null=entry.max_null)
    return Field(
        Kind.TEXT,
        required=entry.kind == "cross",
        values=tuple(entry.values) if entry.values else None,
        max_null=entry.max_null,
    )
