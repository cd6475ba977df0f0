//! Metrics: what a session tells, as OpenMetrics text, and the server that answers scrapes with it.
//!
//! The server has a thread of its own: neither does a scrape delay the follower, nor a lock that the follower waits for a
//! scrape. It opens a [`Session`](crate::session::Session) for each scrape, so it takes no lock and changes nothing.

mod http;
mod server;
mod socket;
#[cfg(test)]
mod tests;
mod text;

pub(crate) use server::Server;
pub use text::openmetrics;
