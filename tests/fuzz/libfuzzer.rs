//! libFuzzer around one of the targets in src/fuzz/mod.rs, which FUZZ_TARGET names: `make fuzz` builds and runs it.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    use std::sync::LazyLock;

    static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
        let wanted = std::env::var("FUZZ_TARGET").unwrap_or_default();
        let target = xenmonitor::fuzz::TARGETS.iter().find(|(name, _)| *name == wanted);
        target.unwrap_or_else(|| panic!("FUZZ_TARGET={wanted} is no target of src/fuzz/mod.rs")).1
    });
    TARGET(input);
});

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("not built for fuzzing: make fuzz");
}
