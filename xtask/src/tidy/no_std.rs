//! Proof that core, with everything it is built from, has no `std` under it.
//!
//! `#![no_std]` in core says nothing of its dependencies: one feature switched on by accident, and
//! the standard library with its clocks, threads and environment is back. So core is checked against
//! a copy of the toolchain's library folder that holds `core`, `alloc` and the compiler's own
//! builtins and nothing else. Whatever says `extern crate std`, by itself or through a feature, then
//! fails with "can't find crate for `std`". Nothing has to be installed for that, and build scripts
//! and derive macros are not affected: with `--target` the flags reach only what is built for it.

use crate::shell::{self, Context, Failure, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the copy holds. The last is an empty crate that the builtins name.
const KEPT: &[&str] = &["core", "alloc", "compiler_builtins", "rustc_std_workspace_core"];

pub(crate) fn check() -> Result {
    let host = host()?;
    let dir = shell::target_dir()?.join("tidy-no-std");
    let sysroot = dir.join("sysroot");
    copy_libraries(&host, &sysroot)?;
    let args = ["check", "--quiet", "--package", "ironseed-core", "--target", &host];
    let mut cargo = shell::cargo(args);
    cargo
        .env("CARGO_TARGET_DIR", dir.join("build"))
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", format!("--sysroot={}", sysroot.display()));
    shell::run(cargo)
        .map_err(|failure| Failure::new(format!("core does not build without std: {failure}")))
}

fn rustc() -> Command {
    let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.current_dir(shell::root());
    command
}

fn host() -> Result<String> {
    let mut command = rustc();
    command.arg("-vV");
    let version = shell::capture(command)?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| Failure::new("rustc -vV names no host"))
}

/// Links the kept libraries into a folder of the same shape, made anew so that nothing of an older
/// toolchain stays.
fn copy_libraries(host: &str, sysroot: &Path) -> Result {
    let mut command = rustc();
    command.args(["--print", "sysroot"]);
    let real = PathBuf::from(shell::capture(command)?.trim());
    let lib = |base: &Path| base.join("lib/rustlib").join(host).join("lib");
    let (from, to) = (lib(&real), lib(sysroot));
    if to.exists() {
        std::fs::remove_dir_all(&to).context(|| to.display().to_string())?;
    }
    std::fs::create_dir_all(&to).context(|| to.display().to_string())?;
    let mut copied = 0;
    for entry in std::fs::read_dir(&from).context(|| from.display().to_string())? {
        let name = entry.context(|| from.display().to_string())?.file_name();
        let text = name.to_string_lossy();
        let kept = KEPT.iter().any(|kept| text.starts_with(&format!("lib{kept}-")));
        if kept && (text.ends_with(".rlib") || text.ends_with(".rmeta")) {
            let (from, to) = (from.join(&name), to.join(&name));
            // A hard link costs nothing; a copy is for a target folder on another disk.
            if std::fs::hard_link(&from, &to).is_err() {
                std::fs::copy(&from, &to).context(|| to.display().to_string())?;
            }
            copied += 1;
        }
    }
    // Both forms of all of them on toolchains of today, only the first on older ones.
    if copied < KEPT.len() {
        let what = format!("found {copied} libraries in {}, not {KEPT:?}", from.display());
        return Err(Failure::new(what));
    }
    Ok(())
}
