//! `netd publish` and `unpublish`: their words, and the options of publications.

use std::path::PathBuf;

use clap::Args;
use netd::{Access, Error, IfName, Name, PortSpec, Source, TargetSpec, UnpublishSpec};

use super::value;

/// How ports are published.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct PublishOptions {
    /// Who may use them
    #[command(flatten)]
    pub(crate) access: AccessOptions,
    /// Accept only clients that arrive on this interface, and neither the host itself nor containers
    #[arg(long, value_name = "IFACE")]
    pub(crate) interface: Option<IfName>,
}

/// Who may use published ports.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct AccessOptions {
    /// Allow only these sources; if several lists match, the longest prefix wins (repeatable)
    #[arg(long, value_name = "CIDR")]
    pub(crate) allow: Vec<Source>,
    /// Deny these sources (repeatable)
    #[arg(long, value_name = "CIDR")]
    pub(crate) deny: Vec<Source>,
}

impl AccessOptions {
    /// The lists.
    ///
    /// # Errors
    ///
    /// If a source is both allowed and denied.
    pub(crate) fn lists(&self) -> Result<Access, Error> {
        Access::new(self.allow.clone(), self.deny.clone())
    }
}

/// Ports to be published.
#[derive(Debug, Args)]
#[command(
    allow_missing_positional = true,
    after_help = "\
Either all ports are published or none.

Examples:
  netd publish 8080:80 web                 On every address of the host
  netd publish 127.0.0.1:8080:80 web       For the host itself only
  netd publish 53:53/udp dns
  netd publish 80:80 443:443 443:443/udp web
  netd publish 80 web                      On a free host port, which is printed
  netd publish 8000-8010:80 web            On the first free port of the range
  netd publish 30000-30099:30000-30099 game
  netd publish --from ports.txt web        The ports that the file lists
  seq -f %.0f:80 20000 29999 | netd publish --from - web
  netd publish 8080:80 192.0.2.10          Forward to another host, with SNAT
  netd publish 8080:80 192.0.2.10 --keep-source
                                           Without SNAT; replies must return
                                           through this host
  netd publish 8080:80 web --interface eth1
                                           Only for clients that arrive on eth1
  netd publish --replace 8080:80 web2      New connections go to web2, open ones
                                           stay with the previous target
  netd publish --replace --cut 8080:80 web2
                                           Open connections are cut
  netd publish 5432:5432 db --allow 192.0.2.0/24 --deny 192.0.2.13"
)]
pub(crate) struct Publish {
    /// Port to publish: [HOSTIP:][HOSTPORT[-END]:]PORT[-END][/tcp|udp|sctp]
    #[arg(value_name = "PORT", required_unless_present = "from", value_parser = value::port_to_publish)]
    pub(crate) specs: Vec<PortSpec>,
    /// Container name, or IP address of another host
    #[arg(required = true, value_parser = value::target)]
    pub(crate) target: TargetSpec,
    /// Also publish the ports listed in a file (- for standard input; # starts a comment)
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Option<PathBuf>,
    /// How ports are published
    #[command(flatten)]
    pub(crate) terms: PublishOptions,
    /// For another host: keep the clients' source addresses; replies must return through this host
    #[arg(long)]
    pub(crate) keep_source: bool,
    /// Move the ports from the publication that has them; its open connections continue
    #[arg(long)]
    pub(crate) replace: bool,
    /// With --replace: cut open connections
    #[arg(long, requires = "replace")]
    pub(crate) cut: bool,
    /// Not an option of publish: its parser says what to write instead
    #[arg(short = 'p', long = "publish", hide = true, value_name = "PORT", value_parser = value::needless_p)]
    needless: Option<String>,
}

/// Publications to be removed.
#[derive(Debug, Args)]
#[group(id = "which", required = true, multiple = true)]
#[command(after_help = "\
Examples:
  netd unpublish 8080                      By the host port
  netd unpublish 53/udp 127.0.0.1:8080:80  By protocol, or as it was published
  netd unpublish --from ports.txt
  netd unpublish --container web
  netd unpublish --all

Open connections to the port are cut.")]
pub(crate) struct Unpublish {
    /// Published port: [HOSTIP:]HOSTPORT[-END][:PORT[-END]][/tcp|udp|sctp]
    #[arg(value_name = "PORT", group = "which", value_parser = value::port_to_unpublish)]
    pub(crate) specs: Vec<UnpublishSpec>,
    /// Also the ports listed in a file (- for standard input; # starts a comment)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["container", "all"], group = "which")]
    pub(crate) from: Option<PathBuf>,
    /// All ports of this container
    #[arg(long, value_name = "NAME", conflicts_with = "specs", group = "which")]
    pub(crate) container: Option<Name>,
    /// All ports of this instance
    #[arg(long, conflicts_with_all = ["specs", "container"], group = "which")]
    pub(crate) all: bool,
}
