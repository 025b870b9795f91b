//! Finds the object that `cargo xtask build` made of the kernel side.

use std::{env, path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    println!("cargo::rerun-if-env-changed=CHAPERONE_EBPF");
    let object = env::var_os("CHAPERONE_EBPF").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/ebpf/chaperone.bpf.o"),
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
