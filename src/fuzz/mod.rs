//! Fuzz targets: input that an attacker may control, and what has to hold for any of it. Built for tests only: unit
//! tests run each target on its corpus in tests/fuzz/corpus, and `make fuzz` lets libFuzzer search for more.
//!
//! A new target is a function, its row in [`TARGETS`], and a directory of its name in tests/fuzz/corpus with at least
//! one input.

mod host;
mod input;
mod lines;
pub mod names;
mod snapshots;
mod sources;

/// Panics if something does not hold.
pub type Target = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: &[(&str, Target)] = &[
    ("blkback", sources::blkback),
    ("gauges", lines::gauges),
    ("host", host::host),
    ("names", names::names),
    ("net-dev", sources::net_dev),
    ("options", names::options),
    ("qmp", sources::qmp),
    ("tapdisk", sources::tapdisk),
    ("templates", names::templates),
    ("urls", names::urls),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn corpus_of_each_target_passes() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
        let kept: BTreeSet<String> =
            fs::read_dir(&corpus).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert!(kept.iter().eq(TARGETS.iter().map(|(name, _)| *name)), "each target has a directory: {kept:?}");
        for (name, target) in TARGETS {
            let mut inputs = 0;
            for input in fs::read_dir(corpus.join(name)).unwrap() {
                let path = input.unwrap().path();
                // Names the input if the target panics.
                println!("{}", path.display());
                target(&fs::read(&path).unwrap());
                inputs += 1;
            }
            assert!(inputs > 0, "{name} has no input");
            target(&[]);
        }
    }
}
