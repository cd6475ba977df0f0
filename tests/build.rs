//! Tells the benchmark where netd's build script has put the BPF programs that make and count its packets.

use std::env;

fn main() -> Result<(), env::VarError> {
    println!("cargo::rustc-env=NETD_LOAD_OBJECT={}", env::var("DEP_NETD_DATAPLANE_LOAD_OBJECT")?);
    Ok(())
}
