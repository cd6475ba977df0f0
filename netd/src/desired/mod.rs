//! The desired state as TOML: files → what they ask for, what is there → a file, and the JSON Schema of such files.
//!
//! Only `facts` looks at the host; everything else is pure. What is to be done about a desired state is in `plan`.

mod facts;
mod merge;
mod parse;
mod save;
#[cfg(test)]
mod tests;
mod words;

pub(crate) use facts::read as read_facts;
pub use save::SavedState;
pub(crate) use save::saved;

/// The JSON Schema of the files.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(words::Document).to_value()
}
