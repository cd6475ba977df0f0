//! The laws that the fuzz targets try to break: each module has a function that panics if its input breaks one. The targets
//! themselves only call them.
//!
//! | module | input |
//! |---|---|
//! | [`packet`] | a frame, as read by `netd_common::wire` |
//! | [`guard`] | a frame that a container sends |
//! | [`rewrite`] | a tuple, and a packet that is translated to it and back |
//! | [`spec`] | a word of the command line |
//! | [`state`] | the state file |

#![expect(clippy::missing_panics_doc, reason = "a broken law is a panic")]
#![expect(clippy::expect_used, reason = "a broken law is a panic")]

pub mod guard;
pub mod packet;
pub mod rewrite;
pub mod spec;
pub mod state;
