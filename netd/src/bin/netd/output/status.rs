//! The state of an instance, and what a command has removed, as text.

use std::fmt::Write as _;

use netd::ProgramsVersion;
use netd::report::{Removed, Status, Upgraded};

use super::flows;
use super::format::{facts, or_dash, table, yes};
use super::text::Text;

impl Text for Status {
    fn text(&self) -> String {
        let rows = self.flows.as_ref().map(|fill| {
            format!("{} of {} rows, for {} connections", fill.rows, fill.capacity, fill.max_connections)
        });
        let follower = self.follower.as_ref().map(|one| {
            format!("process {}: looked {} times, repaired {}", one.pid, one.passes, one.repaired)
        });
        let mut text = facts(&[
            ("instance", self.instance.clone()),
            ("state", self.state_dir.clone()),
            ("pins", or_dash(self.pins.as_ref())),
            ("version", or_dash(self.version.as_ref())),
            ("networks", self.networks.to_string()),
            ("containers", self.containers.to_string()),
            ("published ports", self.publications.to_string()),
            ("XDP", self.xdp.to_owned()),
            ("follower", or_dash(follower)),
            ("flow table", or_dash(rows)),
            ("kernel", self.features.kernel.clone()),
            ("tcx", yes(self.features.tcx)),
            ("BTF", yes(self.features.btf)),
            ("cgroup v2", or_dash(self.features.cgroup2.as_ref())),
        ]);
        if let Some(fill) = &self.flows {
            text.push('\n');
            text += &flows::tables(&fill.tables);
        }
        if !self.programs.is_empty() {
            text.push('\n');
            text += &table(
                "PROGRAM\tHOOK\tATTACHED\tON",
                self.programs.iter().map(|program| {
                    format!(
                        "{}\t{}\t{}\t{}",
                        program.program,
                        program.hook,
                        yes(program.attached),
                        program.on
                    )
                }),
            );
        }
        let drops: Vec<_> = self.drops.iter().filter(|drop| drop.count.packets > 0).collect();
        if !drops.is_empty() {
            text.push('\n');
            text += &table(
                "DROPPED\tREASON\tMEANING",
                drops.iter().map(|drop| format!("{}\t{}\t{}", drop.count.packets, drop.reason, drop.text)),
            );
        }
        for warning in &self.warnings {
            // Writing to a string does not fail.
            let _ok = writeln!(text, "\nwarning: {warning}");
        }
        text
    }
}

impl Text for Upgraded {
    fn text(&self) -> String {
        if self.replaced.is_empty() {
            return format!("the programs are those of netd {}\n", self.programs);
        }
        let told = |text: String, before: &ProgramsVersion| {
            text + &format!("replaced the programs of netd {before}\n")
        };
        self.replaced.iter().fold(String::new(), told) + &format!("now: netd {}\n", self.programs)
    }
}

impl Text for Removed {
    fn text(&self) -> String {
        self.removed.iter().fold(String::new(), |text, one| text + one + "\n")
    }
}
