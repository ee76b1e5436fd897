//! Checks that the sanitizers work: `make test-sanitizers` runs all tests on a daemon built with one.

use crate::support::{Scratch, bare, run, sanitizer, scenario, shim_with};

/// With a libxenstat that has the bugs they look for (wrong.c).
#[test]
#[ignore = "needs a daemon built with a sanitizer: make test-sanitizers"]
fn sanitizer_detects_known_bugs() {
    let (scratch, sanitizer) = (Scratch::new(), sanitizer().expect("TESTED_WITH names the sanitizer"));
    let library = shim_with("wrong.c", &scratch);
    let mut daemon = bare();
    // The report must not be counted.
    daemon.env_remove("ASAN_OPTIONS").env_remove("TSAN_OPTIONS");
    daemon.env("XENSTAT_SCENARIO", scenario("demo")).env("WRONG", &sanitizer);
    let said = run(daemon.arg("--libxenstat").arg(library).args(["--once", "--print", "table", "--host", "h"]));
    let seen = match sanitizer.as_str() {
        "address" => "ERROR: AddressSanitizer: heap-use-after-free",
        _ => "WARNING: ThreadSanitizer: data race",
    };
    assert!(said.err.contains(seen) && said.status != Some(0), "{:?} {}", said.status, said.err);
}
