"""Installs emma-neox. `megatron` is a namespace package, so that it lives beside megatron-core, which has one too."""

from __future__ import annotations

from pathlib import Path

from setuptools import find_namespace_packages, setup

HERE = Path(__file__).parent


def pinned(name: str) -> list[str]:
    """Return the requirements of one file, without the files that it includes."""
    lines = (HERE / "requirements" / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith(("#", "-"))]


setup(
    name="emma-neox",
    version="0.1.0",
    description="Continued pre-training of Llama models on hundreds of languages",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_namespace_packages(include=["megatron.*"]),
    package_data={"megatron.evaluation.report": ["*.html", "*.css", "*.js"], "megatron.languages": ["data/*.tsv"]},
    install_requires=pinned("requirements.txt"),
    extras_require={
        "mpi": ["mpi4py==4.1.2"],
        "fast": ["gigatoken==0.10.0"],
        "parquet": ['pyarrow==25.0.1; python_version < "3.11"', 'pyarrow==26.0.1; python_version >= "3.11"'],
        "lid": ["fasttext-predict==0.9.2.4"],
        "s3": ["s3fs==2026.9.0"],
        "wandb": ["wandb==0.31.0"],
        "perplexity": ["kenlm==0.3.0"],
        "bertscore": [
            "bert-score==0.3.13",
            'transformers==5.20.2; python_version < "3.11"',
            'transformers==5.23.0; python_version >= "3.11"',
        ],
        "translate": [
            'transformers==5.20.2; python_version < "3.11"',
            'transformers==5.23.0; python_version >= "3.11"',
        ],
        "harness": ["lm_eval==0.4.13"],
        # From torch 2.11 on, the first whose interface for compiled extensions it is built against.
        "fp8": ["torchao==0.18.0"],
        "test": pinned("requirements-test.txt"),
    },
)
