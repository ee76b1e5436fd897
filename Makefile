# The Cargo target directory, and what `make help` prints: every target with its `##` line.
TARGET := $(or $(CARGO_TARGET_DIR),target)

.DELETE_ON_ERROR:
.PHONY: help test test-load test-names test-sanitizers test-soak fuzz bench demo demo-run e2e-xen lint msrv deny \
    npm-statsd pictures shim shim-files FORCE

help: ## Print this list
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

# What a build needs, and the Debian packages that bring it.
BUILD := cc:gcc flock:util-linux pkg-config:pkg-config /usr/include/xenstat.h:libxen-dev \
    /usr/lib/llvm-*/lib/libclang.so:libclang-dev
# What the tests run besides.
PEERS := /usr/lib/xen-*/bin/xentop:xentop node:nodejs npm:npm strace:strace valgrind:valgrind \
    /bin/kill:procps ip:iproute2 unshare:util-linux prlimit:util-linux faketime:faketime \
    systemd-analyze:systemd setpriv:util-linux

include packaging/rules.mk

test: ## Run the tests, but for test-load, after installing what they need
	@tests/need.sh $(BUILD) $(PEERS)
	@$(MAKE) --no-print-directory shim npm-statsd
	cargo test --workspace

test-load: ## Send what large hosts and a fleet send to real servers: five minutes, 4 GB of memory
	@tests/need.sh $(BUILD) $(PEERS) /usr/sbin/collectd:collectd-core /usr/sbin/netdata:netdata-core
	@$(MAKE) --no-print-directory shim npm-statsd
	cargo test --test load -- --test-threads=1

test-names: ## Try the naming of domains with a million sets of hostile names
	NAMING_CASES=1000000 cargo test --release --lib naming::paths::tests::any_names_at_all

# --- sanitizers -------------------------------------------------------------------------------------------
# Stable compilers can do it but do not promise to: hence RUSTC_BOOTSTRAP. ThreadSanitizer has to see std's locks, and
# std is built anew for it. What counts is what they find, which is written beside the daemon: some tests fail because it
# is so slow and large. Those left out have it run by a program, a root or a clock that a sanitizer does not go with.

SANITIZERS ?= address thread
STD_FOR_thread := -Zbuild-std
NOT_SANITIZED := $(addprefix --skip ,valgrind it_starts_threads chroot:: privileges:: a_clock_that_is_set a_long_life)

test-sanitizers: ## Run the tests on a daemon built with AddressSanitizer, then with ThreadSanitizer
	@tests/need.sh $(BUILD) $(PEERS)
	@$(MAKE) --no-print-directory shim npm-statsd
	@rustup component list 2>/dev/null | grep -q '^rust-src (installed)' || rustup component add rust-src
	@for sanitizer in $(SANITIZERS); do $(MAKE) --no-print-directory sanitizer-$$sanitizer || exit 1; done

sanitizer-%: OUT = $(abspath $(TARGET))/$*
sanitizer-%: IT = TESTED_WITH=$* TESTED_BINARY=$(OUT)/$(HOST_TRIPLE)/debug/xenmonitor cargo test --quiet --test it --
sanitizer-%: FORCE
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=$* cargo build --quiet $(STD_FOR_$*) --target $(HOST_TRIPLE) --target-dir $(OUT)
	$(IT) --ignored the_sanitizer_sees_what_is_wrong
	@rm -f $(OUT)/found.*
	-ASAN_OPTIONS=log_path=$(OUT)/found TSAN_OPTIONS=log_path=$(OUT)/found $(IT) $(NOT_SANITIZED) >$(OUT)/tests.log 2>&1
	@grep '^test result: .* [0-9][0-9]* passed' $(OUT)/tests.log | grep -v ' [0-9]\?[0-9] passed' || \
	    { cat $(OUT)/tests.log; exit 1; }
	@if ls $(OUT)/found.* >/dev/null 2>&1; then cat $(OUT)/found.*; exit 1; else echo "$* sanitizer: nothing found"; fi

# --- fuzz: hostile input (src/fuzz/mod.rs) ------------------------------------------------------------------
# FUZZ_TIME is in seconds for each target; FUZZ="names qmp" are the targets. What is found new is kept from run to run
# in target/fuzz/corpus; what makes a target panic is named, and belongs into tests/fuzz/corpus once it is mended.

FUZZ_TIME ?= 60
FUZZ ?= $(notdir $(wildcard tests/fuzz/corpus/*))
HOST_TRIPLE = $(shell rustc -vV | sed -n 's/^host: //p')
FUZZER = $(TARGET)/fuzz/$(HOST_TRIPLE)/fuzz/examples/fuzz
# As cargo-fuzz does it, but for the sanitizers, which stable compilers do not have and code without unsafe does not need.
COVERAGE := --cfg fuzzing -Cpasses=sancov-module $(addprefix -Cllvm-args=-sanitizer-coverage-,level=4 \
    inline-8bit-counters pc-table trace-compares)

fuzz: ## Let libFuzzer look for input that breaks a parser or a name: a minute for each target, or FUZZ_TIME=seconds
	@tests/need.sh $(BUILD) g++:g++
	RUSTFLAGS="$(COVERAGE)" cargo build --quiet --target $(HOST_TRIPLE) --target-dir $(TARGET)/fuzz --profile fuzz \
	    --example fuzz
	@failed=0; for target in $(FUZZ); do \
	    corpus=$(TARGET)/fuzz/corpus/$$target; mkdir -p $$corpus; log=$(TARGET)/fuzz/$$target.log; \
	    FUZZ_TARGET=$$target $(FUZZER) -max_total_time=$(FUZZ_TIME) -timeout=10 -rss_limit_mb=1024 -max_len=4096 \
	        -print_final_stats=1 -artifact_prefix=$(TARGET)/fuzz/$$target- $$corpus tests/fuzz/corpus/$$target \
	        >$$log 2>&1 && found=nothing || { found="something"; failed=1; grep -v '^#' $$log | tail -n 40 >&2; }; \
	    sed -n "s/^stat::number_of_executed_units: */$$target: found $$found, inputs tried: /p" $$log; \
	done; exit $$failed

test-soak: ## Live through 200 000 polls of a host on which everything comes and goes, by a fast clock: four minutes
	@tests/need.sh $(BUILD)
	@$(MAKE) --no-print-directory shim
	SOAK_POLLS=200000 cargo test --release --test it a_long_life -- --nocapture

bench: ## Measure what it costs, beside xentop, a script over xentop, and libxenstat
	@tests/need.sh $(BUILD) $(PEERS) bash:bash python3:python3 pip3:python3-pip
	@$(MAKE) --no-print-directory shim
	@python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
	    --target $(TARGET)/python statsd==4.0.1
	PYTHONPATH=$(TARGET)/python cargo bench --quiet --bench cost --bench disks

DEMO = XENSTAT_SCENARIO=tests/shim/scenarios/demo.toml XENMONITOR_LIBXENSTAT=$(SHIM_LIB) \
    $(TARGET)/release/xenmonitor --host demo --interval 1s --log warn

demo: ## Watch the release binary on a made-up host of five domains
	@tests/need.sh $(BUILD)
	@$(MAKE) --no-print-directory shim demo-run

demo-run:
	cargo build --release
	@echo; echo "Three polls, some columns of them. In the second win2019's disk goes into error and has no numbers:"
	@$(DEMO) --count 3 --print table --metrics 'state.*,cpu_percent,mem_k,net?x_k,vbd_rd,vbd_wr' | sed -u 's/^ *NAME /\n&/'
	@echo; echo "What statsd gets of one domain, at the second poll:"; echo
	@$(DEMO) --count 2 --print statsd | grep '\.db01\.' | tail -n 23

pictures: ## Draw docs/img from what statsd and Graphite make of a made-up host: three minutes
	@tests/need.sh $(BUILD) node:nodejs npm:npm carbon-cache:graphite-carbon graphite-manage:graphite-web \
	    /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf:fonts-dejavu-core
	@$(MAKE) --no-print-directory shim npm-statsd
	cargo build --release
	/usr/bin/python3 tests/pictures/draw.py $(TARGET)/release/xenmonitor $(SHIM_LIB) \
	    $(TARGET)/npm/node_modules/statsd/stats.js

e2e-xen: ## Judge it beside the real xentop in the dom0 of a real Xen, emulated: ten minutes, 4 GB of memory
	@tests/need.sh $(BUILD) mmdebstrap:mmdebstrap /usr/sbin/mke2fs:e2fsprogs cpio:cpio /sbin/depmod:kmod \
	    busybox:busybox-static python3:python3 /usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring
	cargo build --release
	tests/xen/run $(TARGET)/release/xenmonitor $(TARGET)/e2e-xen

lint: ## Check format, clippy, docs and packaging
	@tests/need.sh $(BUILD)
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --test load -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
	cargo package -p xenmonitor -p xenstat-sys --allow-dirty
	@cargo package -p xenmonitor --list --allow-dirty | grep -v '^src/' | tr '\n' ' ' | grep -qx '$(CRATE_FILES) ' || \
	    { echo "the crate has other files than $(CRATE_FILES): see include in Cargo.toml" >&2; exit 1; }

# What cargo packages of us besides src/; .cargo_vcs_info.json is its own.
CRATE_FILES := .cargo_vcs_info.json CHANGELOG.md Cargo.lock Cargo.toml Cargo.toml.orig LICENSE README.md build.rs

msrv: ## Check that the oldest Rust that is promised (rust-version in Cargo.toml) compiles all of it
	@tests/need.sh $(BUILD)
	rustup toolchain install --profile minimal --no-self-update $(MSRV)
	CARGO_TARGET_DIR=$(TARGET)/msrv cargo +$(MSRV) check --quiet --locked --workspace --all-targets

MSRV := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

deny: $(CARGO_DENY) ## Check licences, sources and doubles of all crates, see deny.toml
	$(CARGO_DENY) --log-level error check licenses bans sources

# The statsd server that is asked its gauges back.
npm-statsd: $(TARGET)/npm/node_modules/statsd/stats.js

$(TARGET)/npm/node_modules/statsd/stats.js:
	npm install --silent --no-audit --no-fund --omit=optional --prefix $(TARGET)/npm statsd@0.9.0

# --- shim: a libxenstat for tests -------------------------------------------------------------------------
# SHIM_OUT names the directory for it; SHIM_WITHOUT functions it shall lack, as those of older releases do.

SHIM_OUT ?= $(TARGET)/shim
SHIM_WITHOUT ?=
SHIM_VERSION := $(or $(shell pkg-config --modversion xenstat 2>/dev/null),4.17.0)
SHIM_SONAME := libxenstat.so.$(word 1,$(subst ., ,$(SHIM_VERSION))).$(word 2,$(subst ., ,$(SHIM_VERSION)))
SHIM_LIB := $(SHIM_OUT)/$(SHIM_SONAME)
SHIM_MAP := $(SHIM_OUT)/version.map
SHIM_ARCHIVE := $(TARGET)/release/libxenstat_shim.a
SHIM_SOURCES := Cargo.toml Cargo.lock wrapper.h $(wildcard tests/shim/Cargo.toml tests/shim/build.rs tests/shim/src/*.rs)

shim: ## Build the libxenstat for tests (tests/shim) as target/shim/libxenstat.so
	@mkdir -p $(TARGET) $(SHIM_OUT) && flock $(TARGET)/.shim.lock $(MAKE) --no-print-directory shim-files

shim-files: $(SHIM_LIB)

# Linked here and not by rustc, whose version script cannot be joined with ours. What no pattern names keeps
# the base version, which a reference to gettimeofday@GLIBC_x accepts: so the clock functions replace libc's.
# nodelete: polls are counted and freed nodes kept over the life of the process, beyond a dlclose.
$(SHIM_LIB): $(SHIM_ARCHIVE) $(SHIM_MAP)
	$(CC) -shared -o $@ -Wl,-soname,$(SHIM_SONAME),--version-script=$(SHIM_MAP),-z,defs,-z,nodelete,--gc-sections \
	    -Wl,--whole-archive $(SHIM_ARCHIVE) -Wl,--no-whole-archive -lgcc_s -lpthread -ldl -lm -lc
	ln -sf $(SHIM_SONAME) $(SHIM_OUT)/libxenstat.so

$(SHIM_ARCHIVE): $(SHIM_SOURCES)
	cargo build --quiet --release -p xenstat-shim
	@touch $@

$(SHIM_MAP): FORCE
	@printf '%s { global: xenstat_*; local: _R*; _ZN*; __rust*; rust_*; %s };\n' VERS_$(SHIM_VERSION) \
	    '$(SHIM_WITHOUT:%=%;)' >$@.new; cmp -s $@.new $@ || cp $@.new $@; rm $@.new
