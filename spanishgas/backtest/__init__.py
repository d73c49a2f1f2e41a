"""The time machine: the whole lifecycle over a lake's extracts again, each step knowing only what was known then."""
