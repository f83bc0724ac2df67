#!/usr/bin/env bash
# Runs a command for a scheduler that starts again what fails: `launch/resumable.sh COMMAND...`.
#
# Training that was told to stop saves and exits with 0, as a finished one does. Here that becomes
# exit code 75 ("try again later"); all other codes stay. TERM and INT go to the command.
set -euo pipefail

said=$(mktemp)
trap 'rm -f "$said"' EXIT
exec {out}> >(exec sed -u "/^stopped .*the same command goes on$/w $said")
printer=$!
"$@" >&"$out" {out}>&- &
child=$!
exec {out}>&-
trap 'kill -TERM "$child" 2>/dev/null || true' TERM INT

while kill -0 "$child" 2>/dev/null; do # a trap interrupts wait
    wait "$child" || true
done
code=0
wait "$child" || code=$?
if ((code == 0)); then
    wait "$printer"
    if [[ -s $said ]]; then
        code=75
    fi
fi
exit "$code"
