#!/usr/bin/env python
"""Launcher: reads the configuration once, and starts a script in as many processes as the run needs.

``deepy.py train.py [-d DIR] a.yml b.yml [key=value ...] [--dry-run]``, or, to start nothing and see every problem,
``deepy.py --check a.yml b.yml [key=value ...]``. The keys are in ``docs/configuration.md``. What a run would take, and
which layout is the fastest, say ``deepy.py --simulate`` and ``deepy.py --suggest`` (``docs/simulation.md``).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from megatron.config.check import check_run
from megatron.config.cli import EXIT_BAD_CONFIG, add_config_arguments, load_arguments
from megatron.config.describe import describe
from megatron.config.layout import Layout
from megatron.config.load import resolved_name, write_resolved
from megatron.config.schema import Config
from megatron.data.check import check_data
from megatron.data.planning.plan import run_size
from megatron.launch.local import run, this_machine
from megatron.launch.plan import machine_problems, num_processes, plan_local
from megatron.optim.schedule import schedule_from
from megatron.simulate.cli import add_simulation_arguments, simulate
from megatron.utils.log import setup_logging


def main() -> int:
    """Parse the command line, and check or launch; return the exit code."""
    parser = argparse.ArgumentParser(description="Start a script on this machine, or check its configuration.")
    add_config_arguments(parser, first="script.py to start (none with --check), ")
    parser.add_argument("--check", action="store_true", help="start nothing: print the resolved run and every problem")
    parser.add_argument("--dry-run", action="store_true", help="start nothing: print the command")
    add_simulation_arguments(parser)
    options = parser.parse_intermixed_args()
    scripts = [argument for argument in options.arguments if argument.endswith(".py") and "=" not in argument]
    settings = [argument for argument in options.arguments if argument not in scripts]
    if not settings or len(scripts) > 1 or not (scripts or options.check or options.simulate or options.suggest):
        parser.error("give at least one YAML file, and one script.py or one of --check, --simulate and --suggest")
    if scripts and not Path(scripts[0]).is_file():
        parser.error(f"{scripts[0]}: there is no such script")
    setup_logging()
    config = load_arguments(settings, conf_dir=options.conf_dir)
    if options.check:
        return check(config)
    if options.simulate or options.suggest:
        return simulate(config, options, processes=num_processes(config.launch, this_machine(os.environ)))
    # Without a folder of its own the run's configuration stays in the system's temporary one, for the run to read.
    scratch = tempfile.mkdtemp(prefix="emma-neox-") if not (config.checkpoint.save or options.dry_run) else "temporary"
    folder = Path(config.checkpoint.save or scratch) / "configs"
    return launch(config, Path(scripts[0]), folder / resolved_name(config), dry_run=options.dry_run)


def check(config: Config) -> int:
    """Print what the run amounts to, and every problem."""
    machine = this_machine(os.environ)
    processes = num_processes(config.launch, machine)
    rate = schedule_from(config.schedule, peak=config.optimizer.learning_rate, train_iters=config.train.train_iters)
    problems = check_run(config, processes=processes)
    data_parallel_size, size = processes, None
    try:
        data_parallel_size = Layout.of(config.parallel, processes=processes).data
        size = run_size(config.data, config.batch, config.train, processes=data_parallel_size)
    except ValueError:
        pass  # check_run has said why
    problems += check_data(config.data, config.tokenizer, run=size)
    problems += machine_problems(config.launch, config.parallel, machine)
    text = describe(config, learning_rate=rate, data_parallel_size=data_parallel_size)
    lines = ["problems:", *(f"  - {problem}" for problem in problems)] if problems else ["no problems"]
    sys.stdout.write("\n".join([text, "", *lines, ""]))
    return EXIT_BAD_CONFIG if problems else 0


def launch(config: Config, script: Path, resolved: Path, *, dry_run: bool) -> int:
    """Write the resolved configuration and run the script on it."""
    try:
        plan = plan_local(
            config.launch, config.parallel, script=script, config_path=resolved,
            machine=this_machine(os.environ), environment=os.environ,
        )
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_BAD_CONFIG
    if script.name == "train.py" and (problems := check_run(config, processes=plan.world_size)):
        sys.stderr.write("\n".join([f"{script} cannot start:", *(f"  - {problem}" for problem in problems), ""]))
        return EXIT_BAD_CONFIG
    if dry_run:
        sys.stdout.write(f"{plan}\n")
        return 0
    write_resolved(config, resolved)
    return run(plan, environment=os.environ)


if __name__ == "__main__":
    sys.exit(main())
