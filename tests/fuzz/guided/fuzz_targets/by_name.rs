//! One target of tests/fuzz, named by the environment: `IRONSEED_FUZZ_TARGET=config`.
#![no_main]

use ironseed_fuzz::{Target, target, targets};
use std::sync::LazyLock;

static TARGET: LazyLock<&'static Target> = LazyLock::new(|| {
    let name = std::env::var("IRONSEED_FUZZ_TARGET").unwrap_or_default();
    let names: Vec<&str> = targets().iter().map(|target| target.name).collect();
    target(&name).unwrap_or_else(|| panic!("IRONSEED_FUZZ_TARGET is {name:?}, not one of {names:?}"))
});

// A panic ends the process: libFuzzer keeps the input and says how to repeat it.
libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = (TARGET.run)(input);
});
