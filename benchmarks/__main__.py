"""`python -m benchmarks`: every benchmark in turn."""

from benchmarks import gate_seeds

if __name__ == "__main__":
    gate_seeds.main()
