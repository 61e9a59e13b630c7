"""The one table of GPT-NeoX's YAML keys: what becomes of each of the 318 here.

Names and defaults are those of GPT-NeoX's ``megatron/neox_arguments``. Keys that only this project has are in
``schema.py`` alone, and those that it does not have yet at the end. ``translate.py`` applies the tables, and
``docs/configuration.md`` prints them.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from types import MappingProxyType


class Status(enum.Enum):
    """What happens to a key of GPT-NeoX."""

    USED = "used"
    RENAMED = "renamed"
    FIXED = "fixed"
    IGNORED = "ignored"
    REJECTED = "rejected"


@dataclasses.dataclass(frozen=True)
class NeoxKey:
    """One key of GPT-NeoX, or one that this project is to have.

    Attributes:
        name: the key, with underscores.
        default: GPT-NeoX's default, or that of the key to come.
        status: what happens to the key.
        note: new name of a renamed key; what differs about a used one; for the others the reason.
        accepts: values that pass without a word; for a used or renamed key it says nothing.
    """

    name: str
    default: object
    status: Status
    note: str
    accepts: tuple[object, ...]


def _used(name: str, default: object = None, note: str = "") -> NeoxKey:
    return NeoxKey(name, default, Status.USED, note, ())


def _renamed(name: str, default: object, to: str) -> NeoxKey:
    return NeoxKey(name, default, Status.RENAMED, to, ())


def _fixed(name: str, default: object, accepts: tuple[object, ...], why: str) -> NeoxKey:
    return NeoxKey(name, default, Status.FIXED, why, accepts)


def _ignored(name: str, default: object, why: str, accepts: tuple[object, ...] | None = None) -> NeoxKey:
    return NeoxKey(name, default, Status.IGNORED, why, (default,) if accepts is None else accepts)


def _rejected(name: str, default: object, why: str, accepts: tuple[object, ...] | None = None) -> NeoxKey:
    return NeoxKey(name, default, Status.REJECTED, why, (default,) if accepts is None else accepts)


def _later(name: str, default: object, instead: str = "", accepts: tuple[object, ...] | None = None) -> NeoxKey:
    return _rejected(name, default, "not supported yet" + (f": {instead}" if instead else ""), accepts)


_ENGINE = "a setting of DeepSpeed; PyTorch's own engine is used here"
_PROGRAM = "is worked out by the program, not configured"
_MESSAGES = "PyTorch sends a block's tensors together, and overlaps messages with computation by itself"
_FP32_SUMS = "gradients are always summed in fp32"
_LLAMA = "only Llama models are built"
_SAME = "changes no result; PyTorch's own kernels are used"
_NORMAL = "random weights are normal with init_method_std"
_NO_LOSS_SCALE = "only fp16 needs loss scaling"
_RECOMPUTE = "PyTorch's own recomputation is used: use checkpoint_activations and checkpoint_mode"
_PREFERENCE = "training on preferences or rewards is not part of this project"
_LABELS = "the loss is on the text itself, without shards of labels"
_NO_TEST = "there is no test split: score held-out text with valid_data_paths"
_COMET = "Comet is not supported; metrics are in <save>/metrics.jsonl"
_MUP = "muP needs training from scratch, this project continues trained models"
_TE = "Transformer Engine is not used; PyTorch computes the same layers"
_TE_FP8 = "Transformer Engine is not used; fp8: rowwise multiplies in 8 bits, with scales made anew for each product"
_MOE = "says something about mixtures of experts only"
_MAMBA = "says something about Mamba layers only"

_DEEPSPEED_CONFIG = (
    _ignored("deepspeed", True, _ENGINE),
    _used("train_batch_size"),
    _used("train_micro_batch_size_per_gpu"),
    _used("gradient_accumulation_steps", 1),
    _used("optimizer"),
    _rejected("scheduler", None, "DeepSpeed's schedulers are not used: use lr_decay_style, warmup and min_lr"),
    _ignored("fp32_allreduce", False, _FP32_SUMS),
    _ignored("prescale_gradients", False, _FP32_SUMS),
    _ignored("gradient_predivide_factor", 1.0, _FP32_SUMS),
    _ignored("sparse_gradients", False, "gradients are dense"),
    _renamed("fp16", None, "precision"),
    _renamed("bf16", None, "precision"),
    _rejected("amp", None, "apex's AMP is not used: use precision"),
    _used("gradient_clipping", 1.0),
    _used("zero_optimization"),
    _rejected("curriculum_learning", None, "sequences all have seq_length tokens"),
    _rejected("curriculum_seqlen", 0, "sequences all have seq_length tokens"),
    _ignored("steps_per_print", 10, "log_interval decides how often a line is printed"),
    _ignored("wall_clock_breakdown", False, "timings are in <save>/metrics.jsonl"),
    _ignored("dump_state", False, _ENGINE),
    _ignored("flops_profiler", None, "throughput is always reported, and MFU with peak_theoretical_tflops"),
    _ignored("communication_data_type", None, _FP32_SUMS),
    _rejected("autotuning", None, "DeepSpeed's autotuning is not used: try batch sizes in short runs"),
    _ignored("activation_checkpointing", None, _RECOMPUTE),
    _rejected("sparse_attention", None, "attention is always dense"),
    _rejected("data_efficiency", None, "DeepSpeed's data sampling is not used: use mixture"),
    _ignored("tensorboard", None, "use tensorboard_dir"),
    _rejected("wandb", None, "use use_wandb and wandb_project"),
    _ignored("csv_monitor", None, "metrics are in <save>/metrics.jsonl"),
    _rejected("elasticity", None, "the number of processes is fixed during a run; a resumed run may have another"),
    _ignored("comms_logger", None, _ENGINE),
    _rejected("compression_training", None, "models are not compressed in training"),
    _ignored("checkpoint", None, _ENGINE),
    _ignored("data_types", None, _FP32_SUMS),
    _rejected("deepspeed_extra_args", None, _ENGINE),
)

_DEEPSPEED_RUNNER = (
    _used("hostfile"),
    _used("include"),
    _used("exclude"),
    _used("num_nodes", -1),
    _used("num_gpus"),
    _used("master_port", 29500, "without the key a free port is used"),
    _used("master_addr"),
    _used("launcher", "pdsh", "`pdsh` means `ssh`; `openmpi`, `mvapich`, `mpich` and `impi` mean `mpi`"),
    _ignored("force_multi", False, "one machine in hostfile is reached by ssh like several", (True, False)),
    _rejected("autotuning_run", None, "DeepSpeed's autotuning is not used: try batch sizes in short runs"),
    _ignored("no_ssh_check", False, "machines are not tried before"),
    _used("comment"),
    _used("account"),
)

_PARALLELISM = (
    _used("pipe_parallel_size", 0),
    _used("model_parallel_size", 1),
    _ignored("pipe_partition_method", "type:transformer|mlp", "stages are balanced by their cost"),
    _rejected("world_size", None, _PROGRAM),
    _rejected("is_pipe_parallel", False, _PROGRAM),
    _used("sequence_parallel", False),
)

_MODEL = (
    _used("precision"),
    _used("num_layers"),
    _used("hidden_size"),
    _used("intermediate_size"),
    _renamed("mlp_multiple_of", 1, "intermediate_size"),
    _renamed("expansion_factor", None, "intermediate_size"),
    _used("num_attention_heads"),
    _used("num_kv_heads"),
    _used("seq_length"),
    _rejected("sliding_window_width", None, "attention is always over the whole sequence"),
    _used("max_position_embeddings"),
    _fixed("norm", "layernorm", ("rmsnorm",), "Llama's norm is RMSNorm"),
    _ignored("layernorm_fusion", False, _SAME),
    _ignored("rmsnorm_fusion", False, _SAME),
    _rejected("use_qk_layernorm", False, "Llama does not normalise queries and keys"),
    _ignored("layernorm_epsilon", 1e-5, "there is no LayerNorm; rms_norm_epsilon is the one that counts"),
    _used("rms_norm_epsilon", 1e-8),
    _ignored("scalenorm_epsilon", 1e-8, "there is no ScaleNorm; rms_norm_epsilon is the one that counts"),
    _fixed("pos_emb", "learned", ("rotary",), "Llama's positions are rotary"),
    _ignored("rpe_num_buckets", 32, "positions are rotary"),
    _ignored("rpe_max_distance", 128, "positions are rotary"),
    _rejected("opt_pos_emb_offset", 0, "positions are rotary and begin at 0"),
    _used("no_weight_tying", False),
    _fixed("attention_config", None, ("global", "flash"), "attention is dense and causal in every layer"),
    _rejected("sparsity_config", None, "attention is always dense"),
    _rejected("num_unique_layers", None, "layers do not share weights"),
    _ignored("param_sharing_style", "grouped", "layers do not share weights"),
    _ignored("make_vocab_size_divisible_by", 128, "weights are stored without padding", ()),
    _fixed("activation", "gelu", ("swiglu", "silu"), "Llama's feed-forward layer is gated with SiLU"),
    _ignored("use_flashattn_swiglu", False, _SAME),
    _ignored("scaled_upper_triang_masked_softmax_fusion", False, _SAME),
    _ignored("scaled_masked_softmax_fusion", False, _SAME),
    _ignored("bias_gelu_fusion", False, _SAME),
    _ignored("bias_dropout_fusion", False, _SAME),
    _ignored("rope_fusion", False, _SAME),
    _ignored("fused_kernels_build_path", None, "nothing is compiled"),
    _ignored("fp16_lm_cross_entropy", False, "the loss is always computed in fp32"),
    _used("init_method_std", 0.02),
    _ignored("apply_query_key_layer_scaling", False, "helps fp16 only, which is not supported"),
    _ignored("use_cpu_initialization", False, "changes no result; weights are made where they are used"),
    _ignored("attention_softmax_in_fp32", False, "the softmax is always computed in fp32", (False, True)),
    _fixed("rotary_pct", 1.0, (1.0,), "Llama turns the whole head"),
    _used("rotary_emb_base", 10000),
    _ignored("rotary_save_freqs_buffer", False, "frequencies are computed, not stored"),
    _ignored("init_method", "normal", _NORMAL),
    _ignored("output_layer_init_method", "scaled_normal", _NORMAL, ("normal",)),
    _ignored("gmlp_attn_dim", 64, _LLAMA),
    _rejected("gpt_j_residual", False, _LLAMA),
    _rejected("gpt_j_tied", False, _LLAMA),
    _ignored("use_bias_in_norms", True, "RMSNorm has no bias", (True, False)),
    _fixed("use_bias_in_attn_linear", True, (False,), "Llama has no biases"),
    _fixed("use_bias_in_mlp", True, (False,), "Llama has no biases"),
    _rejected("soft_prompt_tuning", None, "all weights are trained"),
    _ignored("mamba_selective_scan_fusion", False, _MAMBA),
    _ignored("mamba_causal_conv_fusion", False, _MAMBA),
    _ignored("mamba_inner_func_fusion", False, _MAMBA),
    _ignored("mamba_selective_fp32_params", True, _MAMBA),
    _ignored("mamba_use_bias_in_conv", True, _MAMBA),
    _ignored("mamba_use_bias_in_linears", False, _MAMBA),
    _fixed("output_layer_parallelism", "column", ("column",), "GPT-NeoX has no other value either"),
    _rejected("serve_model_weights", False, _PREFERENCE),
    _ignored("weight_server_port", 6000, _PREFERENCE),
    _ignored("online_dataserver_ips", "localhost", _PREFERENCE),
    _ignored("online_dataserver_ports", 10000, _PREFERENCE),
    _ignored("te_columnparallel", False, _TE),
    _ignored("te_rowparallel", False, _TE),
    _ignored("te_layernorm_mlp", False, _TE),
    _ignored("te_mha", False, _TE),
    _ignored("te_fp8_format", "hybrid", _TE_FP8),
    _ignored("te_fp8_wgrad", True, _TE_FP8),
    _ignored("te_fp8_amax_history_len", 1, _TE_FP8),
    _ignored("te_fp8_amax_compute_algo", "most_recent", _TE_FP8),
    _ignored("te_fp8_margin", 0, _TE_FP8),
    _rejected("te_fp8_mha", False, "attention is computed in bfloat16; fp8: rowwise multiplies the matrices in 8 bits"),
    _rejected("dim_att", None, "a width of RWKV; " + _LLAMA),
    _rejected("head_size", None, "a width of RWKV; head_dim is the width of a head here"),
    _rejected("ffn_dim", None, "a width of RWKV; intermediate_size is the feed-forward width here"),
)

_OPTIMIZER = (
    _renamed("optimizer_type", "adam", "optimizer"),
    _rejected("use_bnb_optimizer", False, "8-bit optimizers are not supported; AdamW keeps fp32 state"),
    _rejected("zero_stage", None, "follows from zero_optimization: write zero_optimization: {stage: 1}", (None, 0)),
    _ignored("zero_reduce_scatter", None, _MESSAGES),
    _ignored("zero_contiguous_gradients", None, _MESSAGES),
    _ignored("zero_reduce_bucket_size", None, _MESSAGES),
    _ignored("zero_allgather_bucket_size", None, _MESSAGES),
    _used("lr"),
)

_LR_SCHEDULER = (
    _used("lr_decay_style", "linear"),
    _used("lr_decay_iters"),
    _used("lr_decay_fraction"),
    _used("min_lr", 0.0),
    _used("warmup", 0.01),
    _ignored("override_lr_scheduler", False, "the schedule is always that of the configuration", (False, True)),
    _rejected("use_checkpoint_lr_scheduler", False, "the schedule is always that of the configuration: write it there"),
)

_LOGGING = (
    _used("use_wandb"),
    _used("wandb_group"),
    _used("wandb_run_name"),
    _used("wandb_team"),
    _used("wandb_project", "neox"),
    _used("wandb_host", "https://api.wandb.ai"),
    _ignored("wandb_init_all_ranks", False, "the first process knows everything"),
    _rejected("git_hash", None, _PROGRAM),
    _ignored("log_dir", None, "log lines go to standard error, where the shell or Slurm can keep them"),
    _used("tensorboard_dir"),
    _ignored("use_comet", None, _COMET, (None, False)),
    _ignored("comet_workspace", None, _COMET),
    _ignored("comet_project", None, _COMET),
    _ignored("comet_experiment_name", None, _COMET),
    _ignored("comet_tags", None, _COMET),
    _ignored("comet_others", None, _COMET),
    _rejected("comet_experiment", None, _PROGRAM),
    _used("peak_theoretical_tflops"),
    _used("log_interval", 100),
    _later("log_grad_pct_zeros", False),
    _later("log_param_norm", False),
    _ignored("log_grad_norm", False, "the gradient's norm is always recorded", (False, True)),
    _later("log_optimizer_states", False),
    _rejected("log_gradient_noise_scale", False, "the gradient noise scale is not measured"),
    _ignored("gradient_noise_scale_n_batches", 5, "the gradient noise scale is not measured"),
    _ignored("gradient_noise_scale_cpu_offload", False, "the gradient noise scale is not measured"),
    _later("memory_profiling", False),
    _ignored("memory_profiling_path", None, "memory_profiling is not supported yet"),
    _used("profile", False),
    _used("profile_step_start", 10),
    _used("profile_step_stop", 12),
)

_OTHER = (
    _used("distributed_backend", "nccl"),
    _rejected("local_rank", None, _PROGRAM),
    _rejected("rank", None, _PROGRAM),
    _rejected("lazy_mpu_init", False, _PROGRAM),
    _ignored("short_seq_prob", 0.1, "a setting of BERT"),
    _used("eod_mask_loss", False),
    _rejected("adlr_autoresume", False, "a service inside NVIDIA: a run resumes by itself from save"),
    _ignored("adlr_autoresume_interval", 1000, "a service inside NVIDIA"),
    _used("seed", 1234),
    _ignored("onnx_safe", False, "changes no result; models are exported to Hugging Face's format"),
    _rejected("deepscale", False, _ENGINE),
    _rejected("deepscale_config", None, _ENGINE),
    _rejected("deepspeed_mpi", False, "use launcher: mpi"),
    _rejected("deepspeed_slurm", False, "use launcher: slurm"),
    _rejected("user_script", None, _PROGRAM),
    _later("iteration", None, "the newest checkpoint is loaded"),
    _ignored("do_train", None, _PROGRAM),
    _ignored("do_valid", None, "eval_interval decides"),
    _ignored("do_test", None, "there is no third split"),
    _rejected("global_num_gpus", None, _PROGRAM + ": num_gpus is the number of processes on a machine"),
)

_TOKENIZER = (
    _used("tokenizer_type", "GPT2BPETokenizer"),
    _rejected("padded_vocab_size", None, "weights are stored without padding: vocab_size is the true size"),
)

_EMPTY: tuple[object, ...] = (None, [])

_PATHS = {
    "train": _used("train_data_paths"),
    "test": _ignored("test_data_paths", None, _NO_TEST, _EMPTY),
    "valid": _used("valid_data_paths"),
}
_WEIGHTS = {
    "train": _used("train_data_weights"),
    "test": _ignored("test_data_weights", None, _NO_TEST, _EMPTY),
    "valid": _ignored("valid_data_weights", None, "every held-out shard is scored and reported by itself", _EMPTY),
}
_DATA_LISTS = tuple(
    key
    for split in ("train", "test", "valid")
    for key in (
        _PATHS[split],
        _later(f"{split}_label_data_paths", None, _LABELS),
        _rejected(f"{split}_reward_data_paths", None, _PREFERENCE),
        _rejected(f"pos_{split}_data_paths", None, _PREFERENCE),
        _rejected(f"neg_{split}_data_paths", None, _PREFERENCE),
        _rejected(f"pos_{split}_label_data_paths", None, _PREFERENCE),
        _rejected(f"neg_{split}_label_data_paths", None, _PREFERENCE),
        _WEIGHTS[split],
    )
)

_TRAINING = (
    _used("data_path"),
    _ignored("use_shared_fs", True, "no index files are built"),
    *_DATA_LISTS,
    _used("weight_by_num_documents", False, "as GPT-NeoX documents it; its code computes something else"),
    _used("weighted_sampler_alpha", 1.0),
    _fixed("data_impl", "infer", ("infer", "mmap"), "shards have the format that GPT-NeoX calls mmap"),
    _fixed("pack_impl", "packed", ("packed",), "documents are packed one after the other"),
    _fixed("dataset_impl", "gpt2", ("gpt2",), "only plain documents are trained on"),
    _fixed("train_impl", "normal", ("normal",), _PREFERENCE),
    _ignored("dpo_fp32", True, _PREFERENCE),
    _ignored("dpo_reference_free", False, _PREFERENCE),
    _ignored("dpo_beta", 0.1, _PREFERENCE),
    _ignored("kto_fp32", True, _PREFERENCE),
    _ignored("kto_desirable_weight", 1.0, _PREFERENCE),
    _ignored("kto_undesirable_weight", 1.0, _PREFERENCE),
    _later("z_loss", 0.0),
    _ignored("kto_beta", 0.1, _PREFERENCE),
    _ignored("fp32_reinforce", True, _PREFERENCE),
    _ignored("kl_impl", "mse", _PREFERENCE),
    _ignored("kl_div_beta", 0.1, _PREFERENCE),
    _ignored("reinforce_leave_one_out", False, _PREFERENCE),
    _ignored("allow_chopped", True, "packed documents are always cut where a sample ends"),
    _ignored("mmap_warmup", False, "the operating system's page cache does it"),
    _used("save"),
    _renamed("s3_path", None, "checkpoint_url"),
    _ignored("s3_chunk_size", 104857600, "s3fs chooses the size of parts"),
    _rejected("config_files", None, _PROGRAM),
    _used("load"),
    _later("checkpoint_validation_with_forward_pass", False),
    _later("checkpoint_scale", "linear", "use checkpoint_factor and extra_save_iters"),
    _used("checkpoint_factor"),
    _used("extra_save_iters"),
    _rejected("no_save_optim", False, "a checkpoint always holds all that a resumption needs"),
    _rejected("no_save_rng", False, "a checkpoint always holds all that a resumption needs"),
    _rejected("no_load_optim", False, "finetune: true takes only the weights"),
    _rejected("no_load_rng", False, "finetune: true takes only the weights"),
    _used("finetune", False),
    _renamed("batch_size", None, "train_micro_batch_size_per_gpu"),
    _used("train_iters"),
    _later("train_epochs", None, "use train_iters"),
    _used("eval_iters", 100, "bounds the held-out text of paths; what a manifest holds out is scored whole"),
    _used("keep_last_n_checkpoints"),
    _used("eval_interval", 1000),
    _used("split", "969, 30, 1", "the third part is not used"),
    _used("vocab_file"),
    _rejected("merge_file", None, "a Hugging Face tokenizer.json holds its merges: give it as vocab_file"),
    _ignored("num_workers", 2, "samples are read ahead of the steps in one thread of each process"),
    _used("exit_interval"),
    _fixed("attention_dropout", 0.0, (0.0,), "there is no dropout in continued pre-training"),
    _fixed("hidden_dropout", 0.0, (0.0,), "there is no dropout in continued pre-training"),
    _used("weight_decay", 0.1),
    _used("checkpoint_activations", False),
    _ignored(
        "checkpoint_num_layers", 1,
        "the input of every block is kept, a small part of what it computes; activation_memory_gib recomputes in fewer",
    ),
    _ignored("deepspeed_activation_checkpointing", True, _RECOMPUTE),
    _ignored("contiguous_checkpointing", False, _RECOMPUTE),
    _ignored("checkpoint_in_cpu", False, _RECOMPUTE),
    _ignored("synchronize_each_layer", False, _RECOMPUTE),
    _ignored("profile_backward", False, _RECOMPUTE),
    _ignored("partition_activations", False, _RECOMPUTE),
    _renamed("clip_grad", 1.0, "gradient_clipping"),
    _ignored("hysteresis", 2, _NO_LOSS_SCALE),
    _ignored("dynamic_loss_scale", None, _NO_LOSS_SCALE),
    _ignored("loss_scale", None, _NO_LOSS_SCALE),
    _ignored("loss_scale_window", 1000.0, _NO_LOSS_SCALE),
    _ignored("min_scale", 1.0, _NO_LOSS_SCALE),
    _ignored("char_level_ppl", False, "bits per byte are always reported; they compare across languages"),
    _rejected("use_mup", False, _MUP),
    _rejected("coord_check", False, _MUP),
    _rejected("save_base_shapes", False, _MUP),
    _ignored("base_shapes_file", None, _MUP),
    _ignored("mup_init_scale", 1.0, _MUP),
    _ignored("mup_attn_temp", 1.0, _MUP),
    _ignored("mup_output_temp", 1.0, _MUP),
    _ignored("mup_embedding_mult", 1.0, _MUP),
    _ignored("mup_rp_embedding_mult", 1.0, _MUP),
    _ignored("mup_width_scale", 2, _MUP),
)

_TEXTGEN = (
    _fixed("text_gen_type", None, ("unconditional", "input-file"), "sample_input_file decides about prompts"),
    _rejected("precompute_model_name", None, "outputs are not stored for other programs"),
    _used("temperature", 0.0),
    _used("top_p", 0.0),
    _used("top_k", 0),
    _rejected("return_logits", False, "generated text is written without logits"),
    _used("maximum_tokens", 64),
    _ignored("prompt_end", "\n", "there is no interactive prompt"),
    _used("sample_input_file"),
    _used("sample_output_file", "samples.txt"),
    _used("num_samples", 1),
    _ignored("recompute", False, "changes no result; keys and values are cached"),
    _renamed("eval_results_prefix", "", "eval_results"),
    _used("eval_tasks", None, "for eval.py: names of configs/benchmarks"),
)

_MOE_KEYS = (
    _rejected("moe_num_experts", 1, "only dense models are built"),
    _ignored("moe_expert_interval", 1, _MOE),
    _ignored("moe_top_k", 1, _MOE),
    _ignored("moe_router_type", "sinkhorn", _MOE),
    _ignored("moe_lbl_in_fp32", False, _MOE),
    _ignored("moe_jitter_eps", None, _MOE),
)

GROUPS: Mapping[str, tuple[NeoxKey, ...]] = MappingProxyType(
    {
        "DeepSpeed": _DEEPSPEED_CONFIG,
        "DeepSpeed's runner": _DEEPSPEED_RUNNER,
        "Parallelism": _PARALLELISM,
        "Model": _MODEL,
        "Optimizer": _OPTIMIZER,
        "Learning-rate schedule": _LR_SCHEDULER,
        "Logging": _LOGGING,
        "Other": _OTHER,
        "Tokenizer": _TOKENIZER,
        "Training": _TRAINING,
        "Text generation": _TEXTGEN,
        "Mixture of experts": _MOE_KEYS,
    }
)
"""All keys, in the groups of GPT-NeoX's own reference."""

NEOX_KEYS: Mapping[str, NeoxKey] = MappingProxyType({key.name: key for group in GROUPS.values() for key in group})
"""All keys by name."""

LATER_KEYS: Mapping[str, NeoxKey] = MappingProxyType(
    {
        key.name: key
        for key in (
            _later("learning_rate_groups", None, "one learning rate; new_tokens_lr is that of new tokens", _EMPTY),
        )
    }
)
"""Keys that neither GPT-NeoX nor this project has, but that it is to have."""

_ONE_ADAM = "only AdamW is supported: use type: Adam"
_GPT2 = "GPT-2's two files are not read: use HFTokenizer with a tokenizer.json"

REJECTED_VALUES: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("precision", "fp16"): "fp16 is not supported, since it needs loss scaling: use bfloat16",
        ("tokenizer_type", "gpt2bpetokenizer"): _GPT2,
        ("tokenizer_type", "hfgpt2tokenizer"): _GPT2,
        ("tokenizer_type", "charleveltokenizer"): "Llama models have none: use SPMTokenizer or HFTokenizer",
        ("optimizer.type", "onebitadam"): _ONE_ADAM,
        ("optimizer.type", "cpu_adam"): _ONE_ADAM,
        ("optimizer.type", "cpu_torch_adam"): _ONE_ADAM,
        ("optimizer.type", "sm3"): _ONE_ADAM,
        ("optimizer.type", "madgrad_wd"): _ONE_ADAM,
        ("optimizer.type", "sgd"): _ONE_ADAM,
        ("optimizer.type", "lion"): _ONE_ADAM,
    }
)
"""Values of used keys that GPT-NeoX knows and this project does not, with the reason; values in lower case."""
