"""A table of customers from elsewhere: columns recognised, an experiments folder proposed, gold published.

reading.py     the table as it is in its file: CSV, Parquet or Excel
columns.py     what each column holds, and whether it may be a feature
target.py      who left, and columns that know it already
proposal.py    the experiments folder: table.yaml, tiers.yaml, E0.yaml ..., search.yaml, policy.yaml
gold.py        the table as gold under the contract of that folder
adoption.py    all of it, as an MLflow run
"""
