"""Churn of an energy utility's customers: raw readings in, champion, scores and drift out."""
