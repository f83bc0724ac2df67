#!/usr/bin/env bash
set -euo pipefail

usage() {
    cat <<'END'
Runs a command as several processes of one run on this machine, and again after a crash:

    launch/local.sh -n 2 python -m inr_gan_jax.main --config=configs/digits.py --workdir=runs/digits

-n, --processes=N        processes (default 2)
--restarts=N             how often all are started again after one died (default 3)
--devices_per_process=N  CPU: devices that each process makes of its cores (default: 1);
                         GPU: GPUs of each process (default: an equal share of all)
--grace=SECONDS          after one died, the others get this long to end by themselves, and again
                         after TERM; then KILL (default 5)
--logs=DIR               output of all but the first process (default: a new temporary folder)
--dry_run                print what would be run

The first process speaks on the console. Where there are NVIDIA GPUs (those of CUDA_VISIBLE_DEVICES,
if that is set) each process gets its own; JAX_PLATFORMS=cpu leaves them alone. TERM, HUP and Ctrl-C
are passed on, once; the processes then save, however long it takes; a second one kills them. The
exit code is that of the process that ended first with another than 0; code 2, a user's error, is
not tried again.
END
}

say() { echo "launch/local.sh: $*" >&2 || true; } # the terminal may be gone, saving goes on

fail() {
    say "error: $*"
    exit 2
}

parse() {
    local parsed
    parsed=$(getopt -n launch/local.sh -o +hn: \
        -l help,dry_run,processes:,restarts:,devices_per_process:,grace:,logs: -- "$@") || exit 2
    eval set -- "$parsed"
    processes=2 restarts=3 devices='' grace=5 logs='' dry_run=''
    while [[ $1 != -- ]]; do
        case $1 in
            -h | --help) usage && exit ;;
            --dry_run) dry_run=yes && shift && continue ;;
            -n | --processes) processes=$2 ;;
            --restarts) restarts=$2 ;;
            --devices_per_process) devices=$2 ;;
            --grace) grace=$2 ;;
            --logs) logs=$2 ;;
        esac
        shift 2
    done
    command=("${@:2}")
    ((${#command[@]})) || fail "no command to run (see --help)"
    [[ $processes =~ ^[1-9][0-9]*$ ]] || fail "-n $processes: how many processes?"
    [[ $restarts =~ ^[0-9]+$ ]] || fail "--restarts=$restarts must be a number"
    [[ $grace =~ ^[0-9]+$ ]] || fail "--grace=$grace must be a number"
    [[ $devices =~ ^([1-9][0-9]*)?$ ]] || fail "--devices_per_process=$devices must be a number"
}

find_gpus() {
    gpus=()
    [[ ${JAX_PLATFORMS:-} != cpu ]] || return 0
    if [[ -n ${CUDA_VISIBLE_DEVICES:-} ]]; then
        IFS=, read -ra gpus <<<"$CUDA_VISIBLE_DEVICES"
    elif command -v nvidia-smi >/dev/null; then
        mapfile -t gpus < <(nvidia-smi --query-gpu=index --format=csv,noheader | grep -x '[0-9]*')
    fi
    local all=${#gpus[@]}
    ((all == 0 || processes * ${devices:-1} <= all)) || fail "$processes processes with" \
        "${devices:-1} GPU each do not fit on $all; JAX_PLATFORMS=cpu runs them on the CPU"
}

free_port() { # nobody listens on it now; below the range that the system hands out
    local port
    while :; do
        port=$((20000 + RANDOM % 10000))
        (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

variables_of() { # the environment of process $1 as lines; all processes share $port
    local own=${devices:-$((${#gpus[@]} / processes))}
    printf '%s\n' "JAX_COORDINATOR_ADDRESS=127.0.0.1:$port" \
        "JAX_COORDINATOR_BIND_ADDRESS=127.0.0.1:$port" \
        "JAX_NUM_PROCESSES=$processes" "JAX_PROCESS_ID=$1"
    if ((${#gpus[@]})); then
        (IFS=, && echo "CUDA_VISIBLE_DEVICES=${gpus[*]:$1*own:own}")
    elif [[ -n $devices ]]; then
        echo "XLA_FLAGS=${XLA_FLAGS:+$XLA_FLAGS }--xla_force_host_platform_device_count=$devices"
    fi
}

# Kills what is left once this script is gone, however that happened: its input then ends. Lines of
# it are process groups; an empty one says that none is left.
guard() {
    # shellcheck disable=SC2016
    exec setsid bash -c '
        trap "" TERM INT HUP
        while read -r group; do
            if [[ $group ]]; then groups+=("$group" "-$group"); else groups=(); fi
        done
        kill -KILL -- "${groups[@]}"' >/dev/null 2>&1
}

start() { # process $1, in a session of its own: Ctrl-C reaches this script alone
    local -a variables
    mapfile -t variables < <(variables_of "$1")
    (
        (($1 == 0)) || exec >>"$logs/process-$1.log" 2>&1
        echo "$BASHPID" >&"$guard"
        exec {guard}>&- {never}>&-
        exec setsid env "${variables[@]}" "${command[@]}"
    ) &
    running[$1]=$!
}

pass_on() { # to each process that has not been told yet
    local process
    for process in "${!running[@]}"; do
        [[ -z ${told[process]:-} ]] || continue
        told[process]=yes
        kill -TERM "${running[process]}" 2>/dev/null || true
    done
}

kill_all() {
    local pid
    for pid in "${running[@]}"; do
        kill -KILL -- "-$pid" 2>/dev/null || true
    done
}

asked_to_stop() {
    if ((asked == 0)); then
        asked=1 asked_at=$SECONDS
        say "stopping: all processes are told to save; once more: kills them"
        pass_on
    elif ((SECONDS - asked_at > 1)); then # some senders, such as timeout, say it twice
        kill_all
    fi
}

ended() { # process $1 has: how?
    local process=$1 pid=${running[$1]} status=0 how
    { wait "$pid" || status=$?; } 2>/dev/null # bash has its own words for signals
    unset "running[$process]"
    kill -KILL -- "-$pid" 2>/dev/null || true # what it may have started
    [[ $status != 0 && ! ($failed && ${told[process]:-}) ]] || return 0
    how="exit code $status"
    ((status <= 128)) || how+=", signal $(kill -l "$status" 2>/dev/null || echo unknown)"
    ((process == 0)) || how+="; see $logs/process-$process.log"
    say "process $process (pid $pid) died: $how"
    if [[ ! $failed ]]; then code=$status failed=$SECONDS; fi
}

attempt() { # runs all processes to their end; $code: of the one that failed first, or 0
    local process pid
    port=$(free_port) code=0 failed=''
    running=() told=()
    echo >&"$guard"
    for ((process = 0; process < processes && asked == 0; process++)); do start "$process"; done
    if ((asked)); then pass_on; fi
    while ((${#running[@]})); do
        read -rt 0.2 -u "$never" || true # sleeps
        for process in "${!running[@]}"; do
            kill -0 "${running[process]}" 2>/dev/null || ended "$process"
        done
        [[ $failed ]] || continue
        # Without one of them the others cannot go on; they get the time to say what they know.
        if ((SECONDS - failed > grace)); then pass_on; fi
        if ((SECONDS - failed > 2 * grace)); then kill_all; fi
    done
    echo >&"$guard"
}

main() {
    parse "$@"
    find_gpus
    if [[ $dry_run ]]; then
        local process variables
        port=$(free_port)
        for ((process = 0; process < processes; process++)); do
            mapfile -t variables < <(variables_of "$process")
            echo "env$(printf ' %q' "${variables[@]}" "${command[@]}")"
        done
        return
    fi
    if ((processes > 1)); then
        logs=${logs:-$(mktemp -d -t inr_gan_jax.XXXXXX)}
        mkdir -p "$logs"
        say "$processes processes; logs of all but the first: $logs"
    fi
    exec {never}<> <(:)
    exec {guard}> >(guard)
    running=() told=() asked=0 code=0
    trap asked_to_stop TERM INT HUP
    local restart
    for ((restart = 0; asked == 0; restart++)); do
        attempt
        ((code != 0 && code != 2 && asked == 0 && restart < restarts)) || break
        say "starting all processes again ($((restart + 1)) of $restarts)"
    done
    exit "$code"
}

main "$@"
