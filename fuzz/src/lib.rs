//! What the fuzz targets check: each module has a function that panics if its input breaks a rule. The targets only
//! call them.
//!
//! | module | input |
//! |---|---|
//! | [`desired`] | files of the desired state |
//! | [`packet`] | a frame, as read by `netd_common::wire` |
//! | [`source_guard`] | a frame that a container sends |
//! | [`rewrite`] | a tuple, and a packet that is translated to it and back |
//! | [`spec`] | a word of the command line |
//! | [`state`] | the state file |

#![expect(clippy::missing_panics_doc, reason = "a broken rule is a panic")]
#![expect(clippy::expect_used, reason = "a broken rule is a panic")]

pub mod desired;
pub mod packet;
pub mod rewrite;
pub mod source_guard;
pub mod spec;
pub mod state;
