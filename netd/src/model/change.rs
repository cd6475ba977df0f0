//! What applying a desired state changes.

use serde::Serialize;

/// What happens to something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Action {
    /// It is made.
    Add,
    /// It stays, with other values.
    Change,
    /// It is removed.
    Remove,
}

/// A change: an element of `changes` of `netd apply --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What happens.
    pub action: Action,
    /// To what: `setting`, `network`, `container` or `publish`.
    pub object: &'static str,
    /// Its name. That of a published port is as it is written for `-p`.
    pub name: String,
    /// Its values that differ. Of what is added, its values; of what is removed, none.
    pub differences: Vec<ValueChange>,
}

/// A value that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ValueChange {
    /// The value's name.
    pub what: String,
    /// What it is; null if there is none.
    pub from: Option<String>,
    /// What it becomes; null if there is none.
    pub to: Option<String>,
}

impl Change {
    /// Something is made, with these values.
    pub(crate) fn added(object: &'static str, name: &impl ToString, values: Vec<(&str, String)>) -> Self {
        let value =
            |(what, to): (&str, String)| ValueChange { what: what.to_owned(), from: None, to: Some(to) };
        let differences = values.into_iter().map(value).collect();
        Self { action: Action::Add, object, name: name.to_string(), differences }
    }

    /// Something has other values.
    pub(crate) fn changed(object: &'static str, name: &impl ToString, differences: Vec<ValueChange>) -> Self {
        Self { action: Action::Change, object, name: name.to_string(), differences }
    }

    /// Something is removed.
    pub(crate) fn removed(object: &'static str, name: &impl ToString) -> Self {
        Self { action: Action::Remove, object, name: name.to_string(), differences: Vec::new() }
    }
}

impl ValueChange {
    /// A value that differs; none if it does not. An empty text is no value.
    pub(crate) fn of(what: impl Into<String>, from: String, to: String) -> Option<Self> {
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        (from != to).then(|| Self { what: what.into(), from: some(from), to: some(to) })
    }
}
