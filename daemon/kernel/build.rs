//! Finds the object that `cargo xtask build` made of the kernel side.

use std::{env, path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    println!("cargo::rerun-if-env-changed=CHAPERONE_EBPF");
    // As it is now, and not as it was when this was compiled.
    let folder = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let object = env::var_os("CHAPERONE_EBPF").map_or_else(
        || PathBuf::from(folder).join("../../target/ebpf/chaperone.bpf.o"),
        PathBuf::from,
    );
    println!("cargo::rerun-if-changed={}", object.display());
    let Ok(object) = object.canonicalize() else {
        println!(
            "cargo::error=the kernel side is not built yet ({} is missing): run `cargo xtask build`",
            object.display()
        );
        return ExitCode::FAILURE;
    };
    println!("cargo::rustc-env=CHAPERONE_EBPF_OBJECT={}", object.display());
    ExitCode::SUCCESS
}
