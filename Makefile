# The Cargo target directory. `make help` prints every target that has a `##` comment.
TARGET := $(or $(CARGO_TARGET_DIR),target)
HOST_TRIPLE = $(shell rustc -vV | sed -n 's/^host: //p')

.DELETE_ON_ERROR:
.PHONY: help test test-root test-load test-names test-sanitizers test-soak fuzz bench bench-beside bench-instructions demo \
    demo-run e2e-xen lint msrv deny npm-statsd pictures terminal-picture shim shim-files FORCE test-libraries test-alerts \
    test-dashboards clean test-debian

help: ## Print this list
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 20

# Commands and files that a build needs, and the Debian packages that contain them.
BUILD := cc:gcc flock:util-linux pkg-config:pkg-config /usr/include/xenstat.h:libxen-dev \
    /usr/lib/llvm-*/lib/libclang.so:libclang-dev
# Programs that the tests run.
PEERS := /usr/lib/xen-*/bin/xentop:xentop node:nodejs npm:npm strace:strace valgrind:valgrind \
    /bin/kill:procps ip:iproute2 /usr/sbin/nft:nftables unshare:util-linux prlimit:util-linux faketime:faketime \
    systemd-analyze:systemd setpriv:util-linux /etc/hosts:netbase

include packaging/rules.mk

# Most of the time the tests wait.
test: export RUST_TEST_THREADS ?= $(shell expr 4 \* $$(nproc))

test: ## Run the tests, except test-load and test-libraries, after installing what they need
	@tests/need.sh $(BUILD) $(PEERS)
	@$(MAKE) --no-print-directory shim npm-statsd
	cargo test --workspace
	@if [ "$$(id -u)" = 0 ]; then $(MAKE) --no-print-directory test-root; fi

test-root: ## Run the tests that need root; as root, make test runs them too
	@tests/need.sh $(BUILD) $(PEERS)
	@$(MAKE) --no-print-directory shim npm-statsd
	cargo test --workspace --test it -- --ignored --skip sanitizer_detects_known_bugs

test-load: ## Send the metrics of large hosts and of fleets to real servers: ten minutes, 4 GB of memory
	@tests/need.sh $(BUILD) $(PEERS) /usr/sbin/collectd:collectd-core /usr/sbin/netdata:netdata-core \
	    /usr/sbin/nginx:nginx /usr/lib/nginx/modules/ngx_stream_module.so:libnginx-mod-stream
	@$(MAKE) --no-print-directory shim npm-statsd
	cargo test --test load -- --test-threads=1

test-libraries: ## Compare with the real xentop and libxenstat of Debian 11, 12 and 13, over stand-ins for Xen
	@tests/need.sh $(BUILD) readelf:binutils unshare:util-linux \
	    /usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring
	@for each in $(LIBRARIES); do tests/libraries/fetch $(CACHE)/libraries $${each%:*} $${each#*:} || exit 1; done
	@$(MAKE) --no-print-directory shim
	cargo build --release
	LIBRARIES=$(CACHE)/libraries TESTED_BINARY=$(abspath $(TARGET)/release/xenmonitor) \
	    cargo test --test libraries -- --nocapture

# Suites of Debian and the release of Xen in each.
LIBRARIES := bullseye:4.14 bookworm:4.17 trixie:4.20

test-alerts: ## Test the alert rules with Prometheus' promtool
	@tests/need.sh apt-get:apt dpkg-deb:dpkg
	tests/alerts/run $(CACHE)

# Programs that the dashboards need.
GRAPHITE := node:nodejs npm:npm carbon-cache:graphite-carbon graphite-manage:graphite-web

test-dashboards: ## Let real Graphite and Prometheus answer every query of the dashboards: one minute
	@tests/need.sh $(BUILD) $(GRAPHITE) apt-get:apt dpkg-deb:dpkg /usr/lib/python3/dist-packages/yaml:python3-yaml
	@$(MAKE) --no-print-directory shim npm-statsd
	cargo build --release
	@programs=$$(tests/alerts/fetch $(CACHE)) && /usr/bin/python3 -B tests/dashboards/run \
	    $(TARGET)/release/xenmonitor $(SHIM_LIB) $(TARGET)/npm/node_modules/statsd/stats.js $$programs/prometheus

test-debian: ## Run the tests in a fresh Debian, SUITE=trixie with its own Rust or SUITE=bookworm with this machine's
	@tests/need.sh mmdebstrap:mmdebstrap unshare:util-linux git:git \
	    /usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring
	tests/debian $(SUITE) $(CACHE)

SUITE ?= trixie

test-names: ## Test the naming of domains with a million sets of hostile names
	NAMING_CASES=1000000 cargo test --release --lib naming::namer::tests::any_names_are_made_distinct

# --- sanitizers -------------------------------------------------------------------------------------------
# Stable compilers support sanitizers without a guarantee: hence RUSTC_BOOTSTRAP. ThreadSanitizer has to see the locks
# of std, so std is rebuilt for it. Only the sanitizers' reports count, which are written next to the daemon: some tests
# fail because the daemon is slow and large. The skipped tests use a program, a root or a clock that does not work with
# sanitizers.

SANITIZERS ?= address thread
STD_FOR_thread := -Zbuild-std
NOT_SANITIZED := $(addprefix --skip ,process_is_clean_under_valgrind process_starts_only_threads chroot:: privileges:: \
    clock_changes_do_not_affect_polls_and_rates pacing_spreads_many_datagrams_over_time soak_of_many_polls \
    disks_cost_few_system_calls)

test-sanitizers: ## Run the tests on a daemon built with AddressSanitizer, then with ThreadSanitizer
	@tests/need.sh $(BUILD) $(PEERS)
	@$(MAKE) --no-print-directory shim npm-statsd
	@rustup component list 2>/dev/null | grep -q '^rust-src (installed)' || rustup component add rust-src
	@for sanitizer in $(SANITIZERS); do $(MAKE) --no-print-directory sanitizer-$$sanitizer || exit 1; done

sanitizer-%: OUT = $(abspath $(TARGET))/$*
sanitizer-%: IT = TESTED_WITH=$* TESTED_BINARY=$(OUT)/$(HOST_TRIPLE)/debug/xenmonitor cargo test --test it --
sanitizer-%: FORCE
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=$* cargo build $(STD_FOR_$*) --target $(HOST_TRIPLE) --target-dir $(OUT)
	$(IT) --ignored sanitizer_detects_known_bugs
	@rm -f $(OUT)/found.*
	@echo "running all tests with the $* sanitizer, several minutes; their output goes to $(OUT)/tests.log"
	-ASAN_OPTIONS=log_path=$(OUT)/found TSAN_OPTIONS=log_path=$(OUT)/found $(IT) $(NOT_SANITIZED) >$(OUT)/tests.log 2>&1
	@grep '^test result: .* [0-9][0-9]* passed' $(OUT)/tests.log | grep -v ' [0-9]\?[0-9] passed' || \
	    { cat $(OUT)/tests.log; exit 1; }
	@if ls $(OUT)/found.* >/dev/null 2>&1; then cat $(OUT)/found.*; exit 1; else echo "$* sanitizer: no errors found"; fi

# --- fuzz: hostile input (src/fuzz/) -----------------------------------------------------------------------
# FUZZ_TIME: seconds per target; FUZZ="names qmp": the targets. New inputs are kept in target/fuzz/corpus between runs.
# The name of an input that makes a target panic is printed: add that input to tests/fuzz/corpus together with the fix.

FUZZ_TIME ?= 60
FUZZ ?= $(notdir $(wildcard tests/fuzz/corpus/*))
FUZZER = $(TARGET)/fuzz/$(HOST_TRIPLE)/fuzz/examples/fuzz
# The flags of cargo-fuzz without sanitizers, which need nightly compilers, and which code without unsafe does not need.
COVERAGE := --cfg fuzzing -Cpasses=sancov-module $(addprefix -Cllvm-args=-sanitizer-coverage-,level=4 \
    inline-8bit-counters pc-table trace-compares)

fuzz: ## Run libFuzzer on the parsers and on naming: one minute per target, or FUZZ_TIME=seconds
	@tests/need.sh $(BUILD) g++:g++
	RUSTFLAGS="$(COVERAGE)" cargo build --target $(HOST_TRIPLE) --target-dir $(TARGET)/fuzz --profile fuzz \
	    --example fuzz
	@failed=0; for target in $(FUZZ); do echo "$$target: $(FUZZ_TIME) seconds"; \
	    corpus=$(TARGET)/fuzz/corpus/$$target; mkdir -p $$corpus; log=$(TARGET)/fuzz/$$target.log; \
	    FUZZ_TARGET=$$target $(FUZZER) -max_total_time=$(FUZZ_TIME) -timeout=10 -rss_limit_mb=1024 -max_len=4096 \
	        -print_final_stats=1 -artifact_prefix=$(TARGET)/fuzz/$$target- $$corpus tests/fuzz/corpus/$$target \
	        >$$log 2>&1 && found=nothing || { found="something"; failed=1; grep -v '^#' $$log | tail -n 40 >&2; }; \
	    sed -n "s/^stat::number_of_executed_units: */$$target: found $$found, inputs tried: /p" $$log; \
	done; exit $$failed

test-soak: ## Run 200 000 polls of a simulated host that changes all the time, with a fast clock: four minutes
	@tests/need.sh $(BUILD)
	@$(MAKE) --no-print-directory shim
	SOAK_POLLS=200000 cargo test --release --test it soak_of_many_polls -- --nocapture

bench: ## Measure the cost, compared with xentop, with a script around xentop, and with libxenstat
	@tests/need.sh $(BUILD) $(PEERS) bash:bash python3:python3 pip3:python3-pip
	@$(MAKE) --no-print-directory shim
	@echo "installing the Python package statsd in $(TARGET)/python"
	@python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
	    --target $(TARGET)/python statsd==4.0.1
	PYTHONPATH=$(TARGET)/python cargo bench --bench cost --bench disks
	@$(MAKE) --no-print-directory bench-beside

bench-beside: $(TARGET)/old/release/xenmonitor ## Measure a poll beside the build OLD and the real xentop: ten minutes
	@tests/need.sh $(BUILD) $(PEERS) python3:python3
	@$(MAKE) --no-print-directory shim SHIM_OUT=$(TARGET)/shim-beside SHIM_WITHOUT=xc_interface_open
	cargo build --release
	python3 benches/beside.py $< $(TARGET)/release/xenmonitor "$$(ls -d /usr/lib/xen-*/bin/xentop | tail -n 1)" \
	    $(abspath $(TARGET)/shim-beside/libxenstat.so)

bench-instructions: ## Count the instructions of a poll of 1000 domains, which do not depend on the load of the machine
	@tests/need.sh $(BUILD) valgrind:valgrind python3:python3
	@$(MAKE) --no-print-directory shim
	cargo build --release
	benches/instructions.sh $(TARGET)/release/xenmonitor $(abspath $(SHIM_OUT)/libxenstat.so)

# The build that others are compared with: the last one with a wake-up for every eight datagrams. It takes a library with
# xc_interface_open for Xen's own, which needs Xen.
OLD ?= bc1a6ca

$(TARGET)/old/release/xenmonitor:
	@rm -rf $(TARGET)/old && mkdir -p $(TARGET)/old/source
	git archive $(OLD) | tar -x -C $(TARGET)/old/source
	cargo build --release --manifest-path $(TARGET)/old/source/Cargo.toml --target-dir $(TARGET)/old

DEMO = XENSTAT_SCENARIO=tests/shim/scenarios/demo.toml XENMONITOR_LIBXENSTAT=$(SHIM_LIB) XENMONITOR_VIFS=libxenstat \
    $(TARGET)/release/xenmonitor --host demo --interval 1s --log warn

# One command of cargo, which builds the crates that both use once. Alone each would have other features of them.
demo: ## Run the release binary on a simulated host with five domains
	@tests/need.sh $(BUILD)
	@echo "building xenmonitor and a fake libxenstat, several minutes the first time"
	cargo build --release -p xenmonitor -p xenstat-shim
	@$(MAKE) --no-print-directory shim demo-run

demo-run:
	@echo; echo "Some columns of three polls. From the second on, the disk of win2019 is in error and has no counters:"
	@$(DEMO) --count 3 --print table --metrics 'state.*,cpu_percent,mem_k,net?x_k,vbd_rd,vbd_wr' | sed -u 's/^ *NAME /\n&/'
	@echo; echo "The metrics of one domain at the second poll, as sent to statsd:"; echo
	@$(DEMO) --count 2 --print statsd | grep '\.db01\.' | tail -n 23
	@echo; echo "For a live table of this host, until you press q, type:"; echo; echo '$(DEMO) --watch' | tr -s ' '

pictures: ## Draw docs/img with Graphite from three hours of a simulated host
	@tests/need.sh $(BUILD) $(GRAPHITE) /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf:fonts-dejavu-core
	@$(MAKE) --no-print-directory shim
	cargo build --release
	/usr/bin/python3 -B tests/dashboards/draw.py $(TARGET)/release/xenmonitor $(SHIM_LIB)

terminal-picture: ## Draw docs/img/watch.svg, the screen of --watch on a simulated host
	@tests/need.sh $(BUILD) tmux:tmux python3:python3 pip3:python3-pip
	@$(MAKE) --no-print-directory shim
	cargo build --release
	@echo "installing the Python package rich in $(TARGET)/rich"
	@python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
	    --target $(TARGET)/rich rich==14.1.0
	PYTHONPATH=$(TARGET)/rich python3 tests/pictures/terminal.py $(TARGET)/release/xenmonitor $(SHIM_LIB)

# Releases of Xen, see tests/xen/release.
XEN ?= 4.17 4.20

e2e-xen: release-files ## Compare with the real xentop in the dom0 of a real, emulated Xen; XEN="4.17 4.20 arm64" names releases
	@tests/need.sh mmdebstrap:mmdebstrap /usr/sbin/mke2fs:e2fsprogs cpio:cpio /sbin/depmod:kmod \
	    python3:python3 xz:xz-utils zstd:zstd unshare:util-linux setpriv:util-linux \
	    /usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring
	@[ -n "$(strip $(XEN))" ] || { echo "XEN names no release; known: $$(tests/xen/release)" >&2; exit 1; }
	@for each in $(XEN); do tests/xen/release $$each >/dev/null || exit; done
	@failed=0; for each in $(XEN); do \
	    case $$each in arm64*) binary=$(TARGET)/cross;; *) binary=$(BUILT)/xenmonitor;; esac; \
	    out=$(TARGET)/e2e-xen/$$each$(FALSIFY:%=-falsified); \
	    setpriv --pdeathsig TERM tests/xen/run $$each $$binary $$out || failed=1; \
	done; exit $$failed

lint: ## Check formatting, clippy, docs and packaging
	@tests/need.sh $(BUILD)
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --test load --test libraries -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	cargo package -p xenmonitor -p xenstat-sys --allow-dirty
	@cargo package -p xenmonitor --list --allow-dirty | grep -v '^src/' | tr '\n' ' ' | grep -qx '$(CRATE_FILES) ' || \
	    { echo "the crate must contain exactly src/ and $(CRATE_FILES): see include in Cargo.toml" >&2; exit 1; }

# The files of the packaged crate besides src/. cargo adds .cargo_vcs_info.json itself.
CRATE_FILES := .cargo_vcs_info.json CHANGELOG.md Cargo.lock Cargo.toml Cargo.toml.orig LICENSE README.md build.rs

msrv: ## Check that everything compiles with the oldest supported Rust (rust-version in Cargo.toml)
	@tests/need.sh $(BUILD)
	rustup toolchain install --profile minimal --no-self-update $(MSRV)
	CARGO_TARGET_DIR=$(TARGET)/msrv cargo +$(MSRV) check --locked --workspace --all-targets

MSRV := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

deny: $(CARGO_DENY) ## Check licences, sources and duplicate versions of all crates, see deny.toml
	$(CARGO_DENY) --log-level error check licenses bans sources

clean: ## Remove everything that was built: target/, but not the tools and images in ~/.cache
	cargo clean
	rm -rf $(addprefix $(TARGET)/,$(SANITIZERS) cross dist e2e-xen fuzz headers libraries msrv next.rpm npm old \
	    python rich shim .shim.lock)

# The statsd server from which the tests read gauges back.
npm-statsd: $(TARGET)/npm/node_modules/statsd/stats.js

$(TARGET)/npm/node_modules/statsd/stats.js:
	@echo "installing npm's statsd in $(TARGET)/npm"
	npm install --silent --no-audit --no-fund --omit=optional --prefix $(TARGET)/npm statsd@0.9.0

# --- shim: the fake libxenstat for tests ------------------------------------------------------------------
# SHIM_OUT is its directory. SHIM_WITHOUT lists functions that it lacks, like the library of an older release. SHIM_LIKE
# is the libxenstat whose SONAME and symbol version it has: xentop of the same distribution asks for these.

SHIM_OUT ?= $(TARGET)/shim
SHIM_WITHOUT ?=
SHIM_LIKE ?= $(shell pkg-config --variable=libdir xenstat 2>/dev/null)/libxenstat.so
SHIM_VERSION := $(or $(shell pkg-config --modversion xenstat 2>/dev/null),4.17.0)
SHIM_ABI := $(shell tests/shim/abi $(SHIM_LIKE) $(SHIM_VERSION))
SHIM_SONAME := $(word 1,$(SHIM_ABI))
SHIM_LIB := $(SHIM_OUT)/$(SHIM_SONAME)
SHIM_MAP := $(SHIM_OUT)/version.map
SHIM_ARCHIVE := $(TARGET)/release/libxenstat_shim.a
SHIM_SOURCES := Cargo.toml Cargo.lock wrapper.h \
    $(wildcard tests/shim/Cargo.toml tests/shim/build.rs tests/shim/src/*.rs)

shim: ## Build the fake libxenstat for tests (tests/shim) as target/shim/libxenstat.so
	@mkdir -p $(TARGET) $(SHIM_OUT) && flock $(TARGET)/.shim.lock $(MAKE) --no-print-directory shim-files

shim-files: $(SHIM_LIB)

# Linked here and not by rustc, whose version script cannot be combined with this one. A symbol that no pattern matches
# keeps the base version. A reference to gettimeofday@GLIBC_x accepts that, so the clock functions replace libc's.
# nodelete: the count of polls and freed nodes are kept over the life of the process, even after a dlclose.
$(SHIM_LIB): $(SHIM_ARCHIVE) $(SHIM_MAP)
	$(CC) -shared -o $@ -Wl,-soname,$(SHIM_SONAME),--version-script=$(SHIM_MAP),-z,defs,-z,nodelete,--gc-sections \
	    -Wl,--whole-archive $(SHIM_ARCHIVE) -Wl,--no-whole-archive -lgcc_s -lpthread -ldl -lm -lc
	ln -sf $(SHIM_SONAME) $(SHIM_OUT)/libxenstat.so

$(SHIM_ARCHIVE): $(SHIM_SOURCES)
	@echo "building the fake libxenstat for tests, a few minutes the first time"
	cargo build --release -p xenstat-shim
	@touch $@

$(SHIM_MAP): FORCE
	@printf '%s { global: xenstat_*; local: _R*; _ZN*; __rust*; rust_*; %s };\n' $(word 2,$(SHIM_ABI)) \
	    '$(SHIM_WITHOUT:%=%;)' >$@.new; cmp -s $@.new $@ || cp $@.new $@; rm $@.new
