//! Compares the records with the kernel. It only reads.

mod compare;
mod facts;

pub(crate) use compare::differences;
pub(crate) use facts::Facts;
