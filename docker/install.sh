#!/bin/sh
# What both recipes run inside the image, one step a call: programs, requirements, project.
set -eu

case "${1:-}" in
programs)
    # make and git for the project's commands; gcc, g++ and Python.h for torch.compile; the rest as asked for.
    apt-get update -q
    command -v python3 >/dev/null || apt-get install -q -y --no-install-recommends python3
    python3 -m pip --version >/dev/null 2>&1 || apt-get install -q -y --no-install-recommends python3-pip
    # shellcheck disable=SC2086  # a list of words
    apt-get install -q -y --no-install-recommends g++ gcc git make python3-dev ${PROGRAMS:-}
    rm -rf /var/lib/apt/lists/*
    # The commands of the documentation say `python`, some systems have python3 only. This is the image's, by any name.
    mkdir -p /opt/emma-neox-bin
    printf '#!/bin/sh\nexec python3 "$@"\n' >/opt/emma-neox-bin/python
    chmod 755 /opt/emma-neox-bin/python
    ;;
requirements)
    # PyTorch stays what the base image has: its build fits the GPUs and their driver. Without one, the pinned comes.
    torch_version() { python3 -c 'from importlib.metadata import version; print(version("torch"))' 2>/dev/null; }
    folder=$(mktemp -d)
    cp requirements/*.txt "$folder"
    : >"$folder/constraints"
    if base=$(torch_version); then
        case $base in
        2.11.* | 2.12.* | 2.13.*) ;;
        *) echo "BASE has PyTorch $base; emma-neox needs 2.11, 2.12 or 2.13" >&2 && exit 1 ;;
        esac
        echo "torch==$base" >"$folder/constraints"
        sed -i '/^torch==/d' "$folder"/*.txt
    fi
    # The image has one Python for one purpose, so pip may write where the system's own packages lie.
    PIP_BREAK_SYSTEM_PACKAGES=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore \
        python3 -m pip install --constraint "$folder/constraints" -r "$folder/${2:-requirements-test.txt}"
    rm -rf "$folder"
    python3 -c 'import torch; print("PyTorch", torch.__version__)'
    [ "${base:-$(torch_version)}" = "$(torch_version)" ]
    ;;
project)
    PIP_BREAK_SYSTEM_PACKAGES=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore \
        python3 -m pip install --no-deps --editable .
    # Images are read-only on clusters: what Python would write beside its modules is written now.
    python3 -m compileall -q megatron ./*.py
    ;;
*)
    echo "usage: $0 programs | requirements [FILE] | project" >&2
    exit 2
    ;;
esac
