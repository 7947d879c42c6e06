"""Print the versions, threads and devices found, and which kernels would run."""

import argparse

NAME = "info"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take no arguments."""


def run(args: argparse.Namespace) -> int:
    """Print the configuration."""
    import linalg_ml

    linalg_ml.show_config()
    return 0
