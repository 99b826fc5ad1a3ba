#!/bin/sh
# Runs the scripts of a directory in the order of their names, each once: what is done is not done again at the next boot when one
# after it has failed.
#
#   first-boot [DIRECTORY STATE LOG]
set -u
directory=${1-/usr/lib/kiln/first-boot.d}
state=${2-/var/lib/kiln}
log=${3-/var/log/kiln-first-boot.log}
PATH=/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin
export PATH

# What a script prints goes to the log, and on when it ends. Not through a pipe: that would wait for whatever the script left running.
run() {
    before=$(wc -c <"$log")
    "$1" </dev/null >>"$log" 2>&1
    status=$?
    tail -c "+$((before + 1))" "$log"
    return "$status"
}

note() {
    echo "first-boot: $*" | tee -a "$log"
}

umask 022
mkdir -p "$state/first-boot" || exit 1
(umask 077 && : >>"$log") || exit 1
for script in "$directory"/*; do
    name=${script##*/}
    [ -x "$script" ] && [ ! -e "$state/first-boot/$name.done" ] || continue
    note "$name"
    run "$script" || {
        status=$?
        note "$name failed with status $status; what it printed is in $log"
        exit "$status"
    }
    : >"$state/first-boot/$name.done"
done
: >"$state/first-boot.done"
