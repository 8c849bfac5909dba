#!/bin/sh
# uniapi on a shared FreeBSD host (serv00 and its like): no root, no compiler, no GNU tools.
# `sh conf/serv00.sh help` lists the commands, conf/serv00.md says it slowly.
set -eu
umask 077
PATH=$PATH:${LOCALBASE:-/usr/local}/bin # cron's has no tmux and no python
export PATH

home=${UNIAPI_HOME:-$HOME/.uniapi}
case $home in /*) ;; *) home=$PWD/$home ;; esac
venv=$home/venv
settings=$home/settings
log=$home/uniapi.log
session=${UNIAPI_SESSION:-uniapi}
mark='# uniapi: made by serv00.sh'
saved='PORT HOST CONFIG_URL DISABLE_DATABASE TIMEOUT UNIAPI_SOURCE'
log_limit=10000 # kB

usage() {
    cat <<END
usage: sh serv00.sh COMMAND

  install [PORT] [SOURCE]  install or update, and start with the machine
                           PORT: the one the panel has reserved for you
                           SOURCE: folder or wheel (default: the folder of this script)
  start | stop | restart   stop lets open streams finish, for 30 s at most
  status                   whether it runs, and where
  log [-f]                 the last 50 lines, and with -f what comes
  attach                   its tmux session; Ctrl-B D leaves it
  set NAME VALUE           a variable, for now and later (a provider's key, HOST, CONFIG_URL)
  uninstall                stop, no more start with the machine, remove the program

Everything is in $home: api.yaml (yours to write), settings, uniapi.log, data.
install keeps these variables when they are set: $saved.
END
}

say() { printf '%s\n' "$*"; }

fail() {
    printf 'serv00.sh: %s\n' "$1" >&2
    shift
    for line; do printf '    %s\n' "$line" >&2; done
    exit 1
}

# What a shell reads as one word again.
quoted() { printf '%s\n' "$1" | sed -e "s/'/'\\\\''/g" -e "1s/^/'/" -e "\$s/\$/'/"; }

me=$(quoted "$0") # in hints, so that they can be typed as they stand

save() {
    touch "$settings"
    {
        grep -v "^$1=" "$settings" || :
        printf '%s=%s\n' "$1" "$(quoted "$2")"
    } >"$settings.new"
    mv "$settings.new" "$settings"
}

# What an earlier install has saved, if anything.
kept() {
    [ ! -f "$settings" ] || (
        unset "$1"
        # shellcheck source=/dev/null
        . "$settings"
        eval "printf '%s' \"\${$1:-}\""
    )
}

load() {
    if [ ! -x "$venv/bin/python" ] || [ ! -f "$settings" ]; then
        fail "not installed in $home" "install it with: sh $me install PORT"
    fi
    set -a
    # shellcheck source=/dev/null
    . "$settings"
    set +a
    HOST=${HOST:-127.0.0.1}
    export HOST
}

address() {
    case $HOST in
    0.0.0.0 | ::) say "http://127.0.0.1:$PORT" ;;
    *:*) say "http://[$HOST]:$PORT" ;;
    *) say "http://$HOST:$PORT" ;;
    esac
}

need() {
    command -v "$1" >/dev/null 2>&1 || fail "there is no $1 here" "$2"
}

find_python() {
    for python in "${PYTHON:-}" python3.14 python3.13 python3.12 python3.11 python3 python; do
        if [ -n "$python" ] && command -v "$python" >/dev/null 2>&1 &&
            "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            return
        fi
    done
    fail "there is no Python 3.11 or newer" \
        "see what there is: ls /usr/local/bin/python3*" \
        "name one that is not on your PATH: PYTHON=/path/to/python3.11 sh $me install" \
        "as root of your own machine: pkg install python311"
}

check_port() {
    case $1 in
    '') fail "no port" \
        "reserve one in the panel (Port reservation, TCP) or with: devil port add tcp random" \
        "and name it: sh $me install PORT" ;;
    *[!0-9]* | ??????*) fail "$1 is not a port" ;;
    esac
    if [ "$1" -lt 1024 ] || [ "$1" -gt 65535 ]; then
        fail "$1 is not a port you may have" "it is one of 1024 to 65535, reserved in the panel"
    fi
}

install() {
    mkdir -p "$home"
    here=$(cd "$(dirname "$0")" && pwd)
    port=${1:-${PORT:-$(kept PORT)}}
    check_port "$port"
    from=${2:-${UNIAPI_SOURCE:-}}
    if [ -z "$from" ]; then
        from=$(kept UNIAPI_SOURCE)
        [ ! -f "$here/../pyproject.toml" ] || from=$(cd "$here/.." && pwd)
    fi
    [ -n "$from" ] || fail "nothing to install from" "name the folder with the source: sh $me install $port FOLDER"
    find_python
    need tmux "ask the host for it, or: pkg install tmux"
    need crontab "without it nothing would start with the machine"

    if ! "$venv/bin/python" -c '' 2>/dev/null; then
        say "making $venv with $(command -v "$python")"
        rm -rf "$venv"
        "$python" -m venv "$venv" || fail "no virtual environment could be made" "is the disk full? see: quota"
    fi
    say "installing from $from (nothing is compiled)"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir \
        --only-binary=:all: --upgrade --force-reinstall "$from" ||
        fail "pip could not install it" "the lines above say why; a full disk and no network are the usual reasons"

    PORT=$port UNIAPI_SOURCE=$from
    for name in $saved; do
        eval "value=\${$name:-}"
        [ -z "$value" ] || save "$name" "$value"
    done
    "$venv/bin/python" -c 'import sqlite3' 2>/dev/null ||
        say "this Python has no sqlite3, so there will be no statistics"
    # Moved into its place, since the session may be reading the old one.
    cp "$0" "$home/serv00.sh.new"
    mv "$home/serv00.sh.new" "$home/serv00.sh"
    schedule
    load
    say "installed $("$venv/bin/python" -m uniapi --version) in $home, port $PORT"
    if [ -f "$home/api.yaml" ] || [ -n "${CONFIG_URL:-}" ]; then
        say "start it with: sh $(quoted "$home/serv00.sh") restart"
    else
        say "now write $home/api.yaml, or: sh $(quoted "$home/serv00.sh") set CONFIG_URL https://…"
        say "then start it with: sh $(quoted "$home/serv00.sh") start"
    fi
}

# The lines of ours in the crontab: none, or the two we want.
schedule() {
    unscheduled >"$home/crontab.new"
    # A percent sign ends a command in a crontab.
    command="env UNIAPI_HOME=$(quoted "$home") UNIAPI_SESSION=$(quoted "$session") /bin/sh $(quoted "$home/serv00.sh")"
    command=$(printf '%s\n' "$command" | sed 's/%/\\%/g')
    {
        printf '@reboot %s boot %s\n' "$command" "$mark"
        printf '@daily %s rotate %s\n' "$command" "$mark"
    } >>"$home/crontab.new"
    crontab "$home/crontab.new" || fail "crontab refused"
    rm -f "$home/crontab.new"
}

unscheduled() { crontab -l 2>/dev/null | grep -v "$mark\$" || :; }

# Sets pid; false when it does not run.
find_pid() {
    [ -f "$home/pid" ] || return 1
    pid=$(cat "$home/pid")
    case $(ps -p "$pid" -o args= 2>/dev/null) in
    *uniapi*) ;;
    *) return 1 ;;
    esac
}

has_session() { tmux has-session -t "=$session" 2>/dev/null; }

launch() {
    need tmux "ask the host for it, or: pkg install tmux"
    rotate
    # tmux may hand this to csh: no assignments.
    tmux new-session -d -s "$session" \
        "exec env UNIAPI_HOME=$(quoted "$home") /bin/sh $(quoted "$home/serv00.sh") run" ||
        fail "tmux could not start a session" "on serv00: switch on 'Run your own applications', or: devil binexec on" \
            "then log out and in again"
}

start() {
    load
    if has_session; then
        say "it runs already: $(address)"
        return
    fi
    (cd "$home" && "$venv/bin/python" -m uniapi check) ||
        fail "not started" "mend $home/api.yaml, or: sh $me set CONFIG_URL https://…"
    launch
    if "$venv/bin/python" - "$(address)/healthz" <<'END'; then
import sys, time, urllib.request
ask = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
for _ in range(100):
    try:
        sys.exit(ask(sys.argv[1], timeout=2).status != 200)
    except OSError:
        time.sleep(0.2)
sys.exit(1)
END
        say "it runs: $(address)"
    else
        tail -n 20 "$log" >&2 || :
        stop >/dev/null
        fail "it did not start within 20 s; its last words are above" "the port must be one the panel has reserved"
    fi
}

# With the machine: what is wrong may mend itself, such as a network that is not there yet.
boot() {
    load
    has_session || launch
}

# What the session does. A crash is waited out for 5 s; what was told to end stays ended.
run() {
    load
    cd "$home"
    stopping='' child=''
    trap 'stopping=yes; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null || :' HUP INT TERM
    say "The log is in $log. Ctrl-B D leaves this session, and the gateway running."
    while [ -z "$stopping" ]; do
        "$venv/bin/python" -m uniapi serve >>"$log" 2>&1 &
        child=$!
        say "$child" >pid
        say "$(date): started, process $child"
        status=0
        wait "$child" || status=$?
        # A signal ends the waiting, not the process.
        while kill -0 "$child" 2>/dev/null; do
            status=0
            wait "$child" || status=$?
        done
        child=''
        rm -f pid
        say "$(date): ended with status $status"
        case $status in 0 | 2 | 130 | 143) break ;; esac
        sleep 5 || :
    done
}

stop() {
    if find_pid; then
        say "stopping; open streams have 30 s"
        kill -TERM "$pid"
        tries=175
        while find_pid && [ "$tries" -gt 0 ]; do
            sleep 0.2
            tries=$((tries - 1))
        done
        ! find_pid || kill -KILL "$pid"
    fi
    tmux kill-session -t "=$session" 2>/dev/null || :
    rm -f "$home/pid"
    say "stopped"
}

status() {
    load
    if find_pid; then
        say "runs as process $pid: $(address)"
    elif has_session; then
        say "is between two tries to start; see: sh $me log"
        return 1
    else
        say "does not run"
        return 1
    fi
}

# The log is copied and emptied, since the process goes on writing to it.
rotate() {
    [ -f "$log" ] || return 0
    [ "$(du -k "$log" | cut -f 1)" -gt "$log_limit" ] || return 0
    cp "$log" "$log.1"
    : >"$log"
}

uninstall() {
    stop
    unscheduled >"$home/crontab.new"
    crontab "$home/crontab.new" || fail "crontab refused"
    rm -rf "$venv" "$home/crontab.new"
    say "removed. Your configuration and data are left in $home; away with them: rm -r $(quoted "$home")"
}

command=${1:-help}
[ $# -eq 0 ] || shift
case $command in
install) install "$@" ;;
start) start ;;
stop) stop ;;
restart)
    load
    ! has_session || stop
    start
    ;;
status) status ;;
log)
    load
    touch "$log"
    if [ "${1:-}" = -f ]; then exec tail -n 50 -f "$log"; else tail -n 50 "$log"; fi
    ;;
attach) exec tmux attach-session -t "=$session" ;;
set)
    load
    case ${1:-} in
    '' | [0-9]* | *[!A-Za-z0-9_]*) fail "usage: sh $me set NAME VALUE" ;;
    PORT) check_port "${2:-}" ;;
    esac
    save "$1" "${2:-}"
    say "kept; it counts from the next: sh $me restart"
    ;;
uninstall) uninstall ;;
boot) boot ;;
run) run ;;
rotate) rotate ;;
help | -h | --help) usage ;;
*)
    usage >&2
    fail "there is no command $command"
    ;;
esac
