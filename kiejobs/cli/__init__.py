"""The command line: one file per group of commands, each importing what it needs only when it runs.

`render` is the only writer of tables and JSON, `environment` the only place that hands the environment on to child
processes, `processes` the only one that starts and ends them. Nothing here imports `workers`: they are started as
programs.
"""


def main() -> None:
    """Run the command line and leave the process with its exit code."""
    from kiejobs.cli.app import app

    app(prog_name="kiejobs")
