//! `netd network`.

use crate::cli::NetworkCommand;
use crate::output::Output;
use netd::engine::{Host, NetworkRequest, Settings};
use netd::error::Result;
use netd::report::Removed;
use netd::spec::GatewayModes;

pub(super) async fn execute(settings: &Settings, output: Output, command: NetworkCommand) -> Result<()> {
    let mut host = Host::open(settings).await?;
    let outcome = carry_out(&mut host, output, command).await;
    let closed = host.close();
    outcome.and(closed)
}

async fn carry_out(host: &mut Host, output: Output, command: NetworkCommand) -> Result<()> {
    match command {
        NetworkCommand::Create(typed) => {
            let name = host
                .create_network(NetworkRequest {
                    name: typed.name,
                    subnets: typed.subnet,
                    gateways: typed.gateway,
                    bridge: typed.bridge,
                    mtu: typed.mtu,
                    ipv6: typed.ipv6,
                    internal: typed.internal,
                    icc: !typed.no_icc,
                    masquerade: !typed.no_masquerade,
                    snat: typed.snat_address,
                    modes: GatewayModes::new(&typed.gateway_mode)?,
                    trusted: typed.trusted_interface,
                })
                .await?;
            output.print_or(&host.report_network(&name)?, || format!("{name}\n"))
        }
        NetworkCommand::Ls => output.print(&host.report_networks()),
        NetworkCommand::Inspect { name } => output.print(&host.report_network(&name)?),
        NetworkCommand::Rm { name, force } => {
            host.remove_network(&name, force).await?;
            output.print(&Removed { removed: vec![name.to_string()] })
        }
    }
}
