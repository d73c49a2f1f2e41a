"""What is tried and decided, read strictly from experiments/.

reading.py      one strict reader for every file
tiers.py        the data dictionary (tiers.yaml)
experiment.py   the rungs of the ladder (E0.yaml ...)
search.py       models and their search spaces (search.yaml)
policy.py       holdout, gate, threshold, offers, drift (policy.yaml)
"""
