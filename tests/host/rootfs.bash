# What the root filesystems of test hosts (tests/host) and of virtual machines (tests/vm) have in common: sourced.
# shellcheck shell=bash
#
# The caller has set -euo pipefail. Progress goes to stderr.

cache=${BERTH_TEST_CACHE:-/var/cache/berth-tests}

# What every test may take for granted.
packages=(
	systemd systemd-sysv dbus
	procps util-linux iproute2 jq less kmod strace libcap2-bin e2fsprogs
	redis-server nftables iptables iperf3
)

# What has nothing to do in a test, or only delays its start. A unit that a suite does not have may be masked all the
# same.
masked=(
	redis-server.service
	getty.target console-getty.service getty@.service container-getty@.service
	serial-getty@.service
	systemd-logind.service systemd-logind-varlink.socket
	systemd-update-utmp.service systemd-update-utmp-runlevel.service
	systemd-firstboot.service systemd-machine-id-commit.service
	systemd-networkd.service systemd-networkd.socket systemd-networkd-wait-online.service
	systemd-resolved.service systemd-timesyncd.service
	systemd-pcrphase.service systemd-pcrphase-sysinit.service
	apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer
	e2scrub_all.timer e2scrub_reap.service systemd-tmpfiles-clean.timer
)

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }

join() { local IFS=$1; shift; printf '%s' "$*"; }

# suite_of ARGUMENT...: the one argument, checked.
suite_of() {
	case ${1-} in
	bookworm | trixie | sid) printf '%s' "$1" ;;
	*) die "usage: ${0##*/} bookworm|trixie|sid" ;;
	esac
}

install_tools() {
	command -v mmdebstrap >/dev/null && return
	say "installing mmdebstrap"
	apt-get update >&2
	apt-get install --yes --no-install-recommends mmdebstrap >&2
}

# bootstrap SUITE ROOT [OPTION...]: the packages, with more options of mmdebstrap. The Debian archive, and nothing else,
# is asked.
bootstrap() {
	local suite=$1 root=$2 options=("${@:3}")
	# Mirrors that are frozen in time serve a sid whose Release has run out.
	if [[ $suite == sid ]]; then options+=("--aptopt=Acquire::Check-Valid-Until \"false\""); fi
	mmdebstrap --quiet --variant=minbase --mode=root --format=directory \
		--include="$(join , "${packages[@]}")" "${options[@]}" \
		--aptopt='Acquire::Retries "3"' \
		--dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-exclude=/usr/share/info/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' \
		"$suite" "$root" >&2
}

# configure ROOT: plain files only, so that nothing of the new system has to run.
configure() {
	local root=$1 unit
	for unit in "${masked[@]}"; do
		ln -sf /dev/null "$root/etc/systemd/system/$unit"
	done
	ln -sf /usr/lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"

	mkdir -p "$root/etc/systemd/journald.conf.d" "$root/etc/systemd/system.conf.d"
	# No line may be lost, and nothing is kept: the next host starts afresh.
	cat >"$root/etc/systemd/journald.conf.d/berth-test.conf" <<-END
		[Journal]
		Storage=volatile
		RateLimitIntervalSec=0
		RateLimitBurst=0
		ForwardToSyslog=no
	END
	# A test that waits for a hung unit waits not for a minute and a half.
	cat >"$root/etc/systemd/system.conf.d/berth-test.conf" <<-END
		[Manager]
		DefaultTimeoutStartSec=30s
		DefaultTimeoutStopSec=15s
		StatusUnitFormat=name
	END

	: >"$root/etc/machine-id" # every host writes its own
	rm -f "$root/etc/hostname" "$root/etc/resolv.conf"
	printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
	rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/* "$root"/var/log/*
	# Nothing is new since the last boot: no caches to rebuild in the first one.
	touch "$root/etc/.updated" "$root/var/.updated"
}

version() {
	local systemd
	for systemd in "$1"/usr/lib/systemd/libsystemd-shared-*.so "$1"/usr/lib/*/systemd/libsystemd-shared-*.so; do
		[[ -e $systemd ]] || continue
		systemd=${systemd##*-}
		printf '%s' "${systemd%.so}"
		return
	done
}

# make_once NAME FUNCTION SUITE: has FUNCTION SUITE DIRECTORY fill a directory, once for each version of the caller and of
# this file, and prints where it is: $cache/NAME-HASH. What it is made from is what these two files say.
make_once() {
	local name=$1 function=$2 suite=$3 hash final temporary
	hash=$(cat "$0" "${BASH_SOURCE[0]}" | sha256sum | cut -c1-12)
	final=$cache/$name-$hash
	if [[ ! -d $final ]]; then
		((EUID == 0)) || die "must be root to make $final"
		mkdir -p "$cache"
		exec 9>"$cache/.lock"
		flock 9
	fi
	if [[ ! -d $final ]]; then
		install_tools
		rm -rf --one-file-system "$cache/.$name".* # of one that was killed: we have the lock
		temporary=$(mktemp -d "$cache/.$name.XXXXXX")
		# shellcheck disable=SC2064 # the directory of now, not of then
		trap "rm -rf --one-file-system '$temporary'" EXIT
		say "making $final"
		mkdir "$temporary/new"
		"$function" "$suite" "$temporary/new" "$temporary"
		mv -T "$temporary/new" "$final"
	fi
	printf '%s\n' "$final"
}
