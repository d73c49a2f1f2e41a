"""What `make bench` runs: the project's figures beside their limits, each made by a command that anyone can run."""
