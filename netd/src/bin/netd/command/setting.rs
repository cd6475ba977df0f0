//! Carries out `netd set` and `netd get`.

use netd::{Result, Session, Setting, SettingName, Settings};

use super::change::change;
use crate::output::Output;

pub(super) async fn set(settings: &Settings, output: Output, changes: &[Setting]) -> Result<()> {
    let ((), session) = change(settings, async |host| host.set(changes).await).await?;
    output.print(&session.report_settings())
}

pub(super) fn get(settings: &Settings, output: Output, name: Option<SettingName>) -> Result<()> {
    let all = Session::open(settings)?.report_settings();
    match name.and_then(|name| all.iter().find(|one| one.name == name.name())) {
        // As scripts want it.
        Some(one) => output.print_or(one, || one.value.clone() + "\n"),
        None => output.print(&all),
    }
}
