"""Every setting of a run, in one typed section per component.

The YAML surface is flat, as GPT-NeoX's: each field name below is one top-level key, and no two sections share a name.
The text under a field is its entry in ``docs/configuration.md``. Rules that join several keys are in ``check.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, Strict

from megatron.config.fields import (
    AnyCase,
    Arguments,
    Count,
    CountOrZero,
    Fraction,
    Momentum,
    Port,
    Positive,
    PositiveFraction,
    PositiveOrZero,
    Section,
    Seed,
    SlurmTime,
    SpikeWindow,
    Switch,
    Text,
    Texts,
    Variables,
    as_tuple,
)
from megatron.config.mixture_schema import MixtureConfig

TokenizerType = Annotated[Literal["SPMTokenizer", "HFTokenizer", "TiktokenTokenizer"], AnyCase()]


class RopeScalingConfig(Section):
    """How rotary frequencies are stretched for long contexts; entries as in Hugging Face's ``config.json``."""

    rope_type: Annotated[Literal["linear", "llama3"], AnyCase()]
    """`linear` divides every frequency by `factor`; `llama3` is the rule of Llama 3.1."""
    factor: Positive
    """How many times longer the context becomes."""
    low_freq_factor: Positive = 1.0
    """`llama3` only: wavelengths longer than the original context divided by this are scaled by the whole `factor`."""
    high_freq_factor: Positive = 4.0
    """`llama3` only: wavelengths shorter than the original context divided by this stay as they are."""
    original_max_position_embeddings: Count = 8192
    """`llama3` only: context length in tokens before the stretching."""


class ModelConfig(Section):
    """The Llama model: a Hugging Face folder, a shape written out, or both."""

    hf_model: Text | None = None
    """Hugging Face folder (`config.json` and `*.safetensors`) to start from. Shape keys beside it, `num_layers` to
    `init_method_std`, say what is expected: each that is given must agree with `config.json`, and where the folder is
    not at hand, `deepy.py --check` and `--simulate` go by them."""
    load_weights: Switch = True
    """With `hf_model`: read its weights. `false` takes only its shape and starts from random weights."""
    num_layers: Count | None = None
    """Number of transformer blocks."""
    hidden_size: Count | None = None
    """Width of the residual stream."""
    num_attention_heads: Count | None = None
    """Number of query heads."""
    num_kv_heads: Count | None = None
    """Number of key/value heads (grouped-query attention); as many as query heads when absent."""
    head_dim: Count | None = None
    """Width of one head; `hidden_size / num_attention_heads` when absent."""
    intermediate_size: Count | None = None
    """Width of each of the two branches of the gated feed-forward layer, as in Hugging Face's `config.json`.
    GPT-NeoX's larger number is recognised by `mlp_multiple_of` beside it and translated."""
    vocab_size: Count | None = None
    """Rows of the embedding; taken from the tokenizer when absent."""
    max_position_embeddings: Count | None = None
    """Longest sequence, in tokens, that the model is meant for."""
    rms_norm_epsilon: Positive = 1e-5
    """Epsilon of every RMSNorm."""
    rotary_emb_base: Positive = 10_000.0
    """Base of the rotary embedding (`rope_theta`)."""
    rope_scaling: RopeScalingConfig | None = None
    """Stretching of the rotary frequencies: `{rope_type: llama3, factor: 8.0, ...}`."""
    no_weight_tying: Switch = True
    """`false` makes the output layer share the embedding's weights."""
    init_method_std: Positive = 0.02
    """Standard deviation of randomly initialised weights."""


SHAPE_KEYS = tuple(name for name in ModelConfig.model_fields if name not in ("hf_model", "load_weights"))
"""The keys that write a model's shape out; beside ``hf_model`` those that are given are compared with its folder."""

REQUIRED_SHAPE_KEYS = (
    "num_layers", "hidden_size", "num_attention_heads", "intermediate_size", "max_position_embeddings"
)  # fmt: skip
"""The keys without which a shape is not whole, apart from ``vocab_size``, which a tokenizer can tell."""


class TokenizerConfig(Section):
    """The tokenizer that made the data and that belongs to the model."""

    tokenizer_type: TokenizerType
    """`SPMTokenizer` (SentencePiece), `HFTokenizer` (`tokenizer.json`) or `TiktokenTokenizer` (Llama 3's own file)."""
    vocab_file: Text
    """The tokenizer's file: `tokenizer.model` or `tokenizer.json`."""


class DataConfig(Section):
    """What is trained on: a manifest, or GPT-NeoX's `train_data_paths` or `data_path`."""

    data_manifest: Text | None = None
    """Manifest of the tokenised shards, as written by `tools/preprocess_data.py`."""
    train_data_paths: Texts = ()
    """Shards (paths without `.bin`) to train on, instead of a manifest."""
    train_data_weights: Annotated[tuple[PositiveOrZero, ...], BeforeValidator(as_tuple)] = ()
    """Share of the training tokens of each of `train_data_paths`; all have the same when absent."""
    valid_data_paths: Texts = ()
    """Held-out shards (paths without `.bin`), scored one by one; see `eval_iters`."""
    weight_by_num_documents: Switch = False
    """Shares of `train_data_paths` in proportion to documents ^ `weighted_sampler_alpha`, whatever
    `train_data_weights` says. (GPT-NeoX documents the same and computes something else.)"""
    weighted_sampler_alpha: Fraction = 1.0
    """Exponent of `weight_by_num_documents`: 1 is by size, 0 is the same for all."""
    data_path: Text | None = None
    """One shard (a path without `.bin`) to train on, instead of a manifest; `split` cuts it."""
    split: Text = "969, 30, 1"
    """Parts of `data_path`'s documents, in file order, for training, validation and test (which is not used)."""
    mixture: MixtureConfig | None = None
    """Tiers, rates and sources. When absent, every corpus is taken once per pass, whatever its size."""
    seq_length: Count
    """Tokens per training sample."""
    reset_attention_mask: Switch = False
    """No attention from one document of a sample to another."""
    reset_position_ids: Switch = False
    """Positions start from 0 in every document of a sample."""
    eod_mask_loss: Switch = False
    """No loss where the end of a document should predict the beginning of the next."""


class BatchConfig(Section):
    """Sequences per optimizer step. Any two of the three give the third (`derive.derive_batch`)."""

    train_batch_size: Count | None = None
    """Sequences per optimizer step, over all processes."""
    train_micro_batch_size_per_gpu: Count | None = None
    """Sequences that one process computes at a time."""
    gradient_accumulation_steps: Count | None = None
    """Micro-batches per optimizer step."""


class AdamParams(Section):
    """The numbers of Adam."""

    lr: Positive | None = None
    """Highest learning rate; the top-level key `lr` means the same."""
    betas: Annotated[tuple[Momentum, Momentum], BeforeValidator(as_tuple)] = (0.9, 0.999)
    """Decay of the running means of the gradient and of its square."""
    eps: Positive = 1e-8
    """Added to the denominator."""


class AdamConfig(Section):
    """GPT-NeoX's `optimizer` entry."""

    type: Annotated[Literal["Adam", "AdamW"], AnyCase()] = "Adam"
    """Both names mean AdamW with decoupled weight decay, as GPT-NeoX's Adam does."""
    params: AdamParams = AdamParams()
    """`{lr, betas, eps}`."""


class OptimizerConfig(Section):
    """AdamW."""

    optimizer: AdamConfig = AdamConfig()
    """`{type: Adam, params: {lr: 1.0e-4, betas: [0.9, 0.95], eps: 1.0e-8}}`."""
    lr: Positive | None = None
    """Highest learning rate; the same as `optimizer.params.lr`."""
    weight_decay: PositiveOrZero = 0.1
    """Decoupled weight decay; norm weights have none."""
    gradient_clipping: PositiveOrZero = 1.0
    """Largest global L2 norm of the gradient; 0 switches clipping off."""

    @property
    def learning_rate(self) -> float:
        """Highest learning rate, wherever it was written."""
        rate = self.lr if self.lr is not None else self.optimizer.params.lr
        if rate is None:
            raise ValueError("neither lr nor optimizer.params.lr is given: add one of them")
        return rate

    @property
    def betas(self) -> tuple[float, float]:
        """Adam's two decay rates."""
        return self.optimizer.params.betas

    @property
    def eps(self) -> float:
        """Adam's epsilon."""
        return self.optimizer.params.eps


class ScheduleConfig(Section):
    """The learning rate over the steps."""

    lr_decay_style: Annotated[Literal["constant", "linear", "cosine", "exponential"], AnyCase()] = "linear"
    """Shape of the decay after the warm-up."""
    lr_decay_iters: Count | None = None
    """Steps, warm-up included, after which `min_lr` is reached; `train_iters` when absent."""
    lr_decay_fraction: PositiveFraction | None = None
    """The same as a fraction of `train_iters`."""
    min_lr: PositiveOrZero = 0.0
    """Floor of the learning rate after the warm-up."""
    warmup: Fraction = 0.01
    """Length of the linear warm-up as a fraction of the decay steps."""


class NewTokensConfig(Section):
    """Tokens that an extension has added to the vocabulary: their rows can be trained alone, and at their own rate."""

    vocab_extension: Text | None = None
    """`extension.json`, or its folder, as written with the extended tokenizer: it tells which tokens are new."""
    new_tokens_from: Count | None = None
    """The first new id, where there is no `vocab_extension`; it and all above it are new."""
    new_tokens_only_steps: CountOrZero = 0
    """So many first steps train the rows of the new tokens alone. Everything else stays as it is, bit for bit; then it
    is trained, too, with a warm-up of its own, as long as that of the run."""
    new_tokens_lr: Positive | None = None
    """Highest learning rate of the new tokens' rows, instead of `lr`; it rises and falls as that does."""

    @property
    def are_named(self) -> bool:
        """Whether it is said which tokens are new."""
        return self.vocab_extension is not None or self.new_tokens_from is not None


class TrainConfig(Section):
    """The run."""

    train_iters: Count
    """Number of optimizer steps."""
    seed: Seed = 1234
    """Decides random weights and the order of the samples."""
    precision: Annotated[Literal["fp32", "bfloat16"], AnyCase()] = "fp32"
    """What matrices are multiplied in; weights, gradients' sums and optimizer state stay fp32.
    `bf16: {enabled: true}` means the same as `bfloat16`."""
    checkpoint_activations: Switch = False
    """Compute activations again in the backward pass instead of keeping them: less memory, more work."""
    checkpoint_mode: Annotated[Literal["full", "selective", "budget"], AnyCase()] = "full"
    """With `checkpoint_activations`: `full` keeps the input of every block alone; `selective` also keeps the results of
    matrix products and of attention, so that only what is cheap is computed again; `budget` chooses for each block, so
    that all of them together keep at most `activation_memory_gib` and as little as possible is computed again."""
    activation_memory_gib: Positive | None = None
    """With `checkpoint_mode: budget`: the most that forward passes may leave for backward passes in a process, in GiB,
    of all micro-batches that a pipeline holds at a time together; what `deepy.py --simulate` calls activations."""
    compile: Switch = False
    """Compile every block with `torch.compile`: the first step takes longer, the others less."""
    fp8: Annotated[Literal["tensorwise", "rowwise", "rowwise_with_gw_hp"], AnyCase()] | None = None
    """Multiply the matrices of the blocks in 8-bit floating point, by a recipe of torchao's: one scale for each matrix
    (`tensorwise`, the fastest), for each row (`rowwise`), or so with the products that give the weights' gradients left
    in bfloat16 (`rowwise_with_gw_hp`, the most exact). Needs torchao, `precision: bfloat16` and an L40,
    an H100, an MI300 or newer; set `compile: true` with it."""
    exit_interval: Count | None = None
    """Stop, after saving, when the step is a multiple of this."""


Change = Literal["architecture", "mixture", "order", "seed", "seq_length", "tokenizer"]


class SurvivalConfig(Section):
    """What a run does about faults and about the end of its time."""

    exit_duration_minutes: Positive | None = None
    """Stop, after saving, so long after the start."""
    time_margin_minutes: PositiveOrZero = 5.0
    """Stop, after saving, so long before the end of a job of Slurm, where Slurm tells when that is; of a short job a
    quarter of its time before."""
    max_skipped_steps: CountOrZero = 5
    """So many steps in a row may be skipped because the loss or the gradient is not a number, or for a spike of the
    loss; one more ends the run."""
    loss_spike_sigmas: Positive = 6.0
    """A loss so many standard deviations of its noise above the steps before is a spike."""
    loss_spike_window: SpikeWindow = 128
    """Steps before by which the noise is measured."""
    on_loss_spike: Annotated[Literal["report", "skip", "rewind"], AnyCase()] = "report"
    """`report` a spike; `skip` the update; or `rewind`: go on from the last checkpoint with the samples after the
    spike."""
    hang_minutes: Positive | None = 30.0
    """A process that stands still for so long writes down where (`stacks` in `save`) and ends, so that the run is
    started again; one step, one batch of evaluation or one save may not take longer."""
    node_test: Switch | None = None
    """Test every machine before the first step: matrix products, memory, disk, messages. Where there are several when
    absent."""


class CheckpointConfig(Section):
    """What is kept on disk, and what a run starts from."""

    save: Text | None = None
    """Folder of this run: checkpoints, metrics, resolved configuration. A run that finds a checkpoint there resumes."""
    checkpoint_url: Text | None = None
    """Where checkpoints are written instead of `save`: another folder, or one of an object store (`s3://bucket/run`).
    Metrics and logs stay in `save`."""
    load: Text | None = None
    """Another run, or one of its checkpoints, to start from when this run has no checkpoint yet: a folder, or one of an
    object store."""
    checkpoint_factor: Count | None = None
    """Save every this many steps. The last step is always saved."""
    extra_save_iters: Annotated[tuple[Count, ...], BeforeValidator(as_tuple)] = ()
    """Further steps after which to save."""
    keep_last_n_checkpoints: Count | None = None
    """Delete older checkpoints; all are kept when absent. Those of `extra_save_iters` and `keep_every` are never
    deleted."""
    keep_every: Count | None = None
    """Never delete the checkpoints of steps that are a multiple of this."""
    async_checkpoint: Switch = True
    """Train on while a checkpoint is written: every process copies its share of weights and optimizer to the host's
    memory, and only the next update of the weights waits for that. `false` waits until the checkpoint is on disk, and
    needs no memory."""
    max_failed_saves: CountOrZero = 2
    """So many saves in a row may fail, such as on a full disk. After one more the run tries to save where it is, and
    ends if that fails, too. The last save of a run must succeed."""
    finetune: Switch = False
    """With `load`: take only the weights, and begin at step 0 with a fresh optimizer."""
    allow_changes: Annotated[tuple[Change, ...], BeforeValidator(as_tuple)] = ()
    """What a resumed run may have changed since its checkpoint: `architecture` (of what the weights' shapes do not
    tell), `mixture`, `order`, `seed`, `seq_length`, `tokenizer`. Otherwise such a change is an error."""


class EvaluationConfig(Section):
    """Held-out text."""

    eval_interval: CountOrZero = 1000
    """Score the held-out text of every corpus each so many steps and after the last; 0 never does."""
    eval_iters: Count = 100
    """Bounds the held-out text of `valid_data_paths` and of `data_path` to the tokens of this many steps, and to 4
    million, divided evenly over the shards: whole documents from the front. What a manifest holds out is scored whole.
    """
    do_eval_at_start: Switch = True
    """Also score it before the first step, so that gains have something to be measured from."""
    pivots: Annotated[tuple[Text, ...], BeforeValidator(as_tuple)] = ()
    """Languages and sources that must not be forgotten, such as `[eng_Latn, code]`: names or codes of corpora, or
    sources. What they have lost is shown with every validation."""
    max_forgetting_percent: Positive | None = None
    """How much more bits per byte one of the `pivots` may take than before the first step, in percent."""
    on_forgetting: Literal["warn", "stop"] = "warn"
    """When one takes more: `warn` and go on, or save and `stop`."""


class LoggingConfig(Section):
    """What is told during a run."""

    log_interval: Count = 100
    """Steps per console line."""
    tensorboard_dir: Text | None = None
    """Folder for TensorBoard's files."""
    peak_theoretical_tflops: Positive | None = None
    """Peak TFLOP/s of one accelerator; then the share of it that the model uses (MFU) is reported."""
    use_wandb: Switch = False
    """Log to Weights & Biases as well (`pip install wandb==0.31.0`)."""
    wandb_project: Text = "neox"
    """With `use_wandb`: project."""
    wandb_team: Text | None = None
    """With `use_wandb`: team or user that the project belongs to."""
    wandb_group: Text | None = None
    """With `use_wandb`: group of runs."""
    wandb_run_name: Text | None = None
    """With `use_wandb`: name of the run; that of its folder when absent."""
    wandb_host: Text = "https://api.wandb.ai"
    """With `use_wandb`: address of the server."""
    profile: Switch = False
    """Record a few steps with PyTorch's profiler: a trace for `chrome://tracing` or Perfetto, and a table of where the
    time went, in `profile` in `save`."""
    profile_step_start: Count = 10
    """With `profile`: the first step that is recorded."""
    profile_step_stop: Count = 12
    """With `profile`: the last one."""
    profile_ranks: Annotated[tuple[CountOrZero, ...], BeforeValidator(as_tuple)] = (0,)
    """With `profile`: the processes that are recorded."""


class ZeroConfig(Section):
    """GPT-NeoX's `zero_optimization` entry."""

    stage: Annotated[int, Strict(), Field(ge=0, le=3)] = 0
    """What the processes divide: 0 nothing, 1 optimizer state, 2 also gradients, 3 also weights."""


class ParallelConfig(Section):
    """How processes work together."""

    zero_optimization: ZeroConfig = ZeroConfig()
    """`{stage: 0}`: every process holds the whole model. Stages 1, 2 and 3 divide more and more of it."""
    data_parallel_shard_size: Count | None = None
    """With a stage above 0: processes that divide one copy of the model, such as those of a node; all when absent."""
    model_parallel_size: Count = 1
    """Tensor parallelism: processes that divide every matrix, heads and vocabulary included."""
    sequence_parallel: Switch = False
    """With `model_parallel_size`: also divide what lies between the matrices, along the sequence; less memory for the
    same messages."""
    pipe_parallel_size: CountOrZero = 1
    """Pipeline parallelism: processes that divide the blocks of the model; 0 and 1 both mean no pipeline."""
    pipe_schedule: Annotated[Literal["1f1b", "interleaved", "zero_bubble"], AnyCase()] = "1f1b"
    """Order of a pipeline's work: `1f1b` (one forward, one backward pass); `interleaved`, which waits less and sends
    more; `zero_bubble`, which also delays the gradients of weights to fill the waits."""
    pipe_chunks: Count = 1
    """Stages of the pipeline in each process, with `interleaved` (at least 2) and `zero_bubble`."""
    context_parallel_size: Count = 1
    """Context parallelism: processes that divide every sequence, for long ones."""
    distributed_backend: Annotated[Literal["nccl", "gloo"], AnyCase()] | None = None
    """Communication library; `nccl` on GPUs and `gloo` on CPUs when absent."""
    num_threads: Count | None = None
    """CPU threads per process; on CPUs the cores are shared out when absent."""


class SlurmConfig(Section):
    """A job that `deepy.py --submit` hands to Slurm."""

    partition: Text | None = None
    """Of the cluster; its default when absent."""
    qos: Text | None = None
    """Quality of service."""
    constraint: Text | None = None
    """Features that machines must have."""
    time: SlurmTime | None = None
    """Longest time of a start of the job, such as `"24:00:00"`, in quotes; the partition's limit when absent."""
    cpus_per_task: Count | None = None
    """CPU cores for each process."""
    modules: Texts = ()
    """Environment modules to load."""
    container: Text | None = None
    """Image that Apptainer runs the processes in, in a job of your own as well."""
    container_args: Texts = ()
    """Options of `apptainer exec`, such as `--nv` or `--rocm`, and `--bind` with folders."""
    container_command: Text = "apptainer"
    """The program that runs images; `singularity` on some clusters."""
    container_python: Text = "python3"
    """Python inside the image."""
    signal_seconds: Count = 300
    """So long before the end of its time the job is told to save and to come back."""
    requeue: Switch = True
    """Come back by itself for as long as there is work left."""
    max_faults: CountOrZero = 3
    """Failures in a row, without a new checkpoint in between, after which the job still comes back."""
    sbatch_args: Texts = ()
    """More lines for the job script, such as `--gpus-per-node=8`, `--mem=0` or `--exclusive`."""


class LaunchConfig(Section):
    """How processes are started."""

    launcher: Annotated[Literal["auto", "local", "slurm", "mpi", "ssh"], AnyCase()] = "auto"
    """`local` starts every process on this machine; `slurm` with `srun`, in the allocation that the command runs in;
    `mpi` with `mpirun`; `ssh` on the machines of `hostfile`. `auto` is `slurm` inside an allocation, `ssh` with a
    `hostfile`, and else `local`."""
    num_nodes: Count | None = None
    """Machines; all that there are when absent."""
    num_gpus: Count | None = None
    """Processes on each machine; one per visible GPU, or one without GPUs, when absent. Under Slurm as many as the job
    has GPUs or tasks on a machine; with a `hostfile` as many as there are slots."""
    hostfile: Text | None = None
    """File with a line `name slots=8` for each machine."""
    include: Text | None = None
    """Only these of `hostfile`, such as `node1@node2:0,2`: `@` between machines, slots after a colon."""
    exclude: Text | None = None
    """All but these of `hostfile`."""
    master_addr: Text | None = None
    """Machine of the first process, where the launcher's own name for it does not do."""
    master_port: Port | None = None
    """Port where the processes meet; a free one on one machine, else one worked out from the job."""
    launcher_args: Arguments = ()
    """More arguments for `srun`, `mpirun` or `ssh`, such as how processes are bound to cores."""
    environment: Variables
    """Environment variables for all processes; those that are set where `deepy.py` runs win."""
    max_restarts: CountOrZero = 0
    """Start all processes again so many times when one fails, without a new job; they go on from the last
    checkpoint."""
    account: Text | None = None
    """Slurm's account that a submitted job is charged to."""
    comment: Text | None = None
    """Comment of a submitted job."""
    slurm: SlurmConfig = SlurmConfig()
    """The job that `deepy.py --submit` hands to Slurm."""


class GenerateConfig(Section):
    """Writing text with a trained model."""

    temperature: PositiveOrZero = 0.0
    """Divides the logits before sampling; 0 always takes the most likely token."""
    top_p: Fraction = 0.0
    """Sample from the smallest set of tokens that holds this much probability; 0 switches it off."""
    top_k: CountOrZero = 0
    """Sample from this many most likely tokens; 0 switches it off."""
    maximum_tokens: Count = 64
    """Longest continuation in tokens."""
    sample_input_file: Text | None = None
    """Prompts, one a line; without it text is written from an empty prompt."""
    sample_output_file: Text = "samples.jsonl"
    """File in the run's folder where prompts and continuations go, one JSON object a line."""
    num_samples: Count = 1
    """Continuations per prompt."""
    stop_strings: Texts = ()
    """A continuation ends before the first of these."""
    generation_batch_size: Count = 16
    """Most texts that are written at a time."""


class BenchmarksConfig(Section):
    """Benchmarks of a trained model, for `eval.py`."""

    eval_tasks: Annotated[tuple[Text, ...], BeforeValidator(as_tuple)] = ("emma",)
    """Benchmarks or suites of `configs/benchmarks`, or files like those there."""
    eval_data: Text = "benchmarks-data"
    """Folder that `tools/prepare_benchmark.py` has written into."""
    eval_results: Text | None = None
    """Folder of the results; `evaluation/step<N>` in `save` when absent."""
    eval_languages: Annotated[tuple[Text, ...], BeforeValidator(as_tuple)] = ()
    """Codes such as `swh_Latn`, or languages such as `swh`; all that have data when empty."""
    eval_limit: Count | None = None
    """Only so many of the first items of each language, for a trial."""
    eval_seed: CountOrZero = 0
    """Of shots and of sampling; the seed of training has no part in it."""
    eval_batch_tokens: Count = 8192
    """Most tokens, padding included, in one forward pass of text that is scored."""
    eval_batch_size: Count = 16
    """Texts that are written at the same time."""


class Config(Section):
    """A whole run. Only the root scripts and the trainer hold it; each component is handed its own section."""

    model: ModelConfig
    tokenizer: TokenizerConfig
    data: DataConfig
    batch: BatchConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    new_tokens: NewTokensConfig
    train: TrainConfig
    survival: SurvivalConfig
    checkpoint: CheckpointConfig
    evaluation: EvaluationConfig
    logging: LoggingConfig
    parallel: ParallelConfig
    launch: LaunchConfig
    generate: GenerateConfig
    benchmarks: BenchmarksConfig


SECTIONS: Mapping[str, type[Section]] = MappingProxyType(
    {name: field.annotation for name, field in Config.model_fields.items() if isinstance(field.annotation, type)}
)
"""Section name to its class, in the order of the reference page and of a resolved file."""

SECTION_OF_KEY: Mapping[str, str] = MappingProxyType(
    {key: name for name, section in SECTIONS.items() for key in section.model_fields}
)
"""YAML key to the name of the section that holds it."""
