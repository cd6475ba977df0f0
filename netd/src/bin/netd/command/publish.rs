//! `netd publish`, `unpublish`, `ports`.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::str::FromStr;

use crate::cli::{AccessOptions, Publish, PublishOptions, Unpublish};
use crate::output::{Output, Published};
use netd::engine::{Host, PublishRequest, Replace, Settings, Terms};
use netd::error::{Doing as _, Error, Result};
use netd::report::Removed;
use netd::spec::Name;

/// What the options say.
pub(super) fn terms(options: PublishOptions) -> Result<Terms> {
    Ok(Terms { access: options.access.lists()?, interface: options.interface })
}

pub(super) async fn publish(settings: &Settings, output: Output, typed: Publish) -> Result<()> {
    let replace = if typed.cut { Replace::Cut } else { Replace::Drain };
    let request = PublishRequest {
        target: typed.target,
        ports: with_file(typed.specs, typed.from.as_deref())?,
        terms: terms(typed.terms)?,
        keep_source: typed.keep_source,
        replace: typed.replace.then_some(replace),
    };
    let mut host = Host::open(settings).await?;
    let outcome = match host.publish(&request).await {
        Ok(made) => host.report_new(&made).and_then(|ports| output.print(&Published(ports))),
        Err(error) => Err(error),
    };
    let closed = host.close();
    outcome.and(closed)
}

/// The words of the command line and those of a file (`-`: of standard input), which has as many on a line as it likes, and
/// comments behind a `#`.
fn with_file<T: FromStr<Err = Error>>(mut specs: Vec<T>, from: Option<&Path>) -> Result<Vec<T>> {
    let Some(path) = from else { return Ok(specs) };
    let mut text = String::new();
    let (name, read) = if path.as_os_str() == "-" {
        ("standard input".to_owned(), std::io::stdin().read_to_string(&mut text))
    } else {
        (path.display().to_string(), fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text)))
    };
    read.doing(|| format!("read {name}"))?;
    for (number, line) in (1..).zip(text.lines()) {
        let words = line.split('#').next().unwrap_or_default();
        for word in words.split_whitespace() {
            specs.push(word.parse().map_err(|error: Error| {
                let hint = error.hint_text().map(str::to_owned);
                let error = Error::invalid(format!("line {number} of {name}: {}", error.chain()));
                hint.into_iter().fold(error, Error::hint)
            })?);
        }
    }
    if specs.is_empty() {
        return Err(Error::invalid(format!("there is no port in {name}")));
    }
    Ok(specs)
}

pub(super) async fn unpublish(settings: &Settings, output: Output, request: Unpublish) -> Result<()> {
    let specs = with_file(request.specs, request.from.as_deref())?;
    let mut host = Host::open(settings).await?;
    let taken = if request.all || request.container.is_some() {
        host.unpublish_all(request.container.as_ref())
    } else {
        host.unpublish(&specs)
    };
    let outcome = taken.and_then(|taken| {
        let removed = taken.iter().map(netd::store::Publication::spec).collect();
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
