"""Raw files to bronze, silver and gold, through Ibis."""
