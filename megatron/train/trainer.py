"""A training run from start, or from its last checkpoint, to its end."""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from megatron.checkpoint.blocks import DamagedError
from megatron.checkpoint.restore import load
from megatron.checkpoint.storage import LocalStorage, Storage, open_storage
from megatron.checkpoint.store import CheckpointStore, checkpoint_names, find_checkpoint, read_state
from megatron.config.compare import changed_settings
from megatron.config.derive import derive_batch
from megatron.config.layout import Layout
from megatron.config.load import dump, resolved_name
from megatron.config.recomputation import modes_text
from megatron.config.schema import Config
from megatron.data.mixture import Row, RunSize
from megatron.data.new_tokens import extension_folders
from megatron.data.planning.plan_groups import source_phases
from megatron.monitor.record import MetricsWriter, read_metrics
from megatron.optim.adamw import build_adamw
from megatron.optim.schedule import schedule_from
from megatron.parallel.engine import Engine
from megatron.parallel.float8 import check_float8
from megatron.parallel.mesh import Mesh
from megatron.parallel.parallelize import Execution
from megatron.parallel.precision import compute_dtype
from megatron.parallel.process import Peers, World
from megatron.simulate.budget import recomputation_of
from megatron.train.batches import Batches
from megatron.train.build import build_data, build_model, carried_files, check_tokenizer, open_metrics
from megatron.train.faults import REWIND, FaultError, Faults
from megatron.train.identity import check_same_run, run_identity
from megatron.train.new_tokens import build_new_tokens
from megatron.train.profiling import StepProfiler
from megatron.train.saving import Saver
from megatron.train.step import TrainStep
from megatron.train.step_record import LossGroups, StepRecord
from megatron.train.stop import StopRequests
from megatron.train.validation import Validation
from megatron.train.watchdog import Watchdog, left_stacks
from megatron.utils.log import get_logger, progress

logger = get_logger(__name__)

STOPPED = "stopped"
"""What the reason begins with for which a run has ended with steps to go: the same command goes on."""


class Trainer:
    """Holds the whole configuration and all parts of a run.

    Args:
        config: the resolved configuration.
        world: the processes of the run.
        peers: the same, for small objects; made when absent.
        requests: to stop, which the caller has entered; when absent, signals are not heard.

    Raises:
        ValueError: configuration, data, weights and checkpoint do not fit together.
    """

    def __init__(
        self, config: Config, world: World, *, peers: Peers | None = None, requests: StopRequests | None = None
    ) -> None:
        self.config, self.world = config, world
        if config.train.fp8 is not None:
            check_float8(world.device)
        self.folder = Path(config.checkpoint.save or ".")
        layout = Layout.of(config.parallel, processes=world.size)
        self.batch = derive_batch(config.batch, data_parallel_size=layout.data)
        self.data = build_data(
            config.data,
            config.evaluation,
            config.tokenizer,
            run=RunSize(config.data.seq_length, self.batch.global_size, config.train.train_iters),
            seed=config.train.seed,
            show_progress=world.is_main,
        )
        check_tokenizer(config.tokenizer, config.model, self.data.manifest)
        execution = Execution(
            dtype=compute_dtype(config.train.precision),
            recomputation=recomputation_of(
                config, processes=world.size, vocab_size=self.data.manifest.tokenizer.vocab_size
            ),
            compiled=config.train.compile,
            float8=config.train.fp8,
        )
        if isinstance(execution.recomputation, tuple):
            logger.info("recomputation: %s", modes_text(execution.recomputation))
        self.mesh = Mesh(layout, world)
        stages = build_model(
            config.model,
            vocab_size=self.data.manifest.tokenizer.vocab_size,
            seed=config.train.seed,
            mesh=self.mesh,
            execution=execution,
            seq_length=config.data.seq_length,
        )
        self.engine = Engine(
            stages,
            self.mesh,
            execution=execution,
            shape=(self.batch.micro_size, config.data.seq_length // layout.context),
            micro_batches=self.batch.accumulation_steps,
        )
        self.model = self.engine.model
        self.optimizer = build_adamw(
            self.model,
            learning_rate=config.optimizer.learning_rate,
            betas=config.optimizer.betas,
            eps=config.optimizer.eps,
            weight_decay=config.optimizer.weight_decay,
        )
        self.loss_groups = LossGroups(self.data.mixture)
        schedule = schedule_from(
            config.schedule, peak=config.optimizer.learning_rate, train_iters=config.train.train_iters
        )
        self.new_tokens = build_new_tokens(
            config.new_tokens, self.data.manifest.tokenizer, self.engine, self.optimizer, schedule,
            beside=extension_folders(config.tokenizer, config.model),
        )  # fmt: skip
        self.train_step = TrainStep(
            engine=self.engine,
            optimizer=self.optimizer,
            learning_rate=schedule,
            max_gradient_norm=config.optimizer.gradient_clipping,
            num_groups=len(self.loss_groups.names),
            new_tokens=self.new_tokens,
        )
        self.identity = run_identity(self.data, self.model.architecture, seed=config.train.seed)
        self.peers = peers or Peers(world)
        self.record = StepRecord(
            config, self.model.architecture, world=world, peers=self.peers, groups=self.loss_groups
        )
        self.store = CheckpointStore(
            open_storage(config.checkpoint.checkpoint_url or self.folder),
            peers=self.peers,
            keep_last=config.checkpoint.keep_last_n_checkpoints,
            is_kept=self._is_kept,
            in_background=config.checkpoint.async_checkpoint,
        )
        self.metrics: MetricsWriter | None = None
        self.saver = Saver(
            self.store, config.checkpoint, write=self._write, record=self._record_checkpoint
        )
        self.faults = Faults(
            # Their own messages: a thread may be writing a checkpoint at the same time.
            config.survival, batch=self.batch, mesh=self.mesh, peers=Peers(world), describe=self._corpora_of,
            write=self._write, newest=self._newest_name,
        )  # fmt: skip
        self.stop_requests = requests or StopRequests(config.survival, ends_at=world.ends_at)
        self.profiler = StepProfiler(
            config.logging, rank=world.rank, folder=self.folder / "profile", device=world.device
        )
        self.watchdog = Watchdog(self.folder / "stacks", rank=world.rank, minutes=config.survival.hang_minutes)
        self.step, self.samples = 0, 0
        self._told_at: int | None = None  # the step of the last `new_tokens` event
        self.resumed_from = self._load()
        self.validation = Validation(
            config.evaluation, self.data.held_out, self.data.mixture, earlier=self._earlier_validations(),
            write=self._write,
        )  # fmt: skip

    def _load(self) -> int | None:
        """Take up this run's newest checkpoint, else that of ``load``; return the step that this run resumes from."""
        if self._load_newest():
            return self.step
        section = self.config.checkpoint
        other = None if section.load is None else open_storage(section.load)
        # GPT-NeoX's configurations name one folder for both: before the first checkpoint there is nothing to load.
        if other is not None and other != self.store.folder:
            place = self.peers.from_main(lambda: str(find_checkpoint(other)))
            self._load_from(open_storage(place), weights_only=section.finetune)
            self._warn_of_steps_alone()
        elif section.checkpoint_url is not None:
            self.peers.from_main(self._check_nothing_is_left_behind)
        return None

    def _warn_of_steps_alone(self) -> None:
        """Say that another run's steps take the place of those that train the rows of new tokens alone."""
        alone = 0 if self.new_tokens is None else self.new_tokens.rates.only_steps
        if self.world.is_main and 0 < alone <= self.step:
            logger.warning(
                "the checkpoint that load names is at step %d, and new_tokens_only_steps is %d: the rows of the new "
                "tokens are never trained alone. To begin at step 0 with its weights, add `finetune: true`",
                self.step, alone,
            )  # fmt: skip

    def _load_newest(self) -> bool:
        """Take up this run's newest checkpoint that is whole, if there is one."""
        own = self.store.newest()
        while own is not None:
            try:
                self._load_from(own)
                return True
            except DamagedError as error:
                self.store.pass_over(own, error)
                own = self.store.newest()
        return False

    def _check_nothing_is_left_behind(self) -> None:
        """Refuse to begin anew at ``checkpoint_url`` beside checkpoints that were written without it."""
        names = checkpoint_names(LocalStorage(self.folder))
        if names:
            raise ValueError(
                f"checkpoint_url = {self.config.checkpoint.checkpoint_url} has no checkpoint, but save = {self.folder} "
                f"has {names[0]}: add `load: {self.folder}` to go on from it, or give another `save` to begin anew"
            )

    def _load_from(self, checkpoint: Storage, *, weights_only: bool = False) -> None:
        if not weights_only:
            state = self.peers.from_main(lambda: read_state(checkpoint))
            check_same_run(state, self.identity, checkpoint, allowed=self.config.checkpoint.allow_changes)
        load(
            checkpoint, model=self.model, optimizer=None if weights_only else self.optimizer, peers=self.peers
        )
        if not weights_only:
            self.step, self.samples = int(state["step"]), int(state["samples"])
        if self.world.is_main:
            logger.info("loaded %s from %s", "the weights" if weights_only else "everything", checkpoint)
            if checkpoint.size("config.yml") is not None:  # a converted one has none
                self._tell_changes(checkpoint)

    def _tell_changes(self, checkpoint: Storage) -> None:
        try:
            changes = changed_settings(checkpoint.read("config.yml").decode("utf-8"), dump(self.config))
        except (OSError, ValueError) as error:
            logger.warning("what has changed since %s cannot be told: %s", checkpoint, error)
            return
        if changes:
            logger.info("changed since %s: %s", checkpoint, "; ".join(changes))

    def _is_kept(self, step: int) -> bool:
        section = self.config.checkpoint
        return step in section.extra_save_iters or (section.keep_every is not None and step % section.keep_every == 0)

    def run(self) -> str:
        """Train to ``train_iters``, to the next ``exit_interval``, or until told to stop; return why it ended.

        Raises:
            ValueError: the data turns out to be damaged.
            FaultError: too many steps in a row had to be skipped, or too much was forgotten.
        """
        metrics = open_metrics(self.config, resumed=self.resumed_from is not None) if self.world.is_main else None
        with metrics or nullcontext() as self.metrics:
            return self._run()

    def _run(self) -> str:
        train, evaluation = self.config.train, self.config.evaluation
        if self.step >= train.train_iters:
            if self.world.is_main:
                logger.info("nothing to do: step %d of %d is done already", self.step, train.train_iters)
            return "already finished"
        self._tell_hang()
        self._write_start()
        with self.watchdog:
            try:
                if stop := self._agree()[0]:
                    return self._end(f"{STOPPED}: {stop}")
                if self.resumed_from is None and evaluation.do_eval_at_start and evaluation.eval_interval:
                    self._evaluate()
                while (reason := self._train()) == REWIND:
                    self._rewind()
            finally:
                self.saver.end()  # also after an error: a checkpoint on its way is worth the wait
                self.profiler.close()
        return self._end(reason)

    def _end(self, reason: str) -> str:
        """Record that and why the run ends, and return why."""
        rows = self.data.mixture.rows(self.data.order, samples=self.samples)
        self._write("mixture", kind="used", rows=rows)
        self._write("end", reason=reason)
        return reason

    def _train(self) -> str:
        """Train from the present sample on; return why it ended, or :data:`REWIND`."""
        train, evaluation = self.config.train, self.config.evaluation
        with self._open_batches() as batches:
            for _ in self._steps():
                if self._one_step(batches) == REWIND:
                    return REWIND
                self.watchdog.beat()
                last = self.step == train.train_iters
                leave = train.exit_interval is not None and self.step % train.exit_interval == 0 and not last
                stop, retry = self._agree()
                # Whoever is told to stop has minutes, and evaluating may take more.
                forgotten = None
                if evaluation.eval_interval and (last or (not stop and self.step % evaluation.eval_interval == 0)):
                    forgotten = self._evaluate()
                if last or leave or stop or retry or forgotten or self.saver.is_due(self.step):
                    self._save(last=bool(last or leave or stop or forgotten), retry=retry)
                self.saver.report()
                if forgotten:
                    raise FaultError(forgotten)
                if leave or (stop and not last):
                    return "exit_interval" if leave else f"{STOPPED}: {stop}"
        return "finished"

    def _agree(self) -> tuple[str, bool]:
        """Return why all processes are to stop, if they are, and whether they are to repeat a save that has failed."""
        retries = self.world.is_main and self.saver.wants_retry()
        stop, retry = self.world.largest([self.stop_requests.code(), retries])
        return self.stop_requests.reason(int(stop)) if stop else "", bool(retry)

    def _rewind(self) -> None:
        """Go back to the newest checkpoint, and on from there with the samples that nobody has seen yet."""
        samples = self.samples
        if not self._load_newest():
            raise FaultError("the checkpoint to go back to turns out to be damaged, and there is no other one")
        self.samples, self.resumed_from = samples, self.step
        self.faults.forget()
        self._write_start()

    def _newest_name(self) -> str | None:
        self.saver.end()  # its thread sends messages of the store's, and it may be the newest
        own = self.store.newest()
        return None if own is None else own.name

    def _tell_hang(self) -> None:
        """Say that an earlier process was ended because it stood still."""
        if self.world.is_main and (left := left_stacks(self.folder / "stacks")):
            self._write("incident", kind="hang", processes=len(left), stacks=[str(path) for path in left])
        self.world.barrier()  # nobody begins a new file before the old ones are put aside

    def _steps(self) -> Iterator[int]:
        total = self.config.train.train_iters
        steps = range(self.step, total)
        return progress(
            steps, description="training", total=total, initial=self.step, unit="step", disable=not self.world.is_main,
            only_on_a_terminal=True,
        )  # fmt: skip

    def _open_batches(self) -> Batches:
        return Batches(
            loader=self.data.loader,
            section=self.config.data,
            eod_id=self.data.manifest.tokenizer.eod_id,
            batch=self.batch,
            mesh=self.mesh,
            first=self.samples,
            group_of=self.loss_groups.of_corpus,
        )

    def _one_step(self, batches: Batches) -> str:
        """Train on the next samples; return :data:`REWIND` if that turns out to have been a mistake."""
        if self.new_tokens is not None and self._told_at != self.step == self.new_tokens.rates.only_steps > 0:
            self._write_new_tokens()
        self.profiler.before(self.step + 1)
        started, waited = time.perf_counter(), batches.waited_seconds
        result = self.train_step(batches.step(), step=self.step, loss_limit=self.faults.update_limit())
        seconds = time.perf_counter() - started
        first = self.samples
        self.step += 1
        self.profiler.after(self.step)
        self.samples += self.batch.global_size
        tokens, step_tokens = (count * self.config.data.seq_length for count in (self.samples, self.batch.global_size))
        fields = self.record.fields(result, tokens=tokens, step_tokens=step_tokens, seconds=seconds)
        if self.step % self.config.logging.log_interval == 0 and self.world.size > 1:
            fields["stragglers"] = self.record.stragglers(self.engine.own_seconds / self.config.logging.log_interval)
            self.engine.own_seconds = 0.0
        self._write("train", **fields, data_seconds=batches.waited_seconds - waited)
        verdict = self.faults.judge(result, step=self.step, first_sample=first)
        if any(first < start <= self.samples for start in self._phase_starts):
            self.faults.forget()  # other text has another loss
        return verdict

    def _corpora_of(self, samples: Iterable[int]) -> dict[str, int]:
        """Return how many of these samples are of which corpus."""
        corpora = (self.data.mixture.trained[self.data.order.sample(number).corpus] for number in samples)
        return dict(Counter(corpus.shard.name for corpus in corpora))

    def _evaluate(self) -> str | None:
        """Score the held-out text; return why the run is to stop for what it has forgotten, None when it is not."""
        tokens = self.batch.micro_size * self.config.data.seq_length
        return self.validation.run(self.engine, batch_tokens=tokens, after_batch=self.watchdog.beat)

    def _earlier_validations(self) -> list[list[Row]]:
        """Return what the run that is resumed has recorded."""
        path = self.folder / "metrics.jsonl"

        def read() -> list[list[Row]]:
            events = read_metrics(path) if path.exists() else []
            return [event["rows"] for event in events if event["event"] == "validation"]

        return [] if self.resumed_from is None else self.peers.from_main(read)

    def _save(self, *, last: bool, retry: bool) -> None:
        """Begin a save.

        Raises:
            SaveError: it has failed, and so have too many before it; or it is the last of the run.
        """
        self.saver.save(
            self.step,
            last=last,
            retry=retry and not self.saver.is_due(self.step),
            model=self.model,
            optimizer=self.optimizer,
            state={
                **self.identity,
                "samples": self.samples,
                "tokens": self.samples * self.config.data.seq_length,
                "tokenizer_file": f"tokenizer/{Path(self.config.tokenizer.vocab_file).name}",
                "layout": dataclasses.asdict(self.mesh.layout),
                "written": {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "torch": torch.__version__},
            },
            files={"config.yml": dump(self.config), "mixture.json": json.dumps(self._planned_rows, indent=1)},
            copies=carried_files(self.config),
        )

    def _record_checkpoint(self, step: int, **fields: Any) -> None:
        if self.metrics is not None:
            self.metrics.write("checkpoint", step, **fields)

    def _write_start(self) -> None:
        section = self.config.train
        self._write(
            "start",
            parameters=self.model.architecture.num_parameters(),
            world_size=self.world.size,
            tokens_per_step=self.batch.global_size * self.config.data.seq_length,
            train_iters=self.config.train.train_iters,
            device=str(self.world.device.type),
            precision=section.precision if section.fp8 is None else f"{section.precision}, fp8 {section.fp8}",
            resumed_from=self.resumed_from,
            samples=self.samples,
            configuration=resolved_name(self.config),
        )
        phases = [phase._asdict() for phase in source_phases(self.data.mixture)]
        self._write("mixture", kind="planned", rows=self._planned_rows, phases=phases)
        self._write_new_tokens()

    def _write_new_tokens(self) -> None:
        """Record what the next step trains, where new tokens are told apart."""
        if self.new_tokens is not None:
            size = self.data.manifest.tokenizer.vocab_size
            self._write("new_tokens", **self.new_tokens.told(self.step, num_tokens=size))
        self._told_at = self.step

    @functools.cached_property
    def _phase_starts(self) -> list[int]:
        """The first sample of every phase of the mixture."""
        return [phase.first_sample for phase in source_phases(self.data.mixture)]

    @functools.cached_property
    def _planned_rows(self) -> list[Row]:
        """The plan of the whole run, as it looks from where this start of it begins."""
        remaining = (self.config.train.train_iters - self.step) * self.batch.global_size
        return self.data.mixture.rows(self.data.order, samples=self.samples + remaining)

    def _write(self, event: str, **fields: Any) -> None:
        if self.metrics is not None:
            self.metrics.write(event, self.step, **fields)
