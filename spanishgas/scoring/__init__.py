"""Scores by the champion, and what to do about them."""
