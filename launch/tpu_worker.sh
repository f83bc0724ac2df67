#!/usr/bin/env bash
# What launch/tpu_pod.sh asks of each host of a slice: busy, install, run COMMAND..., stop.
#
# The command outlives the connection: `run` starts it, or follows the one that runs already.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

busy() { [[ -s run.pid ]] && kill -0 "$(<run.pid)" 2>/dev/null; }

install() {
    if [[ ! -x .venv/bin/python ]]; then # the machines' own Python is older than 3.11
        python3 -m pip install --quiet --user uv
        ~/.local/bin/uv venv --quiet --seed --python 3.12 .venv
    fi
    .venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[tpu,gcs]'
}

run() {
    local known=-20 # lines that are shown where it runs already
    if ! busy; then
        known=+1
        rm -f run.pid run.code
        # shellcheck disable=SC2016
        PATH=$PWD/.venv/bin:$PATH setsid bash -c '
            launch/resumable.sh "$@" &
            echo "$!" >run.pid
            wait "$!"
            echo "$?" >run.code' run "$@" >run.log 2>&1 </dev/null &
        until [[ -s run.pid ]]; do sleep 0.1; done
    fi
    tail --pid="$(<run.pid)" -s 0.5 -n "$known" -f run.log
    sleep 1 # for the code to be written
    return "$(<run.code)"
}

stop() { if busy; then kill -TERM "$(<run.pid)"; fi; }

"$@"
