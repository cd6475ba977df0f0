//! What every result has: a text for people.

/// A result that people can read.
pub(crate) trait Text {
    /// The text; it ends with a newline unless it is empty.
    fn text(&self) -> String;
}
