//! `netd publish`, `unpublish`, `ports` and `access`.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::str::FromStr;

use netd::report::Removed;
use netd::{
    Doing as _, Error, Name, Policy, Publication, PublishRequest, Replace, Result, Session, Settings,
    Transaction,
};

use super::finish::finish;
use crate::cli::{AccessOptions, Publish, PublishOptions, Unpublish};
use crate::hints;
use crate::output::{Output, Published};

/// What the options say.
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
    let mut transaction = Transaction::open(settings).await?;
    let outcome = transaction.publish(&request).await;
    let (made, session) = finish(transaction, outcome)?;
    output.print(&Published(session.report_new(&made)?))
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
    let mut transaction = Transaction::open(settings).await?;
    let outcome = if request.all || request.container.is_some() {
        transaction.unpublish_all(request.container.as_ref()).await
    } else {
        transaction.unpublish(&specs).await
    };
    let (removed, _) = finish(transaction, outcome)?;
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
    let mut transaction = Transaction::open(settings).await?;
    let outcome = transaction.set_access(lists).await;
    output.print(finish(transaction, outcome)?.1.access())
}

pub(super) fn ports(settings: &Settings, output: Output, container: Option<Name>) -> Result<()> {
    output.print(&Session::open(settings)?.report_ports(container.as_ref())?)
}
