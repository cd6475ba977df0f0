//! Settings as text.

use netd::report::Setting;

use super::format::table;
use super::text::Text;

impl Text for Vec<Setting> {
    fn text(&self) -> String {
        table(
            "SETTING\tVALUE\tDEFAULT\tSOURCE",
            self.iter().map(|Setting { name, value, default, source }| {
                format!("{name}\t{value}\t{default}\t{source}")
            }),
        )
    }
}
