//! Metrics as text, which other programs read.

use std::sync::Arc;

use netd::report::Metrics;
use serde::Serialize;

use super::text::Text;

/// Metrics, which as text are OpenMetrics.
#[derive(Clone, Debug)]
pub(crate) struct OpenMetrics(pub(crate) Arc<Metrics>);

impl Serialize for OpenMetrics {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl Text for OpenMetrics {
    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ok = netd::openmetrics(&self.0, &mut text);
        text
    }
}
