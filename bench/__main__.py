"""`python -m bench [--only NAME]`: takes the measurements and writes them to build/bench and BENCHMARKS.md."""

import argparse
import importlib

# Modules of this package with a `main()`.
NAMES = (
    "kernel",
    "peers",
    "train",
    "mixing",
    "promo",
    "warm",
    "score",
    "batch_size",
    "lookup",
    "warehouse",
    "evaluate",
    "calibrator_level",
    "self_test",
    "recovery",
)


def main():
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", choices=NAMES, help="one benchmark instead of all")
    only = parser.parse_args().only
    for name in [only] if only else NAMES:
        importlib.import_module(f"bench.{name}").main()


if __name__ == "__main__":
    main()
