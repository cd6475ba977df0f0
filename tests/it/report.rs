//! The benchmark's report: statistics, text and pictures. Needs no root.

use netd_tests::report::Comparison::{AtLeast, AtMost};
use netd_tests::report::svg::Scale;
use netd_tests::report::{
    About, Bar, Better, Cell, Measured, Report, Table, Verdict, markdown, number, svg, text,
};

fn measured(samples: &[f64]) -> Measured {
    Measured::new(samples.iter().copied()).unwrap()
}

/// Three rounds: a figure, and `percent` below and above it.
fn around(figure: f64, percent: f64) -> Cell {
    Cell::found([1.0, 1.0 + percent / 100.0, 1.0 - percent / 100.0].map(|part| figure * part))
}

fn sample() -> Report {
    let mut packets = Table::new(
        "udp_in",
        "UDP packets from outside to a container",
        "kpps on one core",
        Better::More,
        ("flows", &["1", "10,000", "1,000,000"]),
    );
    packets.push(
        "wire",
        vec![around(2020.0, 1.0), Cell::without("needs no flows"), Cell::without("needs no flows")],
    );
    packets.push("routed", vec![around(1090.0, 1.6), around(1060.0, 2.0), around(1010.0, 2.0)]);
    packets.push("iptables", vec![around(690.0, 2.0), around(640.0, 3.0), around(212.0, 12.0)]);
    packets
        .push("nft", vec![around(910.0, 2.0), around(830.0, 2.0), Cell::without("no memory for <1M> rows")]);
    packets.push("netd", vec![around(1630.0, 3.0), around(1350.0, 8.0), around(1215.0, 4.0)]);

    let mut connections = Table::new(
        "connect",
        "New connections by how many ports were published before",
        "conn/s",
        Better::More,
        ("ports published before", &["0", "100", "1,000", "6,000"]),
    );
    let row = |figures: [f64; 4]| figures.map(|figure| around(figure, 3.0)).to_vec();
    connections.push("routed", row([29_400.0, 29_200.0, 29_600.0, 29_300.0]));
    connections.push("iptables", row([24_200.0, 21_900.0, 8_900.0, 2_100.0]));
    connections.push("nft", row([27_900.0, 28_000.0, 27_700.0, 27_800.0]));
    connections.push("docker-proxy", row([9_100.0, 9_000.0, 9_050.0, 8_900.0]));
    connections.push("netd", row([31_000.0, 30_900.0, 30_400.0, 29_900.0]));

    let mut state = Table::new("state", "Memory for a connection", "bytes", Better::Less, ("", &[""]));
    state.push("iptables", vec![Cell::found([320.0])]);
    state.push("netd", vec![Cell::found([12_345.0])]);

    let bars = vec![
        Bar::new("packets/s, 1 flow, netd ÷ iptables", AtLeast(2.0), packets.ratio("netd", "iptables", "1")),
        Bar::new(
            "conn/s, netd ÷ routed, 6,000 ports before",
            AtLeast(1.01),
            connections.ratio("netd", "routed", "6,000"),
        ),
        Bar::new("bytes a connection", AtMost(256.0), state.cell("netd", "")),
        Bar::new("packets/s | nobody", AtLeast(1.0), packets.ratio("netd", "nft", "1,000,000")),
    ];
    let versions = [("iptables", "1.8.9"), ("nft", "1.0.6"), ("wrk", "4.1.0")];
    let versions = versions.map(|(name, version)| (name.to_owned(), version.to_owned())).into();
    Report {
        about: About {
            date: "2026-11-26".into(),
            commit: "5324533".into(),
            cpu: "AMD EPYC 7B13".into(),
            cores: 2,
            memory: "7.8 GiB".into(),
            kernel: "6.18.0".into(),
            versions,
            rounds: 3,
            quick: true,
            seconds: 213.4,
            command: "cargo xtask bench --quick".into(),
        },
        tables: vec![packets, connections, state],
        bars,
        notes: vec!["All hosts are network namespaces of one machine.".into()],
    }
}

fn on_terminal(report: &Report, colours: bool) -> String {
    let mut text = Vec::new();
    text::write(&mut text, report, colours).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn a_figure_is_the_median_of_its_rounds_between_lowest_and_highest() {
    let figures = |samples: &[f64]| {
        let figure = measured(samples);
        [figure.median(), figure.min(), figure.max(), figure.spread()].map(number).join(" ")
    };
    assert_eq!(figures(&[3.0, 1.0, 2.0]), "2 1 3 0.500");
    assert_eq!(figures(&[4.0, 1.0, 2.0, 3.0]), "2.50 1 4 0.600");
    assert_eq!(figures(&[7.0]), "7 7 7 0");
    assert_eq!(figures(&[0.0, 0.0]), "0 0 0 0");
    assert_eq!(Measured::new([]), None);
    assert_eq!(Measured::new([1.0, f64::NAN]), None);
}

#[test]
fn ratios_are_made_within_a_round() {
    // In the second round the machine was half as fast: no ratio changes.
    let ratio = measured(&[200.0, 100.0, 220.0]).ratio(&measured(&[100.0, 50.0, 110.0])).unwrap();
    assert_eq!((ratio.median(), ratio.spread()), (2.0, 0.0));
    assert_eq!(measured(&[1.0, 2.0]).ratio(&measured(&[1.0])), None);
    assert_eq!(measured(&[1.0]).ratio(&measured(&[0.0])), None);
    let table = &sample().tables[0];
    assert_eq!(table.ratio("netd", "wire", "10,000"), Cell::without("needs no flows"));
    assert_eq!(table.ratio("netd", "nobody", "1"), Cell::without("not measured"));
}

#[test]
fn a_bar_is_judged_by_the_median_and_says_where_rounds_disagree() {
    let judged = |asked, samples: &[f64]| {
        let bar = Bar::new("", asked, Cell::found(samples.iter().copied()));
        (bar.verdict(), bar.is_close())
    };
    assert_eq!(judged(AtLeast(2.0), &[2.0, 2.5, 3.0]), (Verdict::Held, false));
    assert_eq!(judged(AtLeast(2.0), &[1.9, 2.5, 3.0]), (Verdict::Held, true));
    assert_eq!(judged(AtLeast(2.0), &[1.9, 1.9, 3.0]), (Verdict::Missed, true));
    assert_eq!(judged(AtMost(2.0), &[2.0]), (Verdict::Held, false));
    assert_eq!(judged(AtMost(2.0), &[2.1]), (Verdict::Missed, false));
    assert_eq!(judged(AtMost(2.0), &[]), (Verdict::Unmeasured, false));
}

#[test]
fn numbers_have_only_significant_digits() {
    let table = [
        (0.0, "0"),
        (0.4234, "0.423"),
        (2.0, "2"),
        (2.357, "2.36"),
        (17.84, "17.8"),
        (162.7, "163"),
        (1630.2, "1,630"),
        (211_345.0, "211,300"),
        (1_234_567.8, "1,235,000"),
        (-1234.5, "-1,234"),
    ];
    for (value, expected) in table {
        assert_eq!(number(value), expected);
    }
}

#[test]
fn the_terminal_shows_every_figure_within_its_width() {
    expect_test::expect_file!["report.txt"].assert_eq(&on_terminal(&sample(), false));
    let mut wide = Table::new("wide", "Wide", "ns", Better::Less, ("a parameter", &["1,000,000"; 5]));
    for contender in ["wire", "routed", "iptables", "nft", "docker-proxy", "netd"] {
        wide.push(contender, vec![around(1_234_567.0, 12.0); 5]);
    }
    let mut report = sample();
    report.tables.push(wide);
    report.notes.push("a long note ".repeat(40));
    report.tables[0].title = "a long title ".repeat(40);
    report.bars.push(Bar::new(
        &"a long claim ".repeat(40),
        AtLeast(1.0),
        Cell::without(&"a reason ".repeat(40)),
    ));
    for line in on_terminal(&report, false).lines() {
        assert!(line.chars().count() <= text::WIDTH, "{line}");
    }
    assert!(!on_terminal(&report, false).contains('\x1b'));
    assert!(on_terminal(&report, true).contains("\x1b[32m✓"));
}

#[test]
fn json_holds_every_round_and_is_read_back() {
    let report = sample();
    let mut json = Vec::new();
    report.json(&mut json).unwrap();
    let object: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let cell = &object["tables"][0]["rows"][1]["cells"][0];
    assert_eq!(cell["median"], 1090.0);
    assert_eq!(cell["samples"].as_array().unwrap().len(), 3);
    assert_eq!(object["tables"][0]["rows"][0]["cells"][1]["why"], "needs no flows");
    assert_eq!(object["bars"][0]["asked"]["at_least"], 2.0);
    let read: Report = serde_json::from_slice(&json).unwrap();
    assert_eq!(on_terminal(&read, false), on_terminal(&report, false));
    let empty = serde_json::json!({ "median": 1.0, "min": 1.0, "max": 1.0, "samples": [] });
    assert!(serde_json::from_value::<Measured>(empty).is_err());
}

#[test]
fn markdown_replaces_only_the_text_between_its_marks() {
    let body = markdown::body(&sample(), |table| (table.id == "connect").then(|| "connect.svg".to_owned()));
    expect_test::expect_file!["report.md"].assert_eq(&body);
    let file = format!("# Speed\n\n{}\nold\n{}\n\nwritten by hand\n", markdown::BEGIN, markdown::END);
    let once = markdown::splice(&file, &body).unwrap();
    assert!(
        once.starts_with("# Speed\n\n<!--")
            && once.ends_with("\n\nwritten by hand\n")
            && !once.contains("old")
    );
    assert_eq!(markdown::splice(&once, &body).unwrap(), once);
    for broken in [
        "no marks".to_owned(),
        markdown::BEGIN.to_owned(),
        format!("{}{}", markdown::END, markdown::BEGIN),
        file.clone() + markdown::BEGIN,
    ] {
        let error = markdown::splice(&broken, &body).unwrap_err().to_string();
        assert!(error.contains("<!-- bench:"), "{error}");
    }
    let mut sly = sample();
    sly.notes.push(markdown::END.to_owned());
    let twice = markdown::splice(&file, &markdown::body(&sly, |_| None)).unwrap();
    assert_eq!(twice.matches(markdown::END).count(), 1);
}

#[test]
fn pictures_are_well_formed_and_name_every_contender() {
    let mut report = sample();
    report.tables[0].title = "<a> & \"b\"".into();
    report.tables.push(Table::new("empty", "Nothing", "ns", Better::Less, ("flows", &[])));
    for table in &report.tables {
        for scale in [Scale::Linear, Scale::Log] {
            for picture in [svg::bars(table, scale), svg::lines(table, scale)] {
                let texts = balanced(&picture);
                for row in &table.rows {
                    let is_named = texts.iter().any(|text| text.starts_with(&row.contender));
                    assert!(is_named, "{} is missing: {texts:?}", row.contender);
                }
                assert!(
                    picture.contains("prefers-color-scheme:dark") && picture.contains("<title"),
                    "{picture}"
                );
                assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
            }
        }
    }
}

/// The texts of a picture; fails if its XML is not well-formed.
fn balanced(picture: &str) -> Vec<String> {
    use ::svg::node::element::tag::Type;
    use ::svg::parser::Event;
    let mut open = Vec::new();
    let mut texts = Vec::new();
    for event in ::svg::read(picture).unwrap() {
        match event {
            Event::Tag(name, Type::Start, _) => open.push(name.to_owned()),
            Event::Tag(name, Type::End, _) => assert_eq!(open.pop().as_deref(), Some(name)),
            Event::Text(text) => {
                assert!(!text.contains('<'), "{text}");
                texts.push(text.trim().to_owned());
            }
            Event::Error(error) => panic!("{error}"),
            _ => {}
        }
    }
    assert_eq!(open, Vec::<String>::new());
    texts
}
