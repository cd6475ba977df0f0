//! The netd command.
fn main() {}
