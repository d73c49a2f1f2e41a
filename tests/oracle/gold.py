"""The feature dictionary a second time, in plain pandas: the yardstick for the project's own layers.

    raw folder -> customers, contracts, labels, interactions (duplicates resolved)
               -> hours -> customer-months -> imputed prices -> profit and loss
               -> gold: customer_id, churn, four carried columns and the 64 features

- Reads every rule from the dictionary's sentences; imports nothing from the package under test.
- Does not depend on the order of rows in any file.
- Clear before fast: one customer at a time from the customer-months on.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

DAYS_PER_MONTH: Final = 30
KWH_PER_M3: Final = 11
PRICE_MOVE_EUR_KWH: Final = 0.001
POSITIVE_FROM: Final = 0.4
NEGATIVE_TO: Final = -0.2

TIERS: Final = ("tier_1_peak", "tier_2_standard", "tier_3_offpeak")
FIXED_HOLIDAYS: Final = frozenset(
    {(1, 1), (1, 6), (5, 1), (8, 15), (10, 12), (11, 1), (12, 6), (12, 8), (12, 25)}
)
TIER_PRICES: Final = tuple(f"variable_price_tier{n}_eur_kwh" for n in (1, 2, 3))
PRICES: Final = (
    *TIER_PRICES,
    "elec_fixed_fee_eur_month",
    "elec_fixed_cost_eur_month",
    "gas_variable_price_eur_m3",
    "gas_fixed_revenue_eur_year",
    "gas_fixed_cost_eur_year",
)
COSTS: Final = ("elec_var_cost_eur_kwh", "gas_var_cost_eur_m3", "peaje_elec_eur_kwh")
ATTRIBUTES: Final = {
    "contracted_power_kw": "float",
    "is_industrial": "integer",
    "is_second_residence": "integer",
    "province_code": "integer",
    "region": "text",
    "is_high_competition_province": "integer",
    "is_urban": "integer",
    "sales_channel": "text",
}
CONTRACTS: Final = {
    "customer_first_activation_date": "date",
    "contract_start_date": "date",
    "last_product_change_date": "date",
    "next_renewal_date": "date",
}
CHANNELS: Final = {
    "presencial_comercial": "In-Person Commercial",
    "comparador": "Comparison Website",
    "oficina": "Office",
    "telemarketing": "Telemarketing",
    "web_propia": "Own Website",
    "desconocido": "Unknown",
    "unknown": "Unknown",
}

CANCELLATION: Final = "Cancellation / Switch"
COMPLAINT: Final = "Complaint / Escalation"
PRICING: Final = "Pricing Offers"
NO_INTENT: Final = "Other / Unclassified"
INTENTS: Final[Sequence[tuple[str, Sequence[str]]]] = (
    (
        CANCELLATION,
        (
            *("cancel", "cancelled", "cancellation", "cancelling", "terminate", "termination"),
            *("switch", "switching", "leave", "account close", "account closure", "closing account"),
        ),
    ),
    (
        COMPLAINT,
        (
            *("complain", "complaint", "complaining", "frustrated", "frustration", "escalated", "escalation"),
            *("not satisfied", "unsatisfied", "upset", "dissatisfied", "dissatisfaction", "unhappy"),
            *("discontent", "disappointed"),
        ),
    ),
    (
        "Billing / Payment",
        ("bill", "billing", "charge", "charges", "charged", "payment", "overdue", "past due"),
    ),
    (
        "Contract Renewal",
        ("renew", "renewal", "renewals", "renewing", "renewed", "expire", "expiry", "expiration"),
    ),
    (
        PRICING,
        (
            *("price", "prices", "priced", "pricing", "rate", "rates", "increase", "hike", "discount"),
            *("discounts", "saving", "savings", "competitive", "competitiveness", "competition"),
            *("better deal", "better rate", "better offer", "alternative", "alternatives", "looking around"),
        ),
    ),
    ("Plan / Product Inquiry", ("plan", "plans", "option", "options")),
    (
        "Account / Service Inquiry",
        (
            *("account details", "account questions", "account update", "account setup", "account issues"),
            *("service", "services", "inquiry", "inquired", "inquiries", "info", "clarified"),
            *("no issues found", "all good"),
        ),
    ),
    (
        "General / Operational Contact",
        (
            *("general", "follow-up", "routine", "inbound call", "resolved", "standard interaction"),
            "customer contacted",
        ),
    ),
)
NEGATORS: Final = frozenset({"no", "not", "never", "without"})
NEGATOR_REACH: Final = 3
EXEMPT_FROM_NEGATION: Final = frozenset({"not satisfied", "no issues found"})
_CLAUSE_END: Final = re.compile(r"[;!?()\[\]\n\u2013\u2014]|[.,:](?!\d)|\s-\s")
_WORD: Final = re.compile(r"\w+(?:[-'\u2019.,]\w+)*")

MP_CORE: Final = (
    "avg_monthly_elec_kwh",
    "total_elec_kwh_2024",
    "avg_monthly_gas_m3",
    "total_gas_m3_2024",
    "gas_share_of_revenue",
    "price_update_count",
    "province_avg_elec_cost_2024",
    "province_avg_gas_cost_2024",
)
MP_RISK: Final = (
    "std_monthly_elec_kwh",
    "std_monthly_gas_m3",
    "std_margin",
    "active_months_count",
    "min_monthly_margin",
    "max_negative_margin",
    "elec_price_trend_12m",
    "gas_price_trend_12m",
    "elec_price_volatility_12m",
    "province_elec_cost_trend",
    "elec_price_vs_province_cost_spread",
    "is_price_increase",
    "rolling_margin_trend",
)
LIFECYCLE: Final = (
    "months_to_renewal",
    "renewal_bucket",
    "is_within_3m_of_renewal",
    "tenure_months",
    "tenure_bucket",
    "is_expired_contract",
    "segment",
    "sales_channel",
    "is_high_competition_province",
    "is_second_residence",
    "is_dual_fuel",
    "portfolio_type",
    "is_comparison_channel",
    "is_own_website_channel",
    "is_digital_channel",
)
BEHAVIOUR: Final = (
    "has_interaction",
    "customer_intent",
    "is_cancellation_intent",
    "is_complaint_intent",
    "recent_complaint_flag",
    "intent_severity_score",
    "last_interaction_days_ago",
    "interaction_within_3m_of_renewal",
    "is_interaction_within_30d_of_renewal",
    "complaint_near_renewal",
    "months_since_last_change",
)
SENTIMENT: Final = ("sentiment_label", "is_negative_sentiment", "complaint_x_negative_sentiment")
COMPOUND: Final = (
    "is_price_sensitive",
    "is_high_risk_lifecycle",
    "is_competition_x_renewal",
    "dual_fuel_x_renewal",
    "dual_fuel_x_competition",
    "dual_fuel_x_intent",
)
CROSSED: Final = {
    "intent_x_renewal_bucket": ("customer_intent", "renewal_bucket"),
    "intent_x_tenure_bucket": ("customer_intent", "tenure_bucket"),
    "intent_x_sentiment": ("customer_intent", "sentiment_label"),
    "sentiment_x_renewal_bucket": ("sentiment_label", "renewal_bucket"),
    "tenure_x_renewal_bucket": ("tenure_bucket", "renewal_bucket"),
    "sales_channel_x_renewal_bucket": ("sales_channel", "renewal_bucket"),
    "has_interaction_x_renewal_bucket": ("has_interaction", "renewal_bucket"),
    "competition_x_intent": ("is_high_competition_province", "customer_intent"),
}
FEATURES: Final = (*LIFECYCLE, *MP_CORE, *MP_RISK, *BEHAVIOUR, *SENTIMENT, *COMPOUND, *CROSSED)
GOLD: Final = (
    "customer_id",
    "churn",
    "avg_monthly_margin",
    "total_margin_2024",
    "contracted_power_kw",
    "is_urban",
    *FEATURES,
)
TEXT_COLUMNS: Final = frozenset(
    {
        *("customer_id", "renewal_bucket", "tenure_bucket", "segment", "sales_channel", "portfolio_type"),
        *("customer_intent", "sentiment_label"),
        *CROSSED,
    }
)
FLOAT_COLUMNS: Final = frozenset(
    {
        *("avg_monthly_margin", "total_margin_2024", "contracted_power_kw", "months_to_renewal"),
        *("tenure_months", "months_since_last_change"),
        *(set(MP_CORE) - {"price_update_count"}),
        *(set(MP_RISK) - {"active_months_count", "max_negative_margin", "is_price_increase"}),
    }
)

_vader = SentimentIntensityAnalyzer()


# ---------------------------------------------------------------------------------------------- raw files


def window(as_of: date) -> tuple[pd.Period, pd.Period]:
    """First and last of the twelve whole calendar months that end on or before `as_of`."""
    last = pd.Period(as_of, "M")
    if last.end_time.date() > as_of:
        last -= 1
    return last - 11, last


def _read_csv(path: Path) -> pd.DataFrame:
    """All columns as text; only an empty field is null."""
    return pd.read_csv(path, dtype=object, keep_default_na=False, na_values=[""])


def _with_id(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["customer_id"].notna() & (rows["customer_id"] != "")].copy()


def _typed(rows: pd.DataFrame, kinds: Mapping[str, str]) -> pd.DataFrame:
    """`customer_id` and the columns of `kinds`, in that order; what does not parse is null."""
    typed = pd.DataFrame({"customer_id": rows["customer_id"].astype("string")})
    for name, kind in kinds.items():
        if kind == "date":
            typed[name] = pd.to_datetime(rows[name], errors="coerce", format="ISO8601")
        elif kind == "text":
            typed[name] = rows[name].astype("string")
        else:
            numbers = pd.to_numeric(rows[name], errors="coerce")
            typed[name] = numbers.astype("Int64") if kind == "integer" else numbers.astype("float64")
    return typed


def _first_in_order(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per customer: the one that sorts first over all columns, nulls last."""
    ordered = rows.sort_values(list(rows.columns), na_position="last", kind="stable")
    return ordered.drop_duplicates("customer_id")


def _attributes(raw: Path) -> pd.DataFrame:
    return _first_in_order(_typed(_with_id(_read_csv(raw / "customer_attributes.csv")), ATTRIBUTES))


def _contracts(raw: Path, as_of: pd.Timestamp) -> pd.DataFrame:
    """The latest start stands, then the row that sorts first; a row that starts after `as_of` is not there yet."""
    rows = _typed(_with_id(_read_csv(raw / "customer_contracts.csv")), CONTRACTS)
    rows = rows[~(rows["contract_start_date"] > as_of).fillna(False)]
    rows = rows.sort_values(list(rows.columns), na_position="last", kind="stable")
    rows = rows.sort_values("contract_start_date", ascending=False, na_position="last", kind="stable")
    rows = rows.drop_duplicates("customer_id")
    for name in ("customer_first_activation_date", "last_product_change_date"):
        rows[name] = rows[name].where(rows[name] <= as_of)
    return rows


def _labels(raw: Path) -> pd.DataFrame:
    """customer_id, churn; null where two labels of one customer disagree. Empty without a label file."""
    path = raw / "churn_label.csv"
    if not path.exists():
        return pd.DataFrame({"customer_id": pd.Series(dtype="string"), "churn": pd.Series(dtype="Int64")})
    rows = _typed(_with_id(_read_csv(path)), {"churn": "integer"}).drop_duplicates()
    conflicting = rows["customer_id"].duplicated(keep=False)
    rows["churn"] = rows["churn"].mask(conflicting)
    return rows.drop_duplicates("customer_id")


def _interactions(raw: Path, as_of: pd.Timestamp) -> pd.DataFrame:
    """customer_id, date, interaction_summary of the latest interaction; on a tie the last text in order."""
    records = json.loads((raw / "customer_interactions.json").read_text(encoding="utf-8"))
    rows = pd.DataFrame(records, columns=["customer_id", "date", "channel", "interaction_summary"])
    rows = _typed(_with_id(rows), {"date": "date", "interaction_summary": "text"})
    rows = rows[rows["date"] <= as_of]
    rows = rows.sort_values(["date", "interaction_summary"], na_position="first", kind="stable")
    return rows.drop_duplicates("customer_id", keep="last")


def customers(raw: Path, as_of: date) -> pd.DataFrame:
    """One row per customer of attributes or labels, with contract, latest interaction and label."""
    day = pd.Timestamp(as_of)
    joined = _attributes(raw).merge(_labels(raw), on="customer_id", how="outer")
    joined = joined.merge(_contracts(raw, day), on="customer_id", how="left")
    joined = joined.merge(_interactions(raw, day), on="customer_id", how="left")
    return joined.sort_values("customer_id", ignore_index=True)


# --------------------------------------------------------------------------------------- customer-months


def tariff_period(timestamp: pd.Timestamp) -> str:
    """The 2.0TD period of a naive local timestamp."""
    if timestamp.dayofweek >= 5 or (timestamp.month, timestamp.day) in FIXED_HOLIDAYS:
        return "tier_3_offpeak"
    hour = timestamp.hour
    if 10 <= hour < 14 or 18 <= hour < 22:
        return "tier_1_peak"
    if 8 <= hour < 10 or 14 <= hour < 18 or 22 <= hour < 24:
        return "tier_2_standard"
    return "tier_3_offpeak"


def _roll_up(raw: Path, as_of: date, known: pd.Series) -> pd.DataFrame:
    """One row per known customer and month of the window that holds at least one hour."""
    first, last = window(as_of)
    readings = ["consumption_elec_kwh", "consumption_gas_m3"]
    hours = _with_id(pd.read_parquet(raw / "consumption_hourly_2024.parquet"))
    hours["customer_id"] = hours["customer_id"].astype("string")
    hours["timestamp"] = pd.to_datetime(hours["timestamp"])
    inside = (hours["timestamp"] >= first.start_time) & (hours["timestamp"] < (last + 1).start_time)
    hours = hours[inside & hours["customer_id"].isin(known)].copy()
    hours[readings] = hours[readings].astype("float64").fillna(0.0).clip(lower=0.0)
    hours = hours.groupby(["customer_id", "timestamp"], as_index=False)[readings].max()

    periods = {stamp: tariff_period(stamp) for stamp in hours["timestamp"].unique()}
    hours["period"] = hours["timestamp"].map(periods)
    hours["month"] = hours["timestamp"].dt.strftime("%Y-%m")
    hours = hours.rename(columns={"consumption_elec_kwh": "elec_kwh", "consumption_gas_m3": "gas_m3"})
    hours["gas_kwh"] = hours["gas_m3"] * KWH_PER_M3
    commodities = ["elec_kwh", "gas_m3", "gas_kwh"]
    key = ["customer_id", "month"]
    months = hours.groupby(key)[commodities].sum().add_prefix("monthly_")
    for tier in TIERS:
        part = hours[hours["period"] == tier].groupby(key)[commodities].sum().add_suffix(f"_{tier}")
        months = months.join(part)
    return months.fillna(0.0).sort_index().reset_index()


def _price_history(raw: Path) -> pd.DataFrame:
    kinds = {"pricing_date": "date", **dict.fromkeys(PRICES, "float")}
    rows = _typed(_with_id(_read_csv(raw / "price_history.csv")), kinds)
    rows["month"] = rows["pricing_date"].dt.strftime("%Y-%m")
    return rows.drop(columns="pricing_date").drop_duplicates()


def _costs(raw: Path) -> pd.DataFrame:
    rows = _read_csv(raw / "costs_by_province_month.csv")
    costs = pd.DataFrame({"province_code": pd.to_numeric(rows["province"], errors="coerce").astype("Int64")})
    costs["month"] = rows["month"]
    for name in COSTS:
        costs[name] = pd.to_numeric(rows[name], errors="coerce").astype("float64")
    return costs[costs["province_code"].notna()].drop_duplicates()


def _impute(months: pd.DataFrame) -> pd.DataFrame:
    """Fills each price where its mask covers the row; keeps the price as it came under raw_<name>."""
    months = months.sort_values(["customer_id", "month"], ignore_index=True)
    masks = {price: months[f"elec_kwh_{tier}"] > 0 for price, tier in zip(TIER_PRICES, TIERS, strict=True)}
    masks["elec_fixed_fee_eur_month"] = months["monthly_elec_kwh"] > 0
    masks["gas_variable_price_eur_m3"] = months["uses_gas"]
    masks["gas_fixed_revenue_eur_year"] = months["uses_gas"]
    for name, covered in masks.items():
        given = months[name].where(months[name] != 0)
        months[f"raw_{name}"] = given
        of_customer = given.groupby(months["customer_id"])
        filled = given.where(given.notna() | ~covered, of_customer.ffill())
        filled = filled.where(filled.notna() | ~covered, of_customer.bfill())
        for keys in (["is_industrial", "month"], ["month"]):
            grouped = filled.where(covered).groupby([months[key] for key in keys])
            filled = filled.where(filled.notna() | ~covered, grouped.transform("median"))
        months[name] = filled
    return months


def _profit_and_loss(months: pd.DataFrame) -> pd.DataFrame:
    """A missing price or cost is 0; a side is 0 for customers that do not use its commodity."""
    months = months.copy()
    value = {name: months[name].fillna(0.0) for name in (*PRICES, *COSTS)}
    kwh, gas = months["monthly_elec_kwh"], months["monthly_gas_m3"]
    sold = pd.Series(0.0, index=months.index)
    for tier, price in zip(TIERS, TIER_PRICES, strict=True):
        sold = sold + months[f"elec_kwh_{tier}"] * value[price]
    sides = {
        "elec_revenue_variable": sold,
        "elec_revenue_fixed": value["elec_fixed_fee_eur_month"],
        "elec_cost_variable": kwh * (value["elec_var_cost_eur_kwh"] + value["peaje_elec_eur_kwh"]),
        "elec_cost_fixed": value["elec_fixed_cost_eur_month"],
        "gas_revenue_variable": gas * value["gas_variable_price_eur_m3"],
        "gas_revenue_fixed": value["gas_fixed_revenue_eur_year"] / 12,
        "gas_cost_variable": gas * value["gas_var_cost_eur_m3"],
        "gas_cost_fixed": value["gas_fixed_cost_eur_year"] / 12,
    }
    for name, amount in sides.items():
        used = months["uses_elec"] if name.startswith("elec") else months["uses_gas"]
        months[name] = amount.where(used, 0.0)
    for fuel in ("elec", "gas"):
        months[f"{fuel}_margin"] = (
            months[f"{fuel}_revenue_variable"]
            + months[f"{fuel}_revenue_fixed"]
            - months[f"{fuel}_cost_variable"]
            - months[f"{fuel}_cost_fixed"]
        )
    for total in ("revenue", "cost"):
        parts = [f"{fuel}_{total}_{part}" for fuel in ("elec", "gas") for part in ("variable", "fixed")]
        months[f"total_{total}"] = months[parts].sum(axis=1)
    months["total_margin"] = months["elec_margin"] + months["gas_margin"]
    return months


def _customer_months(raw: Path, as_of: date, people: pd.DataFrame) -> pd.DataFrame:
    months = _roll_up(raw, as_of, people["customer_id"])
    months = months.merge(
        people[["customer_id", "is_industrial", "province_code"]],
        on="customer_id",
        how="left",
        validate="many_to_one",
    )
    months = months.merge(_price_history(raw), on=["customer_id", "month"], how="left", validate="one_to_one")
    months = months.merge(_costs(raw), on=["province_code", "month"], how="left", validate="many_to_one")
    of_customer = months.groupby("customer_id")
    months["uses_elec"] = of_customer["monthly_elec_kwh"].transform("sum") > 0
    months["uses_gas"] = of_customer["monthly_gas_m3"].transform("sum") > 0
    return _profit_and_loss(_impute(months))


def silver_customer_month(raw: Path, as_of: date) -> pd.DataFrame:
    """The customer-months of the window, sorted by customer_id and month ("YYYY-MM").

    Holds the twelve roll-up columns, the imputed prices under their source names (raw_<name>: before the
    imputation, zeros missing), the province's costs and the thirteen profit-and-loss columns.
    """
    return _customer_months(raw, as_of, customers(raw, as_of))


# ---------------------------------------------------------------------------------------- text of a contact


def _occurs(keyword: str, clause: str) -> bool:
    """Whether the keyword stands in the clause as whole words and at least once without a negator."""
    pattern = r"(?<!\w)" + r"\s+".join(map(re.escape, keyword.split())) + r"(?!\w)"
    for found in re.finditer(pattern, clause):
        before = _WORD.findall(clause[: found.start()])[-NEGATOR_REACH:]
        if keyword in EXEMPT_FROM_NEGATION or NEGATORS.isdisjoint(before):
            return True
    return False


def intent(text: str | None) -> str | None:
    """The first intent family with a keyword that no negator cancels; null without text."""
    if text is None or not text.strip():
        return None
    clauses = _CLAUSE_END.split(text.lower())
    for name, keywords in INTENTS:
        if any(_occurs(keyword, clause) for keyword in keywords for clause in clauses):
            return name
    return NO_INTENT


def sentiment(text: str | None) -> str | None:
    """positive from a compound of 0.4, negative down from -0.2, else neutral; null without text."""
    if text is None or not text.strip():
        return None
    compound = _vader.polarity_scores(text)["compound"]
    if compound >= POSITIVE_FROM:
        return "positive"
    return "negative" if compound <= NEGATIVE_TO else "neutral"


# ------------------------------------------------------------------------------------------------ features


def _segment(row: Mapping[str, Any]) -> str | None:
    if row["is_industrial"] is None:
        return None
    if row["is_industrial"] == 0:
        return "Residential"
    if row["contracted_power_kw"] is None:
        return None
    return "SME" if row["contracted_power_kw"] <= 10 else "Corporate"


def _elapsed(start: pd.Timestamp | None, end: pd.Timestamp | None) -> float | None:
    """Months of 30 days from start to end; null where either is."""
    return None if start is None or end is None else (end - start).days / DAYS_PER_MONTH


def renewal_bucket(months: float | None) -> str | None:
    """(-inf,0] expired, (0,3] 0-3m, (3,6] 3-6m, (6,12] 6-12m, (12,inf) 12m+."""
    if months is None:
        return None
    edges = ((0, "expired"), (3, "0-3m"), (6, "3-6m"), (12, "6-12m"))
    return next((label for edge, label in edges if months <= edge), "12m+")


def tenure_bucket(months: float | None) -> str | None:
    """[0,6] 0-6m, (6,12] 6-12m, (12,24] 1-2y, (24,60] 2-5y, (60,inf) 5y+."""
    if months is None:
        return None
    edges = ((6, "0-6m"), (12, "6-12m"), (24, "1-2y"), (60, "2-5y"))
    return next((label for edge, label in edges if months <= edge), "5y+")


def _channel(value: str | None) -> str:
    return "Unknown" if value is None else CHANNELS.get(value.strip().casefold(), "Unknown")


def _flag(condition: bool) -> int:
    return int(bool(condition))


def _lifecycle(row: Mapping[str, Any], as_of: pd.Timestamp, dual_fuel: bool) -> dict[str, Any]:
    to_renewal = _elapsed(as_of, row["next_renewal_date"])
    tenure = _elapsed(row["customer_first_activation_date"], as_of)
    segment, channel = _segment(row), _channel(row["sales_channel"])
    fuel = "_DualFuel" if dual_fuel else "_SingleFuel"
    return {
        "months_to_renewal": to_renewal,
        "renewal_bucket": renewal_bucket(to_renewal),
        "is_within_3m_of_renewal": _flag(to_renewal is not None and 0 <= to_renewal <= 3),
        "tenure_months": tenure,
        "tenure_bucket": tenure_bucket(tenure),
        "is_expired_contract": _flag(renewal_bucket(to_renewal) == "expired"),
        "segment": segment,
        "sales_channel": channel,
        "is_high_competition_province": row["is_high_competition_province"] or 0,
        "is_second_residence": row["is_second_residence"] or 0,
        "is_dual_fuel": _flag(dual_fuel),
        "portfolio_type": None if segment is None else segment + fuel,
        "is_comparison_channel": _flag(channel == "Comparison Website"),
        "is_own_website_channel": _flag(channel == "Own Website"),
        "is_digital_channel": _flag(channel in ("Comparison Website", "Own Website")),
    }


def _trend(prices: pd.Series) -> float | None:
    """(last - first) / first over the prices that exist; null without two."""
    known = prices.dropna()
    return None if len(known) < 2 else (known.iloc[-1] - known.iloc[0]) / known.iloc[0]


def _province_trend(costs: pd.Series) -> float | None:
    first, last = costs.iloc[0], costs.iloc[-1]
    return None if pd.isna(first) or pd.isna(last) or first == 0 else (last - first) / first


def _market(months: pd.DataFrame) -> dict[str, Any]:
    """MP_CORE, MP_RISK and the margins of one customer from its months in order; null without a month."""
    if months.empty:
        nothing = dict.fromkeys((*MP_CORE, *MP_RISK, "avg_monthly_margin", "total_margin_2024"))
        return {**nothing, "active_months_count": 0, "is_price_increase": 0}
    margin, revenue = months["total_margin"], months["total_revenue"].sum()
    gas_revenue = (months["gas_revenue_variable"] + months["gas_revenue_fixed"]).sum()
    price = months[f"raw_{TIER_PRICES[0]}"]
    known, province_cost = price.dropna(), months["elec_var_cost_eur_kwh"]
    trend = _trend(price)
    uses_gas = bool(months["uses_gas"].iloc[0])
    return {
        "avg_monthly_elec_kwh": months["monthly_elec_kwh"].mean(),
        "total_elec_kwh_2024": months["monthly_elec_kwh"].sum(),
        "avg_monthly_gas_m3": months["monthly_gas_m3"].mean(),
        "total_gas_m3_2024": months["monthly_gas_m3"].sum(),
        "gas_share_of_revenue": gas_revenue / revenue if revenue > 0 else 0.0,
        "price_update_count": int((price.diff().abs() > PRICE_MOVE_EUR_KWH).sum()),
        "province_avg_elec_cost_2024": province_cost.mean(),
        "province_avg_gas_cost_2024": months["gas_var_cost_eur_m3"].mean(),
        "std_monthly_elec_kwh": months["monthly_elec_kwh"].std(ddof=1),
        "std_monthly_gas_m3": months["monthly_gas_m3"].std(ddof=1),
        "std_margin": margin.std(ddof=1),
        "active_months_count": len(months),
        "min_monthly_margin": margin.min(),
        "max_negative_margin": int((margin < 0).sum()),
        "elec_price_trend_12m": trend,
        "gas_price_trend_12m": _trend(months["raw_gas_variable_price_eur_m3"]) if uses_gas else None,
        "elec_price_volatility_12m": price.std(ddof=1),
        "province_elec_cost_trend": _province_trend(province_cost),
        "elec_price_vs_province_cost_spread": (
            None if known.empty else known.iloc[-1] - province_cost.mean()
        ),
        "is_price_increase": _flag(trend is not None and trend > 0),
        "rolling_margin_trend": (
            margin.iloc[-3:].mean() - margin.iloc[-6:-3].mean() if len(months) >= 6 else None
        ),
        "avg_monthly_margin": margin.mean(),
        "total_margin_2024": margin.sum(),
    }


def _behaviour(row: Mapping[str, Any], as_of: pd.Timestamp) -> dict[str, Any]:
    contacted, text = row["date"], row["interaction_summary"]
    subject, mood = intent(text), sentiment(text)
    ahead = _elapsed(contacted, row["next_renewal_date"])
    complaint = subject in (CANCELLATION, COMPLAINT)
    near_3m = ahead is not None and 0 <= ahead <= 3
    return {
        "has_interaction": _flag(contacted is not None),
        "customer_intent": subject,
        "is_cancellation_intent": _flag(subject == CANCELLATION),
        "is_complaint_intent": _flag(subject == COMPLAINT),
        "recent_complaint_flag": _flag(complaint),
        "intent_severity_score": {CANCELLATION: 3, COMPLAINT: 2, PRICING: 1}.get(subject or "", 0),
        "last_interaction_days_ago": None if contacted is None else (as_of - contacted).days,
        "interaction_within_3m_of_renewal": _flag(near_3m),
        "is_interaction_within_30d_of_renewal": _flag(ahead is not None and 0 <= ahead <= 1),
        "complaint_near_renewal": _flag(complaint and near_3m),
        "months_since_last_change": _elapsed(row["last_product_change_date"], as_of),
        "sentiment_label": mood,
        "is_negative_sentiment": _flag(mood == "negative"),
        "complaint_x_negative_sentiment": _flag(complaint and mood == "negative"),
    }


def _compound(features: Mapping[str, Any]) -> dict[str, Any]:
    near, dual = features["is_within_3m_of_renewal"] == 1, features["is_dual_fuel"] == 1
    competition = features["is_high_competition_province"] == 1
    flags = {
        "is_price_sensitive": _flag(features["customer_intent"] == PRICING),
        "is_high_risk_lifecycle": _flag(
            features["renewal_bucket"] in ("expired", "0-3m")
            and features["tenure_bucket"] in ("0-6m", "6-12m")
        ),
        "is_competition_x_renewal": _flag(competition and near),
        "dual_fuel_x_renewal": _flag(dual and near),
        "dual_fuel_x_competition": _flag(dual and competition),
        "dual_fuel_x_intent": _flag(dual and features["customer_intent"] in (CANCELLATION, COMPLAINT)),
    }
    parts = {name: "none" if value is None else str(value) for name, value in features.items()}
    return flags | {name: f"{parts[a]}_x_{parts[b]}" for name, (a, b) in CROSSED.items()}


def gold(raw: Path, as_of: date) -> pd.DataFrame:
    """gold_master of a raw folder as of one date, sorted by customer_id.

    Text columns are "string", flags, counts and churn "Int64", all other numbers float64 with NaN for null.
    """
    day = pd.Timestamp(as_of)
    people = customers(raw, as_of)
    months = _customer_months(raw, as_of, people)
    months_of = {str(name): group for name, group in months.groupby("customer_id")}
    rows = []
    for record in people.to_dict("records"):
        row = {str(name): None if pd.isna(value) else value for name, value in record.items()}
        mine = months_of.get(str(row["customer_id"]), months.iloc[:0])
        dual_fuel = not mine.empty and bool(mine["uses_elec"].iloc[0] and mine["uses_gas"].iloc[0])
        carried = {name: row[name] for name in ("customer_id", "churn", "contracted_power_kw")}
        carried["is_urban"] = row["is_urban"] or 0
        features = carried | _lifecycle(row, day, dual_fuel) | _market(mine) | _behaviour(row, day)
        rows.append(features | _compound(features))
    table = pd.DataFrame(rows, columns=list(GOLD), dtype=object)
    for name in GOLD:
        if name in TEXT_COLUMNS:
            table[name] = table[name].astype("string")
        elif name in FLOAT_COLUMNS:
            table[name] = table[name].map(lambda value: np.nan if value is None else value).astype("float64")
        else:
            table[name] = table[name].astype("Int64")
    return table
