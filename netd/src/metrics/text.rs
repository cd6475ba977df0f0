//! OpenMetrics text 1.0. Names follow the conventions of Prometheus: base units, counters end in `_total`.

use std::fmt::{self, Write};
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel as _, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::{Registry, Unit};

use crate::model::ProgramsVersion;
use crate::model::report::{Metrics, Port, TableFill};

/// What all names begin with.
const PREFIX: &str = "netd";

/// Writes metrics as OpenMetrics text.
///
/// # Errors
/// Those of `to`.
pub fn openmetrics(metrics: &Arc<Metrics>, to: &mut impl Write) -> fmt::Result {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Families(Arc::clone(metrics))));
    text::encode(to, &registry)
}

/// The families of metrics, in the order in which they are written.
#[derive(Debug)]
struct Families(Arc<Metrics>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let metrics = &*self.0;
        versions(&mut encoder, metrics)?;
        for (name, help, count) in [
            ("networks", "Networks, without host and none.", metrics.networks),
            ("containers", "Containers.", metrics.containers),
            ("publications", "Publications; a range of ports is one.", metrics.ports.len()),
        ] {
            gauge(&mut encoder, (name, help, None), [(UNLABELLED, count as u64)])?;
        }
        publications(&mut encoder, &metrics.ports)?;
        drops(&mut encoder, metrics)?;
        tables(&mut encoder, metrics)?;
        follower(&mut encoder, metrics)
    }
}

/// The name of a family without prefix, unit and suffix; what it means; its unit.
type About<'a> = (&'a str, &'a str, Option<&'a str>);

/// Series without labels.
const UNLABELLED: [(&str, &str); 0] = [];

/// Describes a family, and hands over what takes its series.
fn family(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help, unit): About<'_>,
    kind: MetricType,
    series: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    let unit = unit.map(|unit| Unit::Other(unit.to_owned()));
    series(&mut encoder.encode_descriptor(name, help, unit.as_ref(), kind)?)
}

fn counter<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    about: About<'_>,
    series: impl IntoIterator<Item = (L, u64)>,
) -> fmt::Result {
    family(encoder, about, MetricType::Counter, |family| {
        let none = None::<&Exemplar<NoLabelSet, u64>>;
        let mut series = series.into_iter();
        series.try_for_each(|(labels, value)| family.encode_family(&labels)?.encode_counter(&value, none))
    })
}

fn gauge<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    about: About<'_>,
    series: impl IntoIterator<Item = (L, u64)>,
) -> fmt::Result {
    family(encoder, about, MetricType::Gauge, |family| {
        let mut series = series.into_iter();
        series.try_for_each(|(labels, value)| family.encode_family(&labels)?.encode_gauge(&value))
    })
}

/// A gauge of seconds or of parts of a whole.
fn fraction(encoder: &mut DescriptorEncoder<'_>, about: About<'_>, value: f64) -> fmt::Result {
    family(encoder, about, MetricType::Gauge, |family| family.encode_gauge(&value))
}

/// Gauges: programs that read Prometheus' older format do not know infos.
fn versions(encoder: &mut DescriptorEncoder<'_>, metrics: &Metrics) -> fmt::Result {
    let build = "This netd: its version, the number of its contract with BPF programs, and their digest.";
    let programs = "The same of the netd whose BPF programs are loaded.";
    for (about, version) in [
        (("build_info", build, None), Some(&metrics.build)),
        (("programs_info", programs, None), metrics.programs.as_ref()),
    ] {
        let Some(ProgramsVersion { version, abi, digest, .. }) = version else { continue };
        let abi = abi.to_string();
        let labels = [("version", version.as_str()), ("abi", &abi), ("digest", digest)];
        gauge(encoder, about, [(labels, 1)])?;
    }
    Ok(())
}

fn publications(encoder: &mut DescriptorEncoder<'_>, ports: &[Port]) -> fmt::Result {
    type Count = fn(&Port) -> u64;
    let families: [(About<'_>, Count); 6] = [
        (("publication", "Connections to a published port.", Some("connections")), |port| port.flows.total),
        (("publication_receive", "Packets to the target of a published port.", Some("packets")), |port| {
            port.packets.inward
        }),
        (
            (
                "publication_receive",
                "Bytes to the target of a published port, with Ethernet headers.",
                Some("bytes"),
            ),
            |port| port.bytes.inward,
        ),
        (("publication_transmit", "Packets from the target of a published port.", Some("packets")), |port| {
            port.packets.out
        }),
        (
            (
                "publication_transmit",
                "Bytes from the target of a published port, with Ethernet headers.",
                Some("bytes"),
            ),
            |port| port.bytes.out,
        ),
        (
            ("publication_dropped", "Packets to a published port that were dropped.", Some("packets")),
            |port| port.dropped,
        ),
    ];
    for (about, count) in families {
        counter(encoder, about, ports.iter().map(|port| (PortLabels(port), count(port))))?;
    }
    Ok(())
}

/// The labels of a publication. A label without a value is left out, which means the same.
#[derive(Debug)]
struct PortLabels<'a>(&'a Port);

impl EncodeLabelSet for PortLabels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let port = self.0;
        ("proto", port.proto).encode(encoder.encode_label())?;
        match port.host_ip {
            None => ("host_address", "*").encode(encoder.encode_label())?,
            Some(address) => label(encoder, "host_address", format_args!("{address}"))?,
        }
        range(encoder, "host_port", port.host_port, port.host_port_end)?;
        if let Some(interface) = &port.interface {
            ("interface", interface.as_str()).encode(encoder.encode_label())?;
        }
        let target = if port.is_remote() { "remote_address" } else { "container" };
        (target, port.target.as_str()).encode(encoder.encode_label())?;
        range(encoder, "target_port", port.target_port, port.target_port_end)
    }
}

/// A label whose value is a port or a range of ports.
fn range(encoder: &mut LabelSetEncoder<'_>, name: &str, first: u16, last: u16) -> fmt::Result {
    if first == last {
        (name, first).encode(encoder.encode_label())
    } else {
        label(encoder, name, format_args!("{first}-{last}"))
    }
}

fn label(encoder: &mut LabelSetEncoder<'_>, name: &str, value: fmt::Arguments<'_>) -> fmt::Result {
    let mut label = encoder.encode_label();
    let mut key = label.encode_label_key()?;
    key.write_str(name)?;
    let mut place = key.encode_label_value()?;
    place.write_fmt(value)?;
    place.finish()
}

fn drops(encoder: &mut DescriptorEncoder<'_>, metrics: &Metrics) -> fmt::Result {
    let reasons = || metrics.drops.iter().map(|drop| ([("reason", drop.reason)], drop.count));
    counter(
        encoder,
        ("dropped", "Packets that were dropped, by reason.", Some("packets")),
        reasons().map(|(labels, count)| (labels, count.packets)),
    )?;
    counter(
        encoder,
        ("dropped", "Bytes of the packets that were dropped, by reason.", Some("bytes")),
        reasons().map(|(labels, count)| (labels, count.bytes)),
    )
}

fn tables(encoder: &mut DescriptorEncoder<'_>, metrics: &Metrics) -> fmt::Result {
    type Count = fn(&TableFill) -> u64;
    let of_all: [(&str, &str, Count); 2] = [
        ("flow_table_entries", "Connections in a flow table.", |table| table.connections),
        ("flow_table_entries_limit", "Connections that a flow table has room for.", |table| {
            table.capacity.into()
        }),
    ];
    for (name, help, count) in of_all {
        let series = metrics.tables.iter();
        gauge(encoder, (name, help, None), series.map(|table| (labels(table), count(table))))?;
    }
    let help = "The share of one container in what the others leave free of a flow table.";
    fraction(encoder, ("quota", help, Some("ratio")), f64::from(metrics.quota_percent) / 100.0)?;
    let of_each: [(&str, &str, Count); 2] = [
        ("quota_entries", "Connections of a container in a flow table.", |table| table.connections),
        ("quota_entries_limit", "Connections that a container may have in a flow table now.", |table| {
            table.quota
        }),
    ];
    for (name, help, count) in of_each {
        let series =
            metrics.quotas.iter().flat_map(|one| one.tables.iter().map(|table| (&one.container, table)));
        let series = series.map(|(container, table)| {
            let [name, family] = labels(table);
            ([("container", container.as_str()), name, family], count(table))
        });
        gauge(encoder, (name, help, None), series)?;
    }
    Ok(())
}

fn labels(of: &TableFill) -> [(&'static str, &'static str); 2] {
    [("table", of.table), ("family", of.family)]
}

fn follower(encoder: &mut DescriptorEncoder<'_>, metrics: &Metrics) -> fmt::Result {
    let follower = metrics.follower.as_ref();
    let help = "Whether a process follows the changes of the host.";
    gauge(encoder, ("follower_up", help, None), [(UNLABELLED, u64::from(follower.is_some()))])?;
    let Some(follower) = follower else { return Ok(()) };
    counter(
        encoder,
        ("follower_passes", "How often the follower has looked at the host.", None),
        [(UNLABELLED, follower.passes)],
    )?;
    counter(
        encoder,
        ("follower_repairs", "Differences that the follower has put right.", None),
        [(UNLABELLED, follower.repaired)],
    )?;
    let help = "Whether the follower's last look at the host succeeded.";
    gauge(
        encoder,
        ("follower_last_pass_successful", help, None),
        [(UNLABELLED, u64::from(follower.problem.is_none()))],
    )?;
    if let Some(last) = follower.last_pass_unix_ms {
        let help = "When the follower's last look ended, in Unix time.";
        fraction(encoder, ("follower_last_pass_timestamp", help, Some("seconds")), seconds(last))?;
    }
    let help = "For how long a change of the host has waited for the follower; 0 if none waits.";
    fraction(encoder, ("follower_lag", help, Some("seconds")), seconds(follower.lag_ms))
}

/// Milliseconds as seconds.
#[expect(clippy::cast_precision_loss, reason = "a double has 53 bits, enough for 285,000 years")]
fn seconds(millis: u64) -> f64 {
    millis as f64 / 1000.0
}
