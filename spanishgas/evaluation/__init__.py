"""What a model is worth: metrics, intervals, value, explanations, and the rule that chooses."""
