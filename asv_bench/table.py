"""Run the asv suite once on the working tree and print one table.

Each benchmark runs a single time (asv's ``--quick``): enough to see that all of them work and what they cost
to within a factor of two. Needs neither a network nor a commit, writes nothing, and exits with 1 if a
benchmark fails. For numbers to compare, use asv itself: see README.md.
"""

import argparse
import itertools
import os
import sys
from pathlib import Path

from asv.benchmarks import Benchmarks
from asv.config import Config
from asv.environment import ExistingEnvironment
from asv.repo import NoRepository
from asv.runner import run_benchmarks
from asv.util import ProcessError, UserError, human_value

HERE = Path(__file__).resolve().parent


def main():
    options = arguments()
    use_working_tree()
    config = Config.load("asv.conf.json")
    environment = ExistingEnvironment(config, "same", {}, {})
    try:
        suite = Benchmarks.discover(config, NoRepository(), [environment], [None], regex=options.bench)
    except (UserError, ProcessError) as error:
        sys.exit(f"the suite does not import: {error}")
    if not suite:
        sys.exit("no benchmark of that name")
    return print_table(suite, environment)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", metavar="REGEX", action="append", help="only benchmarks that match")
    return parser.parse_args()


def use_working_tree():
    """Let the processes that asv starts import this tree, whether another copy is installed or not."""
    os.chdir(HERE)  # paths in the configuration are relative to it
    for name in (
        "ASV_PYTHONPATH",
        "PYTHONPATH",
    ):  # for asv's process, and for the fresh ones that time an import
        os.environ[name] = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get(name)])])


def print_table(suite, environment):
    """Print each benchmark as soon as it has run, then what the failed ones said; return the exit code."""
    rows = {name: [describe(benchmark, case) for case in cases(benchmark)] for name, benchmark in suite.items()}
    widths = max(map(len, rows), default=0), max(map(len, itertools.chain(*rows.values())), default=0)
    errors = {}
    print(f"{'benchmark':{widths[0]}}  {'parameters':{widths[1]}}  value")
    for name, benchmark in suite.items():
        results = run_benchmarks(suite.filter_out(set(suite) - {name}), environment, quick=True)
        values = results.get_result_value(name, benchmark["params"])
        for text, value in zip(rows[name], values, strict=True):
            if value == value:  # what --bench left out is NaN
                print(f"{name:{widths[0]}}  {text:{widths[1]}}  {show(value, benchmark['unit'])}", flush=True)
        if results.errcode.get(name):
            errors[name] = results.stderr.get(name, "")
    for name, said in errors.items():
        print(f"\n{name} failed\n{said}", file=sys.stderr)
    return 1 if errors else 0


def cases(benchmark):
    return itertools.product(*benchmark["params"])


def describe(benchmark, case):
    """Return what the case stands for, ``operator=SRHT, n_sketch=64``."""
    pairs = zip(benchmark["param_names"], case, strict=bool(case))
    return ", ".join(name + "=" + value.strip("'") for name, value in pairs)


def show(value, unit):
    if value is None or unit in ("seconds", "bytes"):
        return human_value(value, unit)
    return f"{value:.3g} {unit}"


if __name__ == "__main__":
    sys.exit(main())
