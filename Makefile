# make                build berth
# make demo           see its main job done by the real programs (root)
# make test           build and run the test rings 1 to 4 (root, for all but the first)
# make test-vm        ring 4 alone, a virtual machine; SUITE=bookworm (default), trixie or sid
# make check          what CI runs: format, lints, tests
# make bench          measure against systemd, bwrap, crun, umoci and podman (root)
# make install        PREFIX=/usr/local and DESTDIR= are honoured
# make uninstall      takes back what install put there; what is in /etc/berth and /var/lib/berth stays

PREFIX  ?= /usr/local
DESTDIR ?=
# Configuration and specs are read from /etc/berth whatever the prefix.
SYSCONFDIR ?= /etc

SBINDIR    = $(PREFIX)/sbin
BINDIR     = $(PREFIX)/bin
LIBEXECDIR = $(PREFIX)/libexec/berth
LIBDIR     = $(PREFIX)/lib
MANDIR     = $(PREFIX)/share/man
DOCDIR     = $(PREFIX)/share/doc/berth

# rustup's directory is not in root's PATH when make is run by sudo.
export PATH := $(PATH):$(HOME)/.cargo/bin
CARGO ?= cargo

INSTALL = install
UNITS   = $(wildcard units/*)
MAN     = $(wildcard packaging/man/*.[1-8])

.PHONY: all demo test test-vm lint check bench install uninstall clean

all:
	@tests/install-needs rust
	$(CARGO) build --release --locked --bins

demo:
	@tests/install-needs build
	$(MAKE) all
	demo/demo.sh

test:
	@tests/install-needs build test vm
	tests/run 1 2 3 4

test-vm:
	@tests/install-needs build test vm
	BERTH_VM_SUITE=$(or $(SUITE),bookworm) tests/run 4

lint:
	@tests/install-needs rust
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- --deny warnings

check: lint test

bench:
	@tests/install-needs build test
	@tests/install-needs bench || echo "make bench: without podman" >&2
	benches/run

# Units name the programs of PREFIX=/usr; here they get the prefix in force.
install:
	@test -x target/release/berthd || { echo "make install: nothing is built yet; run 'make' first" >&2; exit 1; }
	$(INSTALL) -d $(addprefix $(DESTDIR),$(SBINDIR) $(BINDIR) $(LIBEXECDIR) $(LIBDIR)/systemd/system)
	$(INSTALL) -m 0755 target/release/berthd $(DESTDIR)$(SBINDIR)/
	$(INSTALL) -m 0755 target/release/berthctl $(DESTDIR)$(BINDIR)/
	$(INSTALL) -m 0755 target/release/berth-launch $(DESTDIR)$(LIBEXECDIR)/
	$(INSTALL) -m 0755 target/release/berth-pull $(DESTDIR)$(LIBEXECDIR)/
	for unit in $(UNITS); do \
		sed -e 's|/usr/sbin/berthd|$(SBINDIR)/berthd|' -e 's|/usr/bin/berthctl|$(BINDIR)/berthctl|' \
			-e 's|/usr/libexec/berth/|$(LIBEXECDIR)/|' "$$unit" \
			> "$(DESTDIR)$(LIBDIR)/systemd/system/$${unit##*/}" && \
		chmod 0644 "$(DESTDIR)$(LIBDIR)/systemd/system/$${unit##*/}" || exit 1; \
	done
	$(INSTALL) -D -m 0644 packaging/sysusers.d/berth.conf $(DESTDIR)$(LIBDIR)/sysusers.d/berth.conf
	$(INSTALL) -D -m 0644 packaging/tmpfiles.d/berth.conf $(DESTDIR)$(LIBDIR)/tmpfiles.d/berth.conf
	$(INSTALL) -D -m 0644 packaging/berth.catalog $(DESTDIR)$(LIBDIR)/systemd/catalog/berth.catalog
	for page in $(MAN); do \
		$(INSTALL) -D -m 0644 "$$page" "$(DESTDIR)$(MANDIR)/man$${page##*.}/$${page##*/}" || exit 1; \
	done
	$(INSTALL) -d $(DESTDIR)$(DOCDIR)/examples/containers
	$(INSTALL) -m 0644 README.md CHANGELOG.md LICENSE docs/*.md $(DESTDIR)$(DOCDIR)/
	$(INSTALL) -m 0644 etc/berthd.toml $(DESTDIR)$(DOCDIR)/examples/
	$(INSTALL) -m 0644 etc/containers/*.toml $(DESTDIR)$(DOCDIR)/examples/containers/
	$(INSTALL) -d $(DESTDIR)$(SYSCONFDIR)/berth/containers
	test -e $(DESTDIR)$(SYSCONFDIR)/berth/berthd.toml || \
		$(INSTALL) -m 0644 etc/berthd.toml $(DESTDIR)$(SYSCONFDIR)/berth/berthd.toml
	test -n "$(DESTDIR)" || packaging/after-install

uninstall:
	test -n "$(DESTDIR)" || packaging/before-uninstall
	rm -f $(DESTDIR)$(SBINDIR)/berthd $(DESTDIR)$(BINDIR)/berthctl
	rm -rf $(DESTDIR)$(LIBEXECDIR) $(DESTDIR)$(DOCDIR)
	rm -f $(addprefix $(DESTDIR)$(LIBDIR)/systemd/system/,$(notdir $(UNITS)))
	rm -f $(DESTDIR)$(LIBDIR)/sysusers.d/berth.conf $(DESTDIR)$(LIBDIR)/tmpfiles.d/berth.conf
	rm -f $(DESTDIR)$(LIBDIR)/systemd/catalog/berth.catalog
	rm -f $(foreach page,$(MAN),$(DESTDIR)$(MANDIR)/man$(subst .,,$(suffix $(page)))/$(notdir $(page)))
	test -n "$(DESTDIR)" || packaging/after-install

clean:
	$(CARGO) clean
