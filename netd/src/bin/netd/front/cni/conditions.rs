//! Conditions on the clients of published ports: arguments of iptables, which become access lists.

use std::net::IpAddr;

use netd::{Access, Policy, Source};

use super::failure::Failure;

/// What conditions ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    /// Who may use the ports, and by which interface.
    pub(super) policy: Policy,
    /// The one host address that is published.
    pub(super) host_ip: Option<IpAddr>,
}

impl Conditions {
    /// Reads the conditions of IPv4 and of IPv6. Those of one family do not limit the other.
    pub(super) fn parse([four, six]: &[Vec<String>; 2]) -> Result<Self, Failure> {
        let (mut conditions, mut allow, mut deny) = (Self::default(), Vec::new(), Vec::new());
        let mut allows = [false, false];
        for (is_ipv4, words) in [(true, four), (false, six)] {
            for (is_not, option, value) in triples(words)? {
                match (option, is_not) {
                    ("-s" | "--source" | "--src", _) => {
                        let source = source(value, is_ipv4)?;
                        if is_not {
                            deny.push(source);
                        } else {
                            allows[usize::from(!is_ipv4)] = true;
                            allow.push(source);
                        }
                    }
                    ("-d" | "--destination" | "--dst", false) => {
                        let Source(net) = source(value, is_ipv4)?;
                        if net.prefix_len() != net.max_prefix_len() {
                            return Err(refused(
                                option,
                                value,
                                "ports are published on one address or on all",
                            ));
                        }
                        conditions.host_ip = Some(net.addr());
                    }
                    ("-i" | "--in-interface", false) => {
                        let name = value.parse().map_err(Failure::from)?;
                        conditions.policy.interface = Some(name);
                    }
                    _ => return Err(refused(option, value, "it has no counterpart in netd")),
                }
            }
        }
        match allows {
            [true, false] => allow.push(source("::/0", false)?),
            [false, true] => allow.push(source("0.0.0.0/0", true)?),
            _ => {}
        }
        conditions.policy.access = Access::new(allow, deny)?;
        Ok(conditions)
    }
}

/// Options with their values, and whether an exclamation mark negates them.
fn triples(words: &[String]) -> Result<Vec<(bool, &str, &str)>, Failure> {
    let mut found = Vec::new();
    let mut rest = words.iter().map(String::as_str);
    while let Some(word) = rest.next() {
        let is_not = word == "!";
        let option = if is_not { rest.next() } else { Some(word) };
        let value = rest.next();
        match (option, value) {
            (Some(option), Some(value)) => found.push((is_not, option, value)),
            _ => return Err(refused(word, "", "its value is missing")),
        }
    }
    Ok(found)
}

fn source(text: &str, is_ipv4: bool) -> Result<Source, Failure> {
    let source: Source = text.parse().map_err(Failure::from)?;
    if source.0.addr().is_ipv4() == is_ipv4 {
        return Ok(source);
    }
    Err(Failure::unsupported(format!("condition {text}: it is of the other IP version"), ""))
}

fn refused(option: &str, value: &str, why: &str) -> Failure {
    Failure::unsupported(format!("condition '{option} {value}' is not supported"), why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(four: &[&str], six: &[&str]) -> Result<Conditions, Failure> {
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        Conditions::parse(&[words(four), words(six)])
    }

    #[test]
    fn conditions_of_clients_become_access_lists() {
        let shown = |four: &[&str], six: &[&str]| {
            let Policy { access, interface } = parsed(four, six).unwrap().policy;
            let list = |sources: Vec<Source>| sources.iter().map(|one| one.0.to_string()).collect::<Vec<_>>();
            (list(access.allow), list(access.deny), interface.map(|name| name.to_string()))
        };
        assert_eq!(shown(&[], &[]), (vec![], vec![], None));
        assert_eq!(
            shown(&["-s", "10.0.0.0/8"], &[]),
            (vec!["10.0.0.0/8".to_owned(), "::/0".to_owned()], vec![], None)
        );
        assert_eq!(
            shown(&["!", "-s", "192.0.2.7"], &["-s", "fd00::/8"]),
            (vec!["fd00::/8".to_owned(), "0.0.0.0/0".to_owned()], vec!["192.0.2.7/32".to_owned()], None)
        );
        assert_eq!(
            shown(&["--source", "10.0.0.0/8"], &["--src", "fd00::/8"]),
            (vec!["10.0.0.0/8".to_owned(), "fd00::/8".to_owned()], vec![], None)
        );
        assert_eq!(shown(&["-i", "eth0"], &[]), (vec![], vec![], Some("eth0".to_owned())));
        let one = parsed(&["-d", "198.51.100.7"], &[]).unwrap();
        assert_eq!(one.host_ip, Some("198.51.100.7".parse().unwrap()));
    }

    #[test]
    fn other_conditions_are_refused() {
        for four in [
            &["!", "-d", "192.0.2.0/24"][..],
            &["-d", "192.0.2.0/24"],
            &["-m", "mark"],
            &["-s"],
            &["-s", "fd00::/8"],
            &["!", "-i", "eth0"],
        ] {
            assert!(parsed(four, &[]).is_err(), "{four:?}");
        }
    }
}
