//! Containers as text.

use netd::report::{Container, TableFill};

use super::format::{bytes, facts, join, or_dash, table};
use super::ports::{arrow, cell};
use super::text::Text;

impl Text for Vec<Container> {
    fn text(&self) -> String {
        table(
            "NAME\tNETWORK\tADDRESSES\tHOST INTERFACE\tPORTS",
            self.iter().map(|container| {
                let addresses: Vec<_> = container.addresses.iter().map(|address| address.ip).collect();
                let cells = [
                    container.name.clone(),
                    container.network.clone(),
                    join(&addresses),
                    or_dash(container.host_interface.as_ref()),
                    cell(&container.ports),
                ];
                cells.join("\t")
            }),
        )
    }
}

impl Text for Container {
    fn text(&self) -> String {
        let mut lines = vec![
            ("name", self.name.clone()),
            ("network", self.network.clone()),
            ("namespace", self.sandbox.clone()),
            ("interface", or_dash(self.interface.as_ref())),
            ("host interface", or_dash(self.host_interface.as_ref())),
            ("MAC address", or_dash(self.mac.as_ref())),
            ("MTU", or_dash(self.mtu)),
        ];
        for address in &self.addresses {
            lines.push(("address", format!("{}/{}", address.ip, address.prefix_len)));
            lines.push(("gateway", or_dash(address.gateway)));
        }
        for net in self.interfaces.iter().flat_map(|one| &one.allowed_addresses) {
            lines.push(("allowed address", net.to_string()));
        }
        for port in &self.ports {
            lines.push(("port", arrow(port)));
        }
        for TableFill { table, family, connections, quota, .. } in &self.flows {
            lines.push((table, format!("{connections} {family} connections, quota {quota}")));
        }
        let counters = [("received", self.counters.inward), ("sent", self.counters.out)];
        for (name, count) in counters {
            lines.push((name, format!("{} packets, {}", count.packets, bytes(count.bytes))));
        }
        facts(&lines)
    }
}
