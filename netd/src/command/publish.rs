//! `netd publish`, `unpublish`, `ports`.

use crate::cli::{AccessOptions, Publish, Unpublish};
use crate::engine::{Host, Settings};
use crate::error::Result;
use crate::output::{Output, Published};
use crate::report::Removed;
use crate::spec::Name;

pub(super) async fn publish(settings: &Settings, output: Output, request: Publish) -> Result<()> {
    let access = request.access.lists()?;
    let mut host = Host::open(settings).await?;
    let outcome = match host.publish(&request.target, &[request.spec], &access).await {
        Ok(made) => {
            let made: Vec<_> = made.iter().collect();
            host.report_publications(&made).and_then(|ports| output.print(&Published(ports)))
        }
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
