# Installation from source, and packages. Included by the Makefile in the root directory.
.PHONY: build install uninstall release release-files deb rpm documentation test-packages

VERSION := $(shell sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)

# --- from source --------------------------------------------------------------------------------------------
# INIT is the init system whose service file is installed: systemd, openrc, sysv or none.

PREFIX ?= /usr/local
INIT ?= $(if $(wildcard /sbin/openrc-run),openrc,$(if $(wildcard /lib/systemd/systemd),systemd,sysv))
sbindir ?= $(PREFIX)/sbin
datadir ?= $(PREFIX)/share
docdir ?= $(datadir)/doc/xenmonitor
unitdir ?= $(PREFIX)/lib/systemd/system
sysconfdir ?= /etc
SETTINGS := $(sysconfdir)/default/xenmonitor

# The directory with the files to install. If it is not the one that `make build` fills, nothing is built.
FROM ?= $(TARGET)/release
ASSETS = $(FROM)/assets
# MODE:FILE:PLACE of files that are copied unchanged.
COPIES = 755:$(FROM)/xenmonitor:$(sbindir)/xenmonitor \
    644:$(ASSETS)/xenmonitor.8.gz:$(datadir)/man/man8/xenmonitor.8.gz \
    644:$(ASSETS)/xenmonitor.bash:$(datadir)/bash-completion/completions/xenmonitor \
    644:$(ASSETS)/_xenmonitor:$(datadir)/zsh/site-functions/_xenmonitor \
    644:$(ASSETS)/xenmonitor.fish:$(datadir)/fish/vendor_completions.d/xenmonitor.fish \
    644:$(ASSETS)/copyright:$(docdir)/copyright
# MODE:FILE:PLACE of the service file, in which the path of the program is replaced.
STARTER.systemd = 644:packaging/systemd/xenmonitor.service:$(unitdir)/xenmonitor.service
STARTER.openrc = 755:packaging/openrc/xenmonitor:$(sysconfdir)/init.d/xenmonitor \
    644:packaging/openrc/xenmonitor.logrotate:$(sysconfdir)/logrotate.d/xenmonitor
STARTER.sysv = 755:packaging/sysv/xenmonitor:$(sysconfdir)/init.d/xenmonitor
STARTER.none =
STARTER = $(STARTER.$(INIT))
STARTERS = $(STARTER.systemd) $(STARTER.openrc)

# The generator of the installed files is built together with the program, so that the crates of both are built once.
PROGRAMS := -p xenmonitor -p xenmonitor-assets

# The documentation as it is installed. Links to files that are not installed become plain text.
# $(call documentation,DIRECTORY)
define documentation
	mkdir -p $(1)/packaging
	cd packaging && cp -r ansible grafana prometheus statsd_exporter systemd $(abspath $(1))/packaging
	cp -r README.md docs $(1)
	cd $(1) && sed -Ei 's;\[([^]]*)\]\((\.\./)?(LICENSE|(CONTRIBUTING|SECURITY|CHANGELOG)\.md|(findings|tests)/[^)]*)\);\1;g' README.md docs/*.md
endef

# For the test that follows the links.
documentation:
	rm -rf $(TARGET)/documentation
	$(call documentation,$(TARGET)/documentation)

# Generates the files that are installed with the program. Those in doc/ have the layout of the installed directory.
# rust-library.html, the licences of Rust's standard library, exists only with a toolchain of rustup.
# $(call assets,DIRECTORY,TRIPLE,GENERATOR)
define assets
	rm -rf $(1) && mkdir -p $(1)/doc
	$(3) $(1) $(2)
	cd $(1) && gzip -9n xenmonitor.8 third-party-licences.txt && mv third-party-licences.txt.gz doc
	if [ -e $(1)/rust-library.html ]; then gzip -9n $(1)/rust-library.html && mv $(1)/rust-library.html.gz $(1)/doc; fi
	$(call documentation,$(1)/doc)
	gzip -9n <CHANGELOG.md >$(1)/doc/changelog.gz
	cd $(1)/doc && chmod -R u=rwX,go=rX .
endef

build: ## Build the program, its man page, completions and settings for this machine
	@tests/need.sh $(BUILD)
	cargo build --release $(PROGRAMS)
	$(call assets,$(TARGET)/release/assets,$(HOST_TRIPLE),$(TARGET)/release/xenmonitor-assets)

# Under sudo there may be no cargo: then the result of an earlier `make build` is installed.
install: ## Install below PREFIX (/usr/local), with a unit or init script; uses DESTDIR, INIT and sysconfdir
	@if [ "$(origin FROM)" = file ] && command -v cargo >/dev/null; then $(MAKE) --no-print-directory build; fi
	@case $(INIT) in systemd|openrc|sysv|none) ;; *) echo "INIT is one of systemd, openrc, sysv, none" >&2; exit 1;; esac
	@test -x $(FROM)/xenmonitor -a -d $(ASSETS)/doc || { echo "nothing to install: run make build first" >&2; exit 1; }
	@set -e; for copy in $(COPIES); do \
	    IFS=:; set -- $$copy; unset IFS; install -D -m $$1 $$2 $(DESTDIR)$$3; echo "$(DESTDIR)$$3"; done
	@set -e; for copy in $(STARTER); do \
	    IFS=:; set -- $$copy; unset IFS; install -d $(DESTDIR)$${3%/*}; \
	    sed 's|/usr/sbin/xenmonitor|$(sbindir)/xenmonitor|; s|/etc/default/xenmonitor|$(SETTINGS)|' $$2 >$(DESTDIR)$$3; \
	    chmod $$1 $(DESTDIR)$$3; echo "$(DESTDIR)$$3"; done
	@install -d $(DESTDIR)$(docdir) && cp -r $(ASSETS)/doc/. $(DESTDIR)$(docdir) && echo $(DESTDIR)$(docdir)
	@if [ -e $(DESTDIR)$(SETTINGS) ]; then echo "$(DESTDIR)$(SETTINGS) exists and was not changed"; else \
	    install -D -m 644 $(ASSETS)/settings $(DESTDIR)$(SETTINGS); echo $(DESTDIR)$(SETTINGS); fi

uninstall: ## Remove what install installed, with the same variables; keeps settings that were changed
	@for copy in $(COPIES) $(STARTERS); do file=$(DESTDIR)$${copy##*:}; \
	    if [ -e $$file ]; then rm $$file && echo "removed $$file"; fi; done
	@if [ -e $(DESTDIR)$(docdir) ]; then rm -r $(DESTDIR)$(docdir) && echo "removed $(DESTDIR)$(docdir)"; fi
	@if cmp -s $(ASSETS)/settings $(DESTDIR)$(SETTINGS); then \
	        rm $(DESTDIR)$(SETTINGS) && echo "removed $(DESTDIR)$(SETTINGS)"; \
	    elif [ -e $(DESTDIR)$(SETTINGS) ]; then echo "$(DESTDIR)$(SETTINGS) was changed and is kept"; fi

# --- packages -----------------------------------------------------------------------------------------------
# One binary for every dom0 with glibc 2.17 or later: zig provides the glibc to link with. ARCH=aarch64 builds for
# arm64. The same commit, Rust and libxenstat header give the same bytes, wherever they are built.

ARCH ?= x86_64
TRIPLE := $(ARCH)-unknown-linux-gnu
BUILT := $(TARGET)/$(TRIPLE)/release
DIST := $(TARGET)/dist
NAME := xenmonitor-$(VERSION)-$(ARCH)
TARBALL := $(DIST)/$(NAME).tar.gz
DEB := $(DIST)/xenmonitor_$(VERSION)-1_$(ARCH:x86_64=amd64).deb
DEB := $(DEB:aarch64.deb=arm64.deb)
RPM := $(DIST)/xenmonitor-$(VERSION)-1.$(ARCH).rpm

# The time of all files in packages.
EPOCH := $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null),$(shell date +%s))
release-files release deb rpm: export SOURCE_DATE_EPOCH := $(EPOCH)

# Shared by all clones, because these tools take minutes to build.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/xenmonitor
ZIG := $(CACHE)/zig-0.17.1
CARGO_DEB := $(CACHE)/cargo-deb-3.8.0/bin/cargo-deb
CARGO_RPM := $(CACHE)/cargo-generate-rpm-0.21.1/bin/cargo-generate-rpm
CARGO_DENY := $(CACHE)/cargo-deny-0.20.2/bin/cargo-deny

# The program must not contain the directories of this machine.
REMAP := $(foreach directory,$(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo $(CURDIR)=/xenmonitor,--remap-path-prefix=$(directory))

# The program and all that is installed with it, in BUILT.
release-files: $(ZIG)
	@tests/need.sh $(BUILD) objdump:binutils
	@test -d "$$(rustc --print target-libdir --target $(TRIPLE))" || rustup target add $(TRIPLE)
	@mkdir -p $(TARGET)/headers/include $(TARGET)/headers/lib/pkgconfig $(DIST)
	@cd $(TARGET)/headers && set -- "$$(pkg-config --variable=includedir xenstat)/xenstat.h" include \
	    "$$(pkg-config --variable=pcfiledir xenstat)/xenstat.pc" lib/pkgconfig; \
	    cmp -s $$1 $$2/xenstat.h || cp $$1 $$2; cmp -s $$3 $$4/xenstat.pc || cp $$3 $$4
	PATH=$(ZIG)/bin:$$PATH PYTHONPATH=$(ZIG) XENSTAT_INCLUDE_DIR=$(abspath $(TARGET)/headers/include) \
	    RUSTFLAGS="$(REMAP)" cargo zigbuild --locked --release --target $(TRIPLE).2.17 \
	    $(if $(filter $(ARCH),$(shell uname -m)),$(PROGRAMS))
	packaging/glibc.sh $(BUILT)/xenmonitor
	$(call assets,$(BUILT)/assets,$(TRIPLE),$(GENERATOR))
	printf 'xenmonitor (%s-1) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- %s  %s\n' $(VERSION) \
	    "$$(sed -n 's/^maintainer = "\(.*\)"/\1/p' Cargo.toml)" "$$(date -Rud @$(EPOCH))" \
	    | gzip -9n >$(BUILT)/assets/changelog.Debian.gz

# For another kind of processor the generator has to be built for this one, too.
GENERATOR = $(if $(filter $(ARCH),$(shell uname -m)),$(BUILT)/xenmonitor-assets,cargo run --release -p xenmonitor-assets --)

release: release-files ## Build a tarball for every dom0 with glibc 2.17 or later, for ARCH (x86_64)
	rm -rf $(BUILT)/$(NAME)
	mkdir -p $(addprefix $(BUILT)/$(NAME)/,openrc sysv completions)
	cd $(BUILT) && cp -r xenmonitor assets/settings assets/xenmonitor.8.gz assets/doc $(NAME) && \
	    cp assets/xenmonitor.bash assets/_xenmonitor assets/xenmonitor.fish $(NAME)/completions && \
	    cp assets/copyright $(NAME)/doc
	cp LICENSE packaging/systemd/xenmonitor.service $(BUILT)/$(NAME)
	cp packaging/openrc/* $(BUILT)/$(NAME)/openrc && cp packaging/sysv/* $(BUILT)/$(NAME)/sysv
	tar -C $(BUILT) --sort=name --mtime=@$(EPOCH) --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
	    -cf - $(NAME) | gzip -9n >$(TARBALL)
	$(SUMS)

# Lists all packages of this version.
SUMS = cd $(DIST) && sha256sum xenmonitor[-_]$(VERSION)-* >SHA256SUMS

deb: $(CARGO_DEB) release-files ## Build the Debian package
	$(CARGO_DEB) --no-build --no-strip --target $(TRIPLE) -o $(DEB)
	$(SUMS)

rpm: $(CARGO_RPM) release-files ## Build the RPM package
	$(TO_RPM) -o $(RPM)
	$(SUMS)

# gzip: the rpm of CentOS 7 does not support zstd.
TO_RPM = $(CARGO_RPM) --target $(TRIPLE) --target-dir $(TARGET) --payload-compress gzip

test-packages: release deb rpm ## Install, upgrade and remove the packages in a clean Debian 12: systemd, sysvinit, OpenRC
	@tests/need.sh $(BUILD) lintian:lintian rpm:rpm mmdebstrap:mmdebstrap systemd-nspawn:systemd-container \
	    python3:python3 man:man-db zsh:zsh fish:fish nsenter:util-linux pgrep:procps \
	    /usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring
	@$(MAKE) --no-print-directory shim
	@$(TO_RPM) -s 'version = "$(VERSION).1"' -o $(TARGET)/next.rpm
	$(if $(filter-out 0,$(shell id -u)),sudo -n )env DEB=$(DEB) RPM=$(RPM) TARBALL=$(TARBALL) NEXT_RPM=$(TARGET)/next.rpm \
	    BUILT=$(BUILT) SHIM=$(SHIM_LIB) CACHE=$(CACHE) tests/packages/run.sh

# Whatever is missing is reported, or installed, before a tool is built.
PACKAGING := $(BUILD) objdump:binutils python3:python3 pip3:python3-pip
# The oldest Rust that builds cargo-deb and cargo-deny. cargo-deb 3.8.0 says 1.85, but has `let` chains.
TOOLS_RUST := 1.88

$(ZIG):
	@tests/need.sh $(PACKAGING)
	@echo "downloading zig and cargo-zigbuild, a minute, once"
	python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
	    --target $@.new ziglang==0.17.1 cargo-zigbuild==0.24.1
	mv $@.new $@

$(CARGO_DEB) $(CARGO_RPM): NEEDED = $(PACKAGING)
$(CARGO_DENY): NEEDED = cc:gcc
$(CARGO_DEB): CRATE = cargo-deb@3.8.0
$(CARGO_RPM): CRATE = cargo-generate-rpm@0.21.1
$(CARGO_DENY): CRATE = cargo-deny@0.20.2
$(CARGO_DEB) $(CARGO_RPM) $(CARGO_DENY):
	@OLDEST_RUST=$(TOOLS_RUST) tests/need.sh $(NEEDED)
	@echo "building $(CRATE), five to thirty minutes, once"
	CARGO_TARGET_DIR=$(CACHE)/build cargo install --locked --root $(@:/bin/$(notdir $@)=) $(CRATE)
	rm -rf $(CACHE)/build

