# Installing from source, and packages. Part of the Makefile beside README.md.
.PHONY: build install uninstall release release-papers deb rpm test-packages

VERSION := $(shell sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)

# --- from source --------------------------------------------------------------------------------------------
# INIT says which init system's file is installed: systemd, openrc, sysv, or none of them.

PREFIX ?= /usr/local
INIT ?= $(if $(wildcard /sbin/openrc-run),openrc,$(if $(wildcard /lib/systemd/systemd),systemd,sysv))
sbindir ?= $(PREFIX)/sbin
datadir ?= $(PREFIX)/share
docdir ?= $(datadir)/doc/xenmonitor
unitdir ?= $(PREFIX)/lib/systemd/system
sysconfdir ?= /etc
SETTINGS := $(sysconfdir)/default/xenmonitor

# The directory of what is installed; naming another than what `make build` fills leaves the building out.
FROM ?= $(TARGET)/release
PAPERS = $(FROM)/papers
# MODE:FILE:PLACE of what is copied as it is.
COPIES = 755:$(FROM)/xenmonitor:$(sbindir)/xenmonitor \
    644:$(PAPERS)/xenmonitor.8.gz:$(datadir)/man/man8/xenmonitor.8.gz \
    644:$(PAPERS)/xenmonitor.bash:$(datadir)/bash-completion/completions/xenmonitor \
    644:$(PAPERS)/_xenmonitor:$(datadir)/zsh/site-functions/_xenmonitor \
    644:$(PAPERS)/xenmonitor.fish:$(datadir)/fish/vendor_completions.d/xenmonitor.fish \
    644:$(PAPERS)/copyright:$(docdir)/copyright
# MODE:FILE:PLACE of what starts it, which names the program by its path.
STARTER.systemd = 644:packaging/systemd/xenmonitor.service:$(unitdir)/xenmonitor.service
STARTER.openrc = 755:packaging/openrc/xenmonitor:$(sysconfdir)/init.d/xenmonitor
STARTER.sysv = 755:packaging/sysv/xenmonitor:$(sysconfdir)/init.d/xenmonitor
STARTER.none =
STARTER = $(STARTER.$(INIT))
STARTERS = $(STARTER.systemd) $(STARTER.openrc)

# What goes beside the program. The part of it in doc/ is laid as it is installed.
# $(call papers,DIRECTORY,TRIPLE)
define papers
	rm -rf $(1) && mkdir -p $(1)/doc
	cargo run --quiet -p xenmonitor-papers -- $(1) $(2)
	cd $(1) && gzip -9n xenmonitor.8 third-party-licences.txt && mv third-party-licences.txt.gz doc
	mkdir $(1)/doc/packaging && cp -r packaging/grafana packaging/statsd_exporter packaging/systemd $(1)/doc/packaging
	cp -r README.md docs $(1)/doc && cp CHANGELOG.md $(1)/doc/changelog
	cp "$$(rustc --print sysroot)/share/doc/rust/COPYRIGHT-library.html" $(1)/doc/rust-library.html
	cd $(1)/doc && gzip -9n changelog rust-library.html && chmod -R u=rwX,go=rX .
endef

build: ## Build the program and its man page, completions and settings, for this machine
	@tests/need.sh $(BUILD)
	cargo build --release
	$(call papers,$(TARGET)/release/papers,$(shell rustc -vV | sed -n 's/^host: //p'))

# As by sudo, which may know no cargo: what was built before is installed then.
install: ## Install it below PREFIX (/usr/local), with a unit or init script; DESTDIR, INIT and sysconfdir are honoured
	@if [ "$(origin FROM)" = file ] && command -v cargo >/dev/null; then $(MAKE) --no-print-directory build; fi
	@case $(INIT) in systemd|openrc|sysv|none) ;; *) echo "INIT is systemd, openrc, sysv or none" >&2; exit 1;; esac
	@test -x $(FROM)/xenmonitor -a -d $(PAPERS)/doc || { echo "nothing is built: make build" >&2; exit 1; }
	@set -e; for copy in $(COPIES); do \
	    IFS=:; set -- $$copy; unset IFS; install -D -m $$1 $$2 $(DESTDIR)$$3; echo "$(DESTDIR)$$3"; done
	@set -e; for copy in $(STARTER); do \
	    IFS=:; set -- $$copy; unset IFS; install -d $(DESTDIR)$${3%/*}; \
	    sed 's|/usr/sbin/xenmonitor|$(sbindir)/xenmonitor|; s|/etc/default/xenmonitor|$(SETTINGS)|' $$2 >$(DESTDIR)$$3; \
	    chmod $$1 $(DESTDIR)$$3; echo "$(DESTDIR)$$3"; done
	@install -d $(DESTDIR)$(docdir) && cp -r $(PAPERS)/doc/. $(DESTDIR)$(docdir) && echo $(DESTDIR)$(docdir)
	@if [ -e $(DESTDIR)$(SETTINGS) ]; then echo "$(DESTDIR)$(SETTINGS) is left as it is"; else \
	    install -D -m 644 $(PAPERS)/settings $(DESTDIR)$(SETTINGS); echo $(DESTDIR)$(SETTINGS); fi

uninstall: ## Remove what install installed, told the same; settings that were changed stay
	@for copy in $(COPIES) $(STARTERS); do file=$(DESTDIR)$${copy##*:}; \
	    if [ -e $$file ]; then rm $$file && echo "removed $$file"; fi; done
	@if [ -e $(DESTDIR)$(docdir) ]; then rm -r $(DESTDIR)$(docdir) && echo "removed $(DESTDIR)$(docdir)"; fi
	@if cmp -s $(PAPERS)/settings $(DESTDIR)$(SETTINGS); then rm $(DESTDIR)$(SETTINGS); \
	    elif [ -e $(DESTDIR)$(SETTINGS) ]; then echo "$(DESTDIR)$(SETTINGS) was changed and stays"; fi

# --- packages -----------------------------------------------------------------------------------------------
# One binary for every dom0 whose glibc is 2.17 or later: zig brings the glibc to link with. ARCH names another
# machine to build for: aarch64.

ARCH ?= x86_64
TRIPLE := $(ARCH)-unknown-linux-gnu
BUILT := $(TARGET)/$(TRIPLE)/release
DIST := $(TARGET)/dist
PROGRAM := $(DIST)/xenmonitor-$(VERSION)-$(ARCH)
DEB := $(DIST)/xenmonitor_$(VERSION)-1_$(ARCH:x86_64=amd64).deb
DEB := $(DEB:aarch64.deb=arm64.deb)
RPM := $(DIST)/xenmonitor-$(VERSION)-1.$(ARCH).rpm

# Kept from one clone to the next, as they take minutes to build.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/xenmonitor
ZIG := $(CACHE)/zig-0.17.1
CARGO_DEB := $(CACHE)/cargo-deb-3.8.0/bin/cargo-deb
CARGO_RPM := $(CACHE)/cargo-generate-rpm-0.21.1/bin/cargo-generate-rpm
CARGO_DENY := $(CACHE)/cargo-deny-0.20.2/bin/cargo-deny

release: $(ZIG) ## Build one file that runs in every dom0 with glibc 2.17 or later, for ARCH (x86_64)
	@tests/need.sh $(BUILD) objdump:binutils
	@test -d "$$(rustc --print target-libdir --target $(TRIPLE))" || rustup target add $(TRIPLE)
	@mkdir -p $(TARGET)/headers/include $(TARGET)/headers/lib/pkgconfig $(DIST)
	@cd $(TARGET)/headers && set -- "$$(pkg-config --variable=includedir xenstat)/xenstat.h" include \
	    "$$(pkg-config --variable=pcfiledir xenstat)/xenstat.pc" lib/pkgconfig; \
	    cmp -s $$1 $$2/xenstat.h || cp $$1 $$2; cmp -s $$3 $$4/xenstat.pc || cp $$3 $$4
	PATH=$(ZIG)/bin:$$PATH PYTHONPATH=$(ZIG) XENSTAT_INCLUDE_DIR=$(abspath $(TARGET)/headers/include) \
	    cargo zigbuild --locked --release --target $(TRIPLE).2.17
	packaging/glibc.sh $(BUILT)/xenmonitor
	cp $(BUILT)/xenmonitor $(PROGRAM)

release-papers: release
	$(call papers,$(BUILT)/papers,$(TRIPLE))
	printf 'xenmonitor (%s-1) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- %s  %s\n' $(VERSION) \
	    "$$(sed -n 's/^maintainer = "\(.*\)"/\1/p' Cargo.toml)" "$$(git log -1 --format=%cD 2>/dev/null || date -R)" \
	    | gzip -9n >$(BUILT)/papers/changelog.Debian.gz

deb: $(CARGO_DEB) release-papers ## Build the Debian package
	$(CARGO_DEB) --no-build --no-strip --target $(TRIPLE) -o $(DEB)

rpm: $(CARGO_RPM) release-papers ## Build the RPM package
	$(TO_RPM) -o $(RPM)

# gzip: CentOS 7's rpm reads no zstd.
TO_RPM = $(CARGO_RPM) --target $(TRIPLE) --target-dir $(TARGET) --payload-compress gzip

test-packages: deb rpm ## Install, upgrade and remove the packages in a clean Debian 12, under systemd, sysvinit and OpenRC
	@tests/need.sh $(BUILD) lintian:lintian rpm:rpm mmdebstrap:mmdebstrap systemd-nspawn:systemd-container python3:python3 \
	    man:man-db zsh:zsh fish:fish nsenter:util-linux pgrep:procps \
	    /usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring
	@$(MAKE) --no-print-directory shim
	@$(TO_RPM) -s 'version = "$(VERSION).1"' -o $(TARGET)/next.rpm
	$(if $(filter-out 0,$(shell id -u)),sudo -n )env DEB=$(DEB) RPM=$(RPM) NEXT_RPM=$(TARGET)/next.rpm \
	    BUILT=$(BUILT) SHIM=$(SHIM_LIB) CACHE=$(CACHE) tests/packages/run.sh

$(ZIG):
	@tests/need.sh python3:python3 pip3:python3-pip
	python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
	    --target $@.new ziglang==0.17.1 cargo-zigbuild==0.24.1
	mv $@.new $@

$(CARGO_DEB): CRATE = cargo-deb@3.8.0
$(CARGO_RPM): CRATE = cargo-generate-rpm@0.21.1
$(CARGO_DENY): CRATE = cargo-deny@0.20.2
$(CARGO_DEB) $(CARGO_RPM) $(CARGO_DENY):
	CARGO_TARGET_DIR=$(CACHE)/build cargo install --quiet --locked --root $(@:/bin/$(notdir $@)=) $(CRATE)
	rm -rf $(CACHE)/build

