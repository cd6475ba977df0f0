//! Carries out `netd network`.

use netd::report::Removed;
use netd::{GatewayModes, InterfaceRequest, NetworkRequest, Result, Session, Settings};

use super::change::{change, take_away};
use crate::cli::{NetworkCommand, NetworkConnect, NetworkCreate};
use crate::output::Output;

pub(super) async fn execute(settings: &Settings, output: Output, command: NetworkCommand) -> Result<()> {
    match command {
        NetworkCommand::Create(typed) => {
            let request = request(typed)?;
            let (name, session) = change(settings, async |host| host.create_network(request).await).await?;
            output.print_or(&session.report_network(&name)?, || format!("{name}\n"))
        }
        NetworkCommand::Ls => output.print(&Session::open(settings)?.report_networks()),
        NetworkCommand::Inspect { name } => output.print(&Session::open(settings)?.report_network(&name)?),
        NetworkCommand::Connect(NetworkConnect {
            network,
            container,
            interface,
            ip,
            mac,
            allowed_address,
        }) => {
            let request = InterfaceRequest {
                addresses: ip,
                mac,
                allowed: allowed_address,
                ..InterfaceRequest::new(interface, network)
            };
            let ((), session) =
                change(settings, async |host| host.connect(&container, &request).await).await?;
            output.print_or(&session.report_container(&container).await?, || format!("{container}\n"))
        }
        NetworkCommand::Disconnect { network, container } => {
            take_away(settings, async |host| host.disconnect(&container, &network).await).await?;
            output.print(&Removed { removed: vec![format!("{container} from {network}")] })
        }
        NetworkCommand::Rm { name, force } => {
            take_away(settings, async |host| host.remove_network(&name, force).await).await?;
            output.print(&Removed { removed: vec![name.to_string()] })
        }
    }
}

fn request(typed: NetworkCreate) -> Result<NetworkRequest> {
    Ok(NetworkRequest {
        name: typed.name,
        subnets: typed.subnet,
        gateways: typed.gateway,
        adopt: typed.adopt.is_some(),
        unmanaged: typed.unmanaged,
        transient: false,
        bridge: typed.adopt.or(typed.bridge),
        mtu: typed.mtu,
        ipv6: typed.ipv6,
        internal: typed.internal,
        icc: !typed.no_icc,
        masquerade: !typed.no_masquerade,
        snat: typed.snat_address,
        modes: GatewayModes::new(&typed.gateway_mode)?,
        trusted: typed.trusted_interface,
    })
}
