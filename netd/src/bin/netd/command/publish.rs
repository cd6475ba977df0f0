//! Carries out `netd publish`, `unpublish`, `ports` and `access`.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::str::FromStr;

use netd::report::Removed;
use netd::{
    Doing as _, Error, Name, Policy, Publication, PublishRequest, Replace, Result, Session, Settings,
};

use super::change::{change, take_away};
use crate::cli::{AccessOptions, Publish, PublishOptions, Unpublish};
use crate::hints;
use crate::output::{Output, Published};

/// The policy that these options ask for.
pub(super) fn policy(options: PublishOptions) -> Result<Policy> {
    Ok(Policy { access: options.access.lists()?, interface: options.interface })
}

pub(super) async fn publish(settings: &Settings, output: Output, typed: Publish) -> Result<()> {
    let replace = if typed.cut { Replace::Cut } else { Replace::Drain };
    let request = PublishRequest {
        target: typed.target,
        ports: with_file(typed.specs, typed.from.as_deref())?,
        policy: policy(typed.terms)?,
        keep_source: typed.keep_source,
        replace: typed.replace.then_some(replace),
    };
    let (made, session) = change(settings, async |host| host.publish(&request).await).await?;
    output.print(&Published(session.report_new(&made)?))
}

/// The ports of the command line and those of a file (`-` for standard input). A line of the file has any number of ports; `#`
/// starts a comment.
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
                let message = format!("line {number} of {name}: {}", error.chain());
                Error::Malformed { message, expected: hints::hint(&error) }
            })?);
        }
    }
    if specs.is_empty() {
        return Err(Error::malformed(format!("there is no port in {name}")));
    }
    Ok(specs)
}

pub(super) async fn unpublish(settings: &Settings, output: Output, request: Unpublish) -> Result<()> {
    let specs = with_file(request.specs, request.from.as_deref())?;
    let (removed, _) = take_away(settings, async |host| {
        if request.all || request.container.is_some() {
            host.unpublish_all(request.container.as_ref()).await
        } else {
            host.unpublish(&specs).await
        }
    })
    .await?;
    output.print(&Removed { removed: removed.iter().map(Publication::spec).collect() })
}

pub(super) async fn access(
    settings: &Settings,
    output: Output,
    lists: &AccessOptions,
    open: bool,
) -> Result<()> {
    let lists = lists.lists()?;
    if !open && lists.is_empty() {
        return output.print(Session::open(settings)?.access());
    }
    let ((), session) = change(settings, async |host| host.set_access(&lists).await).await?;
    output.print(session.access())
}

pub(super) fn ports(
    settings: &Settings,
    output: Output,
    container: Option<&Name>,
    active: bool,
) -> Result<()> {
    output.print(&Session::open(settings)?.report_ports(container, active)?)
}
