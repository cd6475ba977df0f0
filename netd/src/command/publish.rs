//! `netd publish`, `unpublish`, `ports`.

use crate::cli::{AccessOptions, Publish, PublishOptions, Unpublish};
use crate::engine::{Host, PublishRequest, Replace, Settings, Terms};
use crate::error::Result;
use crate::output::{Output, Published};
use crate::report::Removed;
use crate::spec::Name;

/// What the options say.
pub(super) fn terms(options: PublishOptions) -> Result<Terms> {
    Ok(Terms { access: options.access.lists()?, interface: options.interface })
}

pub(super) async fn publish(settings: &Settings, output: Output, typed: Publish) -> Result<()> {
    let replace = if typed.cut { Replace::Cut } else { Replace::Drain };
    let request = PublishRequest {
        target: typed.target,
        port: typed.spec,
        terms: terms(typed.terms)?,
        keep_source: typed.keep_source,
        replace: typed.replace.then_some(replace),
    };
    let mut host = Host::open(settings).await?;
    let outcome = match host.publish(&request).await {
        Ok(made) => host.report_publications(&[&made]).and_then(|ports| output.print(&Published(ports))),
        Err(error) => Err(error),
    };
    let closed = host.close();
    outcome.and(closed)
}

pub(super) async fn unpublish(settings: &Settings, output: Output, request: Unpublish) -> Result<()> {
    let mut host = Host::open(settings).await?;
    let taken = if request.specs.is_empty() {
        host.unpublish_all(request.container.as_ref())
    } else {
        host.unpublish(&request.specs)
    };
    let outcome = taken.and_then(|taken| {
        let removed = taken.iter().map(crate::store::Publication::spec).collect();
        output.print(&Removed { removed })
    });
    let closed = host.close();
    outcome.and(closed)
}

pub(super) async fn access(
    settings: &Settings,
    output: Output,
    lists: &AccessOptions,
    open: bool,
) -> Result<()> {
    let lists = lists.lists()?;
    let mut host = Host::open(settings).await?;
    let changed = if open || !lists.is_empty() { host.set_access(lists).await } else { Ok(()) };
    let outcome = changed.and_then(|()| output.print(host.access()));
    let closed = host.close();
    outcome.and(closed)
}

pub(super) async fn ports(settings: &Settings, output: Output, container: Option<Name>) -> Result<()> {
    let host = Host::open(settings).await?;
    let outcome = host.report_ports(container.as_ref()).and_then(|ports| output.print(&ports));
    let closed = host.close();
    outcome.and(closed)
}
