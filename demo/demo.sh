#!/bin/bash
# make demo: berth's main job, done by the real programs on this machine, seen with the tools of others.
#
# A redis-server comes up from a dropped file with its own pid and ipc namespaces and a private /tmp; another one from an
# image, in a root of its own; a third spec has a mistake; berthd is killed with -9 and comes back; the files are removed
# and everything is gone. Each step is checked,
# and the exit status is 0 only if all were seen to work. With systemd as PID 1 the containers are its services,
# elsewhere berthd itself runs them. What the demo puts on the machine, it takes away again, also when it fails.
set -euo pipefail

cd "$(dirname "$(realpath "$0")")/.."
export PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin

readonly specs=/etc/berth/containers state=/run/berth/state.json name=demo-redis imaged=demo-image wrong=demo-wrong
readonly containers=("$name" "$imaged" "$wrong")
units=("${containers[@]/#/berth@}")
units=("${units[@]/%/.service}")
files=("${containers[@]/#/$specs/}")
files=("${files[@]/%/.toml}")
readonly patience=20 # seconds, for what takes a fraction of one

# ---------------------------------------------------------------- how it looks

bold='' dim='' green='' red='' plain=''
if [[ -t 1 && -z ${NO_COLOR-} ]]; then
	bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
fi

steps=0
step() {
	steps=$((steps + 1))
	printf '\n%s%d. %s%s\n' "$bold" "$steps" "$*" "$plain"
}
seen() { printf '   %s✓%s %s\n' "$green" "$plain" "$*"; }
fail() {
	printf '   %s✗ %s%s\n' "$red" "$*" "$plain" >&2
	exit 1
}
indent() { sed "s/^/   $dim|$plain /"; }

# show COMMAND...: the command and what it prints. Its exit status is left in $status.
show() {
	printf '   %s$ %s%s\n' "$dim" "$*" "$plain"
	status=0
	"$@" >"$scratch/shown" 2>&1 || status=$?
	indent <"$scratch/shown"
}

# await WHAT COMMAND...: tries until the command succeeds.
await() {
	local what=$1 deadline=$((SECONDS + patience))
	shift
	until "$@" >/dev/null 2>&1; do
		((SECONDS < deadline)) || fail "not seen within $patience s: $what"
		read -r -t 0.05 <>"$scratch/never" || true
	done
	seen "$what"
}

# ---------------------------------------------------------------- what it asks

container() { jq -er --arg name "$1" ".containers[] | select(.name == \$name) | $2" "$state"; }
is_state() { [[ $(container "$1" .state) == "$2" ]]; }
is_known() { container "$1" .name; }
is_forgotten() { ! is_known "$1"; }
is_not_failed() { ! systemctl is-failed --quiet "berth@$1.service"; }
daemon_pid() { jq -er .daemon.pid "$state"; }
redis() { redis-cli -h 127.0.0.1 -p "$port" "$@"; }
answers() { [[ $(redis-cli -h 127.0.0.1 -p "${1:-$port}" ping) == PONG ]]; }
are_closed() { is_closed "$port" && is_closed "$port_imaged"; }
are_forgotten() { is_forgotten "$name" && is_forgotten "$imaged"; }
is_closed() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1"); }
# Also if its parent has not yet asked how it ended.
is_gone() { [[ ! -e /proc/$1 || $(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) != [RSDTtIP]* ]]; }
namespace() { readlink "/proc/$1/ns/$2"; }
in_container() { nsenter --target "$pid" --mount --pid -- "$@"; }

is_new_daemon() {
	local now
	now=$(daemon_pid) && [[ $now != "$1" && $(cat "/proc/$now/comm") == berthd ]]
}

# ---------------------------------------------------------------- before and after

require_root() {
	((EUID == 0)) && return
	command -v sudo >/dev/null || { echo "demo: needs root, to make namespaces" >&2; exit 1; }
	exec sudo -- "$0"
}

# A redis-server that the demo brings to the machine shall not run there beside the demo's own.
install_needs() {
	tests/install-needs demo
	command -v redis-server >/dev/null && return
	if [[ $manager == systemd ]]; then systemctl mask --runtime --quiet redis-server.service; fi
	apt-get install --yes --no-install-recommends redis-server </dev/null >"$scratch/apt" 2>&1 ||
		{ cat "$scratch/apt" >&2; exit 1; }
	if [[ $manager == systemd ]]; then
		systemctl unmask --runtime --quiet redis-server.service
		systemctl disable --quiet redis-server.service || true
	fi
}

# The demo does not touch a berth that somebody works with.
refuse_if_in_use() {
	local file pid
	for file in /{etc,run,usr/local/lib,usr/lib}/berth/containers/*; do
		[[ ! -e $file && ! -L $file ]] || { echo "demo: berth is in use on this machine: $file" >&2; exit 1; }
	done
	for pid in /proc/[0-9]*; do
		[[ $(cat "$pid/comm" 2>/dev/null) != berthd || $(namespace "${pid#/proc/}" pid) != "$(namespace self pid)" ]] ||
			{ echo "demo: a berthd runs already, process ${pid#/proc/}" >&2; exit 1; }
	done
}

free_ports() {
	port=16379
	until is_closed "$port" 2>/dev/null; do port=$((port + 1)); done
	port_imaged=$((port + 1))
	until is_closed "$port_imaged" 2>/dev/null; do port_imaged=$((port_imaged + 1)); done
}

# build_image LAYOUT: an image of nothing but redis-server, what it is linked to, and a user, made by umoci.
build_image() {
	local bundle=$scratch/bundle root=$scratch/bundle/rootfs library
	umoci init --layout "$1"
	umoci new --image "$1:redis"
	umoci unpack --image "$1:redis" "$bundle"
	mkdir -p "$root"/{usr/bin,etc,proc,sys,dev}
	cp -L "$(command -v redis-server)" "$root/usr/bin/"
	for library in $(ldd "$root/usr/bin/redis-server" | grep -o '/[^ )]*'); do
		mkdir -p "$root${library%/*}"
		cp -L "$library" "$root$library"
	done
	echo 'keeper:x:6379:6379::/:/usr/sbin/nologin' >"$root/etc/passwd"
	umoci repack --image "$1:redis" "$bundle"
	umoci config --image "$1:redis" --config.entrypoint /usr/bin/redis-server --config.cmd --port --config.cmd 6379 \
		--config.user keeper
}

start_berthd() {
	if [[ $manager == systemd ]]; then
		systemctl start berthd.socket berthd.service
	else
		setsid berthd --manager direct </dev/null >>"$scratch/berthd.log" 2>&1 &
		disown
	fi
}

stop_berthd() {
	local pid
	if [[ $manager == systemd ]]; then
		systemctl stop berthd.service berthd.socket
	elif pid=$(daemon_pid 2>/dev/null) && [[ $(cat "/proc/$pid/comm" 2>/dev/null) == berthd ]]; then
		kill -TERM "$pid"
		local deadline=$((SECONDS + patience))
		until is_gone "$pid" || ((SECONDS >= deadline)); do read -r -t 0.05 <>"$scratch/never" || true; done
	fi
}

# Directories that were not there before; the others lose what the demo put there.
declare -a made=()
note_directories() {
	local directory
	for directory in /etc/berth /run/berth /var/lib/berth /var/lib/berth/images /var/log/berth; do
		[[ -d $directory ]] || made+=("$directory")
	done
}

clean_up() {
	local result=$? pid
	trap - EXIT
	set +e
	rm -f "${files[@]}"
	if ((result != 0)); then
		echo
		echo "What berthd said last:"
		if [[ $manager == systemd ]]; then
			journalctl --no-pager --quiet --lines 30 --unit berthd "${units[@]/#/--unit=}" | indent
		else
			tail -n 30 "$scratch/berthd.log" 2>/dev/null | indent
		fi
		if [[ $manager == direct ]]; then berthctl stop "$name" "$imaged" >/dev/null 2>&1; fi
	fi
	if [[ $manager == systemd ]]; then systemctl stop "${units[@]}" 2>/dev/null; fi
	stop_berthd
	if [[ $manager == systemd ]] && ((result != 0)); then systemctl reset-failed "${units[@]}" 2>/dev/null; fi
	while read -r pid; do
		if [[ $(cat "/proc/$pid/comm" 2>/dev/null) == redis-server ]]; then kill -KILL "$pid"; fi
	done < <(cat "$scratch/pids" 2>/dev/null)
	berthctl rmi "$image" >/dev/null 2>&1
	rm -rf "${containers[@]/#//var/lib/berth/sandboxes/}" "/var/log/berth/$name.log" "/var/log/berth/$imaged.log" \
		"$host_file"
	if [[ $installed_here ]]; then
		make --no-print-directory uninstall >"$scratch/uninstall" 2>&1 || { cat "$scratch/uninstall"; result=1; }
	fi
	((${#made[@]} == 0)) || rm -rf "${made[@]}"
	if [[ $group_made ]]; then groupdel berth; fi
	rm -rf "$scratch"
	if ((result == 0)); then
		printf '\n%sAll %d steps were seen to work; nothing of the demo is left.%s\n' "$bold$green" "$steps" "$plain"
	else
		printf '\n%sThe demo failed in step %d.%s\n' "$bold$red" "$steps" "$plain"
	fi
	exit "$result"
}

require_root
scratch=$(mktemp -d) manager=direct installed_here='' group_made='' host_file='' image='' status=0 pid='' port=''
mkfifo "$scratch/never"
if [[ -d /run/systemd/system ]]; then manager=systemd; fi
refuse_if_in_use
install_needs
note_directories
host_file=$(mktemp /tmp/of-the-host.XXXXXX)
trap clean_up EXIT
trap 'exit 130' INT TERM

# ---------------------------------------------------------------- the demo

if [[ $manager == systemd ]]; then
	who="$(systemctl --version | head -n 1)"
else
	who="no systemd here: berthd itself is the service manager (the direct manager)"
fi
printf '%sberth: containers from TOML files.%s Linux %s, %s.\n' "$bold" "$plain" "$(uname -r)" "$who"

step "berthd is installed and started"
if ! command -v berthd >/dev/null; then
	installed_here=yes
	getent group berth >/dev/null || group_made=yes
	make --no-print-directory install PREFIX=/usr/local >"$scratch/install" 2>&1 || { cat "$scratch/install"; fail "make install"; }
	seen "make install PREFIX=/usr/local, for the time of the demo"
fi
hash -r
start_berthd
await "berthd runs and writes $state" daemon_pid
first_daemon=$(daemon_pid)

step "A file is dropped into $specs: redis, isolated"
free_ports
mkdir -p "$specs"
cat >"$scratch/$name.toml" <<TOML
description = "redis-server from Debian"
command = ["/usr/bin/redis-server", "--bind", "127.0.0.1", "--port", "$port"]
user = "redis"

[[volumes]]
container_path = "/tmp"
host_path = "tmp"

[namespaces]
pid = "private"
ipc = "private"
shm_size = "16MiB"

[service]
restart = "on-failure"
TOML
indent <"$scratch/$name.toml"
mv "$scratch/$name.toml" "$specs/"
await "it runs, and nobody reloaded anything" is_state "$name" running
await "it answers: redis-cli -p $port ping says PONG" answers
pid=$(container "$name" .main_pid)
echo "$pid" >>"$scratch/pids"
show berthctl list
grep -q "$name" "$scratch/shown" || fail "berthctl list does not show $name"
seen "berthctl list shows it"

step "It is isolated"
for kind in pid ipc mnt; do
	[[ $(namespace "$pid" "$kind") != "$(namespace self "$kind")" ]] || fail "it shares the host's $kind namespace"
	seen "its $kind namespace is its own: $(namespace "$pid" "$kind"), the host's is $(namespace self "$kind")"
done
show nsenter --target "$pid" --mount --pid -- ps -e -o pid,user,args
awk 'NR > 1 && $1 == 1 && /redis-server/ { redis = 1 } NR > 1 && !/redis-server/ && !/ps -e/ { other = 1 }
	END { exit !(redis && !other) }' "$scratch/shown" || fail "it sees more than itself"
seen "inside, redis is PID 1 and sees nobody else (but the ps that looks)"
[[ -z $(in_container ls -A "$host_file" 2>/dev/null) ]] || fail "it sees $host_file"
in_container touch /tmp/of-the-container
[[ ! -e /tmp/of-the-container ]] || fail "its /tmp is the host's"
sandbox=$(container "$name" .sandbox)
[[ -e $sandbox/tmp/of-the-container ]] || fail "$sandbox/tmp is not its /tmp"
[[ $(stat -c %a "$sandbox/tmp") == "$(stat -c %a /tmp)" ]] || fail "$sandbox/tmp has not the mode of /tmp"
seen "its /tmp is private: it is $sandbox/tmp, mode $(stat -c %a "$sandbox/tmp")"
[[ $(in_container df --block-size=1 --output=size /dev/shm | tail -n 1) -eq $((16 << 20)) ]] || fail "/dev/shm is not 16 MiB"
seen "its /dev/shm is private and has 16 MiB"
[[ $(stat -c %U "/proc/$pid") == redis ]] || fail "it does not run as redis"
seen "it runs as the user redis"
if [[ $manager == systemd ]]; then
	show systemctl status --no-pager --lines 0 "berth@$name"
	[[ $(systemctl show --property MainPID --value "berth@$name") == "$pid" ]] || fail "systemd has another main PID"
	cgroup=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)$(container "$name" .cgroup)
	[[ $(cat "$cgroup/cgroup.procs") == "$pid" ]] || fail "there is more in its cgroup than redis"
	seen "its unit is berth@$name.service, with redis alone in the cgroup: no process of berth stays with it"
fi

step "Another redis comes from an image, and has a root of its own"
image=oci:$scratch/image:redis
build_image "$scratch/image" >"$scratch/umoci" 2>&1 || { cat "$scratch/umoci"; fail "umoci made no image"; }
seen "umoci has made an image of redis-server, its libraries and a user"
show berthctl pull "$image"
((status == 0)) || fail "it was not pulled"
# Nothing to write to is wanted, so there is no need of a file system that can be the upper one of an overlay.
cat >"$scratch/$imaged.toml" <<TOML
# The program is the image's Entrypoint, and the user the image's too.
[command]
shell = false
arguments = ["--bind", "127.0.0.1", "--port", "$port_imaged", "--save", ""]

[image]
source = "$image"
read_only = true
TOML
indent <"$scratch/$imaged.toml"
show berthctl check "$scratch/$imaged.toml"
((status == 0)) || fail "berthctl check does not like it"
mv "$scratch/$imaged.toml" "$specs/"
await "it runs" is_state "$imaged" running
await "it answers: redis-cli -p $port_imaged ping says PONG" answers "$port_imaged"
pid_imaged=$(container "$imaged" .main_pid)
echo "$pid_imaged" >>"$scratch/pids"
show ls "/proc/$pid_imaged/root"
[[ ! -e /proc/$pid_imaged/root/root && ! -e /proc/$pid_imaged/root/usr/bin/env ]] || fail "it sees more than its image"
seen "its root is the image and nothing of the host's"
[[ $(stat -c %u "/proc/$pid_imaged") == 6379 ]] || fail "it does not run as the image's user"
seen "it runs as uid 6379, whom only the image's own /etc/passwd knows"
digest=$(jq -r '.manifests[0].digest' "$scratch/image/index.json")
[[ $(container "$imaged" .image.digest) == "$digest" ]] || fail "the state file has another digest"
seen "the state file says which image runs: $digest"

step "A third spec has a mistake"
cat >"$scratch/$wrong.toml" <<'TOML'
comand = ["/usr/bin/sleep", "infinity"]

[service]
restart = "on-failure"
TOML
show berthctl check "$scratch/$wrong.toml"
((status == 2)) || fail "berthctl check ended with $status instead of 2"
grep -q 'command' "$scratch/shown" || fail "berthctl check does not name the key that was meant"
seen "berthctl check shows the place, names the key that was meant, and ends with 2"
mv "$scratch/$wrong.toml" "$specs/"
await "dropped all the same, it is reported as invalid" is_state "$wrong" invalid
container "$wrong" '.spec.errors[]' | indent
show berthctl start "$wrong"
((status != 0)) || fail "an invalid container was started"
seen "it cannot be started"
[[ $(container "$name" .main_pid) == "$pid" ]] || fail "redis was restarted"
answers || fail "redis does not answer"
seen "redis was not disturbed"
rm "$specs/$wrong.toml"
await "its file removed, it is forgotten" is_forgotten "$wrong"
[[ $manager != systemd ]] || await "and systemd lists no failed unit of it" is_not_failed "$wrong"

step "berthd is killed with -9 and comes back"
redis set greeting "still here" >/dev/null
kill -KILL "$first_daemon"
await "berthd (process $first_daemon) is dead" is_gone "$first_daemon"
if ! answers || ! answers "$port_imaged"; then fail "redis does not answer without berthd"; fi
seen "both answer without berthd"
if [[ $manager == systemd ]]; then
	await "systemd has started a new one" is_new_daemon "$first_daemon"
else
	start_berthd
	await "a new one is started, as this host's init would" is_new_daemon "$first_daemon"
fi
await "the new berthd says that $name runs" is_state "$name" running
await "and that $imaged does" is_state "$imaged" running
[[ $(container "$imaged" .main_pid) == "$pid_imaged" ]] || fail "the one from the image was restarted"
[[ $(container "$name" .main_pid) == "$pid" && $(container "$name" .restarts) == 0 ]] || fail "redis was restarted"
[[ $(redis get greeting) == "still here" ]] || fail "redis has lost its data"
seen "redis is still process $pid and still knows its data: $(redis get greeting)"

step "The files are removed"
rm "$specs/$name.toml" "$specs/$imaged.toml"
await "redis (process $pid) has ended" is_gone "$pid"
await "the one from the image (process $pid_imaged) too" is_gone "$pid_imaged"
await "their ports are closed" are_closed
await "berthd has forgotten them" are_forgotten
[[ -e $sandbox/tmp/of-the-container ]] || fail "the sandbox is gone before its time"
seen "its last sandbox stays for a look, by the retention rule (5 runs, 7 days): $sandbox"
show berthctl list
if [[ $manager == systemd ]]; then
	[[ -z $(systemctl list-units --plain --no-legend --state active "berth@*") ]] || fail "a unit is left"
	[[ ! -e /run/systemd/system/berth@$name.service.d ]] || fail "a drop-in is left"
	seen "no unit and no drop-in of it is left"
fi
show berthctl rmi "$image"
((status == 0)) || fail "its image was not removed"
[[ -z $(ls /var/lib/berth/images/layers) || ${made[*]} != */images* ]] || fail "a layer is left"
seen "no layer of the image is left"

step "berthd is stopped"
last_daemon=$(daemon_pid)
stop_berthd
await "berthd (process $last_daemon) has ended" is_gone "$last_daemon"
