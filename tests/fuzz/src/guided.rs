//! `ironseed-fuzz-guided`: libFuzzer around one target, named by the environment. `cargo xtask fuzz` builds and starts it.
#![no_main]

libfuzzer_sys::fuzz_target!(init: ironseed_fuzz::steered::begin(), |input: &[u8]| {
    ironseed_fuzz::steered::feed(input);
});
