#!/usr/bin/env python
"""Launcher: reads the configuration once, and starts a script in as many processes as the run needs.

``deepy.py train.py [-d DIR] a.yml b.yml [key=value ...] [--submit] [--dry-run]``, or, to start nothing and see every
problem, ``deepy.py --check a.yml b.yml [key=value ...]``. The keys are in ``docs/configuration.md``, ways to start
processes in ``docs/clusters.md``. What a run would take, and which layout is the fastest, say ``deepy.py --simulate``
and ``deepy.py --suggest`` (``docs/simulation.md``).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from megatron.config.check import check_run
from megatron.config.cli import add_config_arguments, load_arguments
from megatron.config.describe import describe
from megatron.config.layout import Layout
from megatron.config.load import resolved_name, write_resolved
from megatron.config.schema import Config
from megatron.data.check import check_data
from megatron.data.new_tokens import new_tokens_line
from megatron.data.planning.plan import run_size
from megatron.launch.local import this_machine
from megatron.launch.plan import Program, machine_problems, num_processes
from megatron.launch.slurm import job_script
from megatron.launch.start import plan_launch, run_launch, submit
from megatron.optim.schedule import new_token_rates, schedule_from
from megatron.simulate.budget import budget_problems, budget_text
from megatron.simulate.cli import add_simulation_arguments, simulate
from megatron.utils.files import write_text
from megatron.utils.log import setup_logging
from megatron.utils.status import EXIT_MISTAKE


def main() -> int:
    """Parse the command line, and check or launch; return the exit code."""
    parser = argparse.ArgumentParser(description="Start all processes of a run, or check its configuration.")
    add_config_arguments(parser, first="script.py to start (none with --check), ")
    parser.add_argument("--check", action="store_true", help="start nothing: print the resolved run and every problem")
    parser.add_argument("--dry-run", action="store_true", help="start nothing: print the command, or the job's script")
    parser.add_argument("--submit", action="store_true", help="hand a job to Slurm that does it, and comes back")
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
        processes = num_processes(config.launch, this_machine(os.environ)) * (config.launch.num_nodes or 1)
        return simulate(config, options, processes=processes)
    return launch(config, Path(scripts[0]), options)


def check(config: Config) -> int:
    """Print what the run amounts to, and every problem."""
    machine = this_machine(os.environ)
    processes = num_processes(config.launch, machine) * (config.launch.num_nodes or 1)
    rate = schedule_from(config.schedule, peak=config.optimizer.learning_rate, train_iters=config.train.train_iters)
    problems = [*check_run(config, processes=processes), *budget_problems(config, processes=processes)]
    data_parallel_size, size = processes, None
    try:
        data_parallel_size = Layout.of(config.parallel, processes=processes).data
        size = run_size(config.data, config.batch, config.train, processes=data_parallel_size)
    except ValueError:
        pass  # check_run has said why
    problems += check_data(
        config.data, config.tokenizer, run=size, model=config.model, new_tokens=config.new_tokens
    )
    problems += machine_problems(config.launch, config.parallel, machine)
    new_tokens = new_token_rates(config.new_tokens, rate)
    text = describe(
        config, learning_rate=rate, data_parallel_size=data_parallel_size, new_tokens=new_tokens,
        recomputation=budget_text(config, processes=processes),
    )  # fmt: skip
    if line := new_tokens_line(config.new_tokens, config.tokenizer):
        text += f"\n\n{line}"
    lines = ["problems:", *(f"  - {problem}" for problem in problems)] if problems else ["no problems"]
    sys.stdout.write("\n".join([text, "", *lines, ""]))
    return EXIT_MISTAKE if problems else 0


def launch(config: Config, script: Path, options: argparse.Namespace) -> int:
    """Write the resolved configuration and run the script on it, here or in a job of Slurm."""
    # Without a folder of its own the run's configuration stays in the system's temporary one, for the run to read.
    scratch = "temporary" if config.checkpoint.save or options.dry_run else tempfile.mkdtemp(prefix="emma-neox-")
    folder = Path(config.checkpoint.save or scratch)
    resolved = folder / "configs" / resolved_name(config)
    try:
        if options.submit:
            return submit_job(config, script, folder.absolute(), dry_run=options.dry_run)
        planned = plan_launch(
            config.launch, config.parallel, Program(script, resolved),
            machine=this_machine(os.environ), environment=os.environ, working_directory=Path.cwd(),
        )
        first = next(iter(planned.values()))
        check_world(config, script, first.world_size)
    except ValueError as error:
        sys.stderr.write(f"{script} cannot start:\n{error}\n")
        return EXIT_MISTAKE
    if options.dry_run:
        sys.stdout.writelines(f"{plan}\n" for plan in planned.values())
        return 0
    if first.world_size > 1:
        sys.stderr.write(f"{first.summary}\n")
    write_resolved(config, resolved)
    return run_launch(planned, environment=os.environ)


def submit_job(config: Config, script: Path, folder: Path, *, dry_run: bool) -> int:
    """Write the job's script beside the resolved configuration, and hand it to Slurm."""
    if config.checkpoint.save is None:
        raise ValueError("save is not set: a job that comes back needs a folder to go on from")
    if config.launch.launcher not in ("auto", "slurm"):
        raise ValueError(f"launcher is {config.launch.launcher}, and --submit is Slurm's: leave launcher out")
    resolved = folder / "configs" / resolved_name(config)
    name = folder.name
    text = job_script(
        config.launch, config.parallel, Program(script.absolute(), resolved),
        folder=folder, name=name, working_directory=Path.cwd(), environment=os.environ,
    )
    check_world(config, script, (config.launch.num_nodes or 1) * (config.launch.num_gpus or 1))
    if dry_run:
        sys.stdout.write(text)
        return 0
    write_resolved(config, resolved)
    path = folder / "slurm" / "job.sh"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    sys.stdout.write(f"{submit(path)}; its lines go to {path.parent}\n")
    return 0


def check_world(config: Config, script: Path, world_size: int) -> None:
    """Refuse a run that its number of processes does not fit.

    Raises:
        ValueError: lists every problem.
    """
    if script.name != "train.py":
        return
    if problems := [*check_run(config, processes=world_size), *budget_problems(config, processes=world_size)]:
        raise ValueError("\n".join(f"  - {problem}" for problem in problems))


if __name__ == "__main__":
    sys.exit(main())
