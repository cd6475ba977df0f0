//! Wrong usage in plain English: what is wrong with the words given, and what to write instead.

use std::ffi::OsString;

use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use netd::Error;

use super::Cli;
use super::value::Refused;
use crate::hints;

/// A usage error as it is told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    /// What is wrong.
    pub(crate) message: String,
    /// What to do.
    pub(crate) hint: String,
}

/// What is wrong with these words (the program's name first).
pub(crate) fn explain(error: &clap::Error, words: &[OsString]) -> Usage {
    let command = command_of(words);
    let help = format!("'{command} --help' shows the usage");
    let first = |kind| strings(error, kind).into_iter().next();
    // clap orders suggestions by likeness, the best one last.
    let best = |kind| strings(error, kind).pop();
    let argument = || first(ContextKind::InvalidArg).map(|argument| plain(&argument)).unwrap_or_default();
    let given = || first(ContextKind::InvalidValue).unwrap_or_default();
    let (message, hint) = match error.kind() {
        ErrorKind::ValueValidation => refused(error, &given(), &argument()),
        ErrorKind::InvalidValue if given().is_empty() => (format!("{} needs a value", argument()), None),
        ErrorKind::InvalidValue => {
            let valid = strings(error, ContextKind::ValidValue).join(", ");
            (format!("'{}' is not a value of {}", given(), argument()), Some(format!("use one of {valid}")))
        }
        ErrorKind::UnknownArgument => {
            let hint = setting(&argument()).or_else(|| Some(did_you_mean(&best(ContextKind::SuggestedArg)?)));
            (unknown(&argument()), hint)
        }
        ErrorKind::InvalidSubcommand => (
            format!(
                "there is no command '{command} {}'",
                first(ContextKind::InvalidSubcommand).unwrap_or_default()
            ),
            best(ContextKind::SuggestedSubcommand).map(|other| did_you_mean(&other)),
        ),
        ErrorKind::MissingRequiredArgument => {
            (format!("{command} needs {}", missing(&strings(error, ContextKind::InvalidArg))), None)
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            (format!("{command} needs a command"), None)
        }
        ErrorKind::ArgumentConflict => {
            let others = strings(error, ContextKind::PriorArg);
            let others: Vec<_> = others.iter().map(|other| plain(other)).collect();
            (conflict(&argument(), &others), None)
        }
        // Whatever else clap finds, in its words.
        _ => (first_line(&error.to_string()), None),
    };
    Usage { message, hint: hint.unwrap_or(help) }
}

/// Why a value is not accepted, and the hint of whoever refused it.
fn refused(error: &clap::Error, given: &str, argument: &str) -> (String, Option<String>) {
    let Some(cause) = std::error::Error::source(error) else {
        return (format!("'{given}' is not a value of {argument}"), None);
    };
    let (message, hint) = if let Some(error) = cause.downcast_ref::<Error>() {
        (error.chain(), hints::hint(error))
    } else if let Some(refused) = cause.downcast_ref::<Refused>() {
        (refused.to_string(), refused.hint_text().map(str::to_owned))
    } else {
        (cause.to_string(), None)
    };
    let message = if message.contains(given) { message } else { format!("{argument} '{given}': {message}") };
    (message, hint)
}

/// Something on the command line that nothing expects: an option, or a word too many.
fn unknown(argument: &str) -> String {
    if argument.starts_with('-') {
        format!("unknown option {argument}")
    } else {
        format!("'{argument}' is one argument too many")
    }
}

/// The arguments that a command lacks, in words: "a port and a target".
fn missing(arguments: &[String]) -> String {
    let words: Vec<_> = arguments
        .iter()
        // Alternatives of which one is needed, as clap shows a group: `<A|--b|--c>`.
        .map(|argument| {
            argument.trim_matches(['<', '>']).split('|').map(with_article).collect::<Vec<_>>().join(" or ")
        })
        .collect();
    words.join(" and ")
}

/// `<COMMAND>...` is "a command", `--from <FILE>` is "--from".
fn with_article(argument: &str) -> String {
    let word = plain(argument);
    if word.starts_with('-') { word } else { format!("a {word}") }
}

/// An argument without its placeholders and brackets: `--from <FILE>` is "--from", `[PORT]...` is "port".
fn plain(argument: &str) -> String {
    let word = argument.split([' ', '=']).next().unwrap_or_default();
    let word = word.trim_end_matches("...").trim_matches(['<', '>', '[', ']']);
    if word.starts_with('-') { word.to_owned() } else { word.to_lowercase() }
}

fn conflict(argument: &str, others: &[String]) -> String {
    match others {
        // An option that may be given once conflicts with itself.
        [] => format!("{argument} cannot be given more than once"),
        [other] if other == argument => format!("{argument} cannot be given more than once"),
        others => format!("{argument} cannot be used together with {}", others.join(", ")),
    }
}

/// What replaces an option that is a setting.
fn setting(argument: &str) -> Option<String> {
    let setting = match argument {
        "--uplink" => "uplinks=IFACE",
        "--xdp" => "xdp=MODE",
        "--max-connections" => "max-connections=N",
        _ => return None,
    };
    Some(format!("it is a setting: netd set {setting}"))
}

fn did_you_mean(other: &str) -> String {
    format!("did you mean {other}?")
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// The texts that clap has for this kind of context.
fn strings(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}

/// The command that these words name, for example "netd network create".
fn command_of(words: &[OsString]) -> String {
    let root = Cli::command();
    let (mut command, mut name) = (&root, "netd".to_owned());
    for word in words.iter().skip(1) {
        if let Some(inner) = command.find_subcommand(word) {
            name = format!("{name} {}", inner.get_name());
            command = inner;
        }
        if !command.has_subcommands() {
            break;
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn told(line: &str) -> Usage {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let error = Cli::try_parse_from(&words).expect_err(line);
        explain(&error, &words)
    }

    #[test]
    fn usage_errors_say_what_is_wrong_and_what_to_write() {
        for (line, message, hint) in [
            (
                "netd publish web 8080:80",
                "'web' is not a port",
                "the target comes last: netd publish 8080:80 web",
            ),
            (
                "netd publish 8080:80",
                "the target is missing after '8080:80'",
                "the target comes last: netd publish 8080:80 web",
            ),
            (
                "netd publish -p 8080:80 web",
                "publish takes ports without -p: netd publish 8080:80 web",
                "'netd publish --help' shows the usage",
            ),
            ("netd publish web", "netd publish needs a port", "'netd publish --help' shows the usage"),
            (
                "netd unpublish web",
                "'web' is not a port",
                "to unpublish all ports of a container: netd unpublish --container web",
            ),
            (
                "netd unpublish",
                "netd unpublish needs a port or --from or --container or --all",
                "'netd unpublish --help' shows the usage",
            ),
            (
                "netd network create x --mtu 20",
                "'20': the MTU must be between 68 and 65535",
                "'netd network create --help' shows the usage",
            ),
            (
                "netd container add x --ip 1.2.3",
                "'1.2.3' is not an IP address",
                "for example 192.0.2.10 or 2001:db8::10; host names are not resolved",
            ),
            (
                "netd container add x --pid 0",
                "'0': a process ID must be between 1 and 2147483647",
                "'netd container add --help' shows the usage",
            ),
            (
                "netd flows --port 0",
                "'0': a port must be between 1 and 65535",
                "'netd flows --help' shows the usage",
            ),
            ("netd --xdp on status", "unknown option --xdp", "it is a setting: netd set xdp=MODE"),
            ("netd set xdp=on", "'xdp=on': 'on' is not an XDP mode", "use one of off, auto, native"),
            ("netd --state-dir", "--state-dir needs a value", "'netd --help' shows the usage"),
            ("netd run --frob true", "unknown option --frob", "'netd run --help' shows the usage"),
            ("netd run", "netd run needs a command", "'netd run --help' shows the usage"),
            ("netd ports web", "'web' is one argument too many", "'netd ports --help' shows the usage"),
            ("netd stauts", "there is no command 'netd stauts'", "did you mean status?"),
            ("netd network", "netd network needs a command", "'netd network --help' shows the usage"),
            (
                "netd -q -v status",
                "--quiet cannot be used together with --verbose",
                "'netd status --help' shows the usage",
            ),
            (
                "netd --json --json status",
                "--json cannot be given more than once",
                "'netd status --help' shows the usage",
            ),
            (
                "netd access --open --allow 192.0.2.0/24",
                "--open cannot be used together with --allow",
                "'netd access --help' shows the usage",
            ),
        ] {
            assert_eq!(told(line), Usage { message: message.to_owned(), hint: hint.to_owned() }, "{line}");
        }
    }

    #[test]
    fn no_usage_error_shows_a_placeholder() {
        for line in [
            "netd",
            "netd publish",
            "netd unpublish",
            "netd container add",
            "netd container exec web",
            "netd run -d",
        ] {
            let Usage { message, hint } = told(line);
            assert!(!(message + &hint).contains(['<', '>', '[', ']']), "{line}");
        }
    }

    #[test]
    fn what_follows_the_command_of_a_run_is_its_own() {
        for line in
            ["netd run --rm sh -c true --name x", "netd run -- sh -p", "netd container exec web ip -j link"]
        {
            let words = line.split_whitespace();
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
    }
}
