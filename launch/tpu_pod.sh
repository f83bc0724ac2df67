#!/usr/bin/env bash
set -euo pipefail

usage() {
    cat <<'END'
Runs a command on all hosts of a Cloud TPU slice, which it makes, or finds, and deletes at the end:

    launch/tpu_pod.sh --name=faces --zone=us-east5-b --type=v6e-16 --spot \
        python -m inr_gan_jax.main --config=configs/ffhq.py --workdir=gs://bucket/faces

--name=NAME       of the queued resource and its TPU
--zone=ZONE
--type=TYPE       accelerator type, such as v5litepod-16
--project=ID      (default: gcloud's)
--runtime=NAME    software of the machines (default: Google's advice for the type)
--spot            cheaper, and may be taken away at any time
--restarts=N      how often it runs again, on a new slice where that was taken away (default 10)
--keep            do not delete the slice at the end: it goes on costing money
--log=FILE        copy of the output (default NAME.log)
--dry_run         print what would be run

The code is the last commit. Ctrl-C and TERM make the run save and end; once more: end without.
Where this script was killed, the slice and its run go on: the same command finds them again.
END
}

say() { echo "launch/tpu_pod.sh: $*" >&2 || true; } # the terminal may be gone

fail() {
    say "error: $*"
    exit 2
}

parse() {
    local parsed
    parsed=$(getopt -n launch/tpu_pod.sh -o +h -l help,spot,keep,dry_run \
        -l name:,zone:,type:,project:,runtime:,restarts:,log: -- "$@") || exit 2
    eval set -- "$parsed"
    name='' zone='' type='' project='' runtime='' spot='' restarts=10 keep='' log='' dry_run=''
    while [[ $1 != -- ]]; do
        case $1 in
            -h | --help) usage && exit ;;
            --spot | --keep | --dry_run) printf -v "${1#--}" yes && shift && continue ;;
            *) printf -v "${1#--}" %s "$2" ;;
        esac
        shift 2
    done
    command=("${@:2}")
    [[ $name && $zone && $type ]] || fail "give --name, --zone and --type (see --help)"
    [[ $restarts =~ ^[0-9]+$ ]] || fail "--restarts=$restarts must be a number"
    ((${#command[@]})) || fail "no command to run (see --help)"
    [[ " ${command[*]}" == *" --workdir=gs://"* ]] || fail "all hosts must see the run's folder," \
        "and it must outlive them: --workdir=gs://BUCKET/FOLDER"
    log=${log:-$name.log}
    if [[ ! $runtime ]]; then
        case $type in
            v5litepod-*) runtime=v2-alpha-tpuv5-lite ;;
            v5p-*) runtime=v2-alpha-tpuv5 ;;
            v6e-*) runtime=v2-alpha-tpuv6e ;;
            *) runtime=tpu-ubuntu2204-base ;;
        esac
    fi
}

run() {
    if [[ $dry_run ]]; then
        printf '%q ' "$@" && echo
    else
        "$@"
    fi
}

tpus() { # GROUP VERB ...
    run gcloud compute tpus "$@" --zone="$zone" ${project:+"--project=$project"} --quiet
}

on_all() { # a command line for the shell of each host
    tpus tpu-vm ssh "$name" --worker=all --ssh-flag=-oServerAliveInterval=30 --command="$1"
}

create() {
    tpus queued-resources create "$name" --node-id="$name" --accelerator-type="$type" \
        --runtime-version="$runtime" ${spot:+--spot}
}

delete() { tpus queued-resources delete "$name" --force; }

state() { # of the queued resource, or nothing where there is none
    local queued node
    queued=$(tpus queued-resources list --filter="name~/$name\$" \
        --format='value(state.state)') || return
    if [[ $queued == ACTIVE ]]; then # it may say so for a while after its TPU was taken away
        node=$(tpus tpu-vm list --filter="name~/$name\$" --format='value(state)') || return
        [[ $node != PREEMPTED && $node != TERMINATED ]] || queued=SUSPENDED
    fi
    echo "$queued"
}

get_slice() {
    local now before='' asked=0
    while true; do
        now=$(state)
        [[ $now == "$before" ]] || say "slice $name: ${now:-none yet}"
        before=$now
        case $now in
            ACTIVE) break ;;
            '')
                ((++asked <= 3)) || fail "slice $name was asked for 3 times in vain"
                create
                ;;
            FAILED | SUSPENDED) delete ;;
            *) sleep 30 ;; # in the queue, or being made or deleted
        esac
    done
}

copy_code() { # and install it, unless a run that was left alone uses it
    tpus tpu-vm scp "$archive" "$name:inr_gan_jax.tar.gz" --worker=all &&
        on_all "inr_gan_jax/launch/tpu_worker.sh busy 2>/dev/null || { mkdir -p inr_gan_jax && \
tar -xzf inr_gan_jax.tar.gz -C inr_gan_jax && inr_gan_jax/launch/tpu_worker.sh install; }"
}

run_command() { # its exit code: 75 where it stopped and saved
    local child code=0
    # Ctrl-C must reach this script alone.
    (
        [[ $dry_run ]] || exec > >(exec setsid tee -a "$log") 2>&1
        trap '' INT
        on_all "inr_gan_jax/launch/tpu_worker.sh run$(printf ' %q' "${command[@]}")"
    ) &
    child=$!
    running=yes
    while kill -0 "$child" 2>/dev/null; do # a trap interrupts wait
        wait "$child" || true
    done
    running=''
    wait "$child" || code=$?
    return "$code"
}

# shellcheck disable=SC2329 # the traps call these two
asked_to_stop() {
    if [[ ! $running || $stopping ]]; then exit 130; fi
    stopping=yes
    say "stopping: the run is told to save"
    on_all "inr_gan_jax/launch/tpu_worker.sh stop" || true
}

# shellcheck disable=SC2329
finish() {
    [[ $dry_run ]] || rm -f "$archive"
    if [[ $keep ]]; then
        say "slice $name is kept, and costs money (--keep)"
    else
        delete || say "slice $name may still be there, and cost money: delete it by hand"
    fi
}

main() {
    parse "$@"
    archive=inr_gan_jax.tar.gz running='' stopping=''
    [[ $dry_run ]] || archive=$(mktemp -t inr_gan_jax.XXXXXX.tar.gz)
    run git -C "$(dirname "${BASH_SOURCE[0]}")/.." archive -o "$archive" HEAD
    trap '' HUP # a closed terminal is no reason to stop
    trap asked_to_stop INT TERM
    trap finish EXIT
    if [[ $dry_run ]]; then
        create && copy_code && run_command
        exit
    fi
    local restart code
    for ((restart = 0; restart <= restarts; restart++)); do
        get_slice
        code=0
        { copy_code && run_command; } || code=$?
        if [[ $stopping && $code == 75 ]]; then code=0; fi
        [[ $code != 0 && $code != 2 && ! $stopping ]] || break
        say "the run ended with exit code $code"
    done
    exit "$code"
}

main "$@"
