//! Small trees that break each rule.

use super::rules::{DOOR, ONLY, OUTSIDE, WALLS};
use super::*;

/// The library `netd`, its binary, and whatever these files are.
fn tree(files: &[(&str, &str)]) -> BTreeMap<String, Source> {
    files.iter().map(|(name, text)| ((*name).to_owned(), Source::parse(text).unwrap())).collect()
}

fn crates_of(sources: &BTreeMap<String, Source>) -> Vec<Crate> {
    let roots = [
        (Some("netd"), "netd/src/lib.rs"),
        (None, "netd/src/bin/netd/main.rs"),
        (Some("netd_common"), "netd-common/src/lib.rs"),
        (None, "netd-ebpf/src/main.rs"),
        (None, "xtask/src/main.rs"),
    ];
    roots
        .into_iter()
        .filter(|(_, root)| sources.contains_key(*root))
        .map(|(name, root)| Crate { name: name.map(str::to_owned), root: root.to_owned() })
        .collect()
}

/// The circles, each as a list of files in order.
fn circles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    let sources = tree(files);
    let modules = Modules::of(&sources, &crates_of(&sources)).unwrap();
    let graph = Graph::of(&modules);
    let short = |edge: &&Edge| edge.from.replace("netd/src/", "");
    graph.circles().iter().map(|circle| circle.iter().map(short).collect()).collect()
}

/// How many rules are broken, and on which lines. Errors about rooms that the small tree lacks are left out.
fn broken(files: &[(&str, &str)]) -> Vec<String> {
    let sources = tree(files);
    let modules = Modules::of(&sources, &crates_of(&sources)).unwrap();
    let graph = Graph::of(&modules);
    let mut broken = walls::broken_walls(&graph, WALLS);
    broken.extend(walls::out_of_their_rooms(&modules, &graph, ONLY, OUTSIDE));
    broken.extend(walls::open_door(&sources, DOOR));
    broken
}

/// The places in those lines.
fn places(files: &[(&str, &str)]) -> Vec<String> {
    broken(files).iter().map(|line| line.split(": ").next().unwrap_or_default().to_owned()).collect()
}

const NONE: [[&str; 0]; 0] = [];
const NOWHERE: [&str; 0] = [];

#[test]
fn a_circle_of_two_files_is_found() {
    let a = ("netd/src/a.rs", "use crate::b::B; pub struct A;");
    let lib = ("netd/src/lib.rs", "mod a; mod b;");
    assert_eq!(circles(&[lib, a, ("netd/src/b.rs", "pub struct B;")]), NONE);
    assert_eq!(circles(&[lib, a, ("netd/src/b.rs", "use crate::a::A; pub struct B;")]), [["a.rs", "b.rs"]]);
    assert_eq!(
        circles(&[lib, a, ("netd/src/b.rs", "use super::a::{self as x}; pub struct B(x::A);")]),
        [["a.rs", "b.rs"]]
    );
}

#[test]
fn a_circle_of_three_files_is_found_once() {
    let files = [
        ("netd/src/lib.rs", "mod a; mod b; mod c;"),
        ("netd/src/a.rs", "use crate::b::B; pub struct A;"),
        ("netd/src/b.rs", "pub struct B(super::c::C);"),
        ("netd/src/c.rs", "use crate::{a::A as Other}; pub struct C(Other);"),
    ];
    assert_eq!(circles(&files), [["a.rs", "b.rs", "c.rs"]]);
}

#[test]
fn a_circle_is_reported_with_its_imports() {
    let sources = tree(&[
        ("netd/src/lib.rs", "mod a; mod b;"),
        ("netd/src/a.rs", "//! a\nuse crate::b::B;\npub struct A;"),
        ("netd/src/b.rs", "//! b\n\nuse crate::a::A;\npub struct B;"),
    ]);
    let modules = Modules::of(&sources, &crates_of(&sources)).unwrap();
    let graph = Graph::of(&modules);
    assert_eq!(
        describe(&graph.circles()[0]),
        "a circle of 2 files:\n    netd/src/a.rs:2 needs netd/src/b.rs for `crate::b::B`\n    \
         netd/src/b.rs:3 needs netd/src/a.rs for `crate::a::A`"
    );
}

#[test]
fn paths_in_code_macros_and_attributes_count() {
    let lib = ("netd/src/lib.rs", "mod a; mod b;");
    let a = ("netd/src/a.rs", "use crate::b::B; pub struct A; pub fn f() -> u8 { 1 }");
    for b in [
        "pub struct B; fn f() { crate::a::f(); }",
        "pub struct B; fn f() { let x: Vec<super::a::A> = Vec::new(); }",
        "pub struct B; fn f() { assert_eq!(1, crate::a::f()); }",
        "pub struct B; macro_rules! m { () => { $crate::a::f() } }",
        "pub struct B; fn f() { use crate::a; a::f(); }",
        "pub struct B; fn f() { <crate::a::A as Default>::default(); }",
        "#[serde(with = \"crate::a\")] pub struct B;",
        "use crate::a as other; pub struct B(other::A);",
        "pub struct B; mod inner { fn f() { super::super::a::f(); } }",
    ] {
        assert_eq!(circles(&[lib, a, ("netd/src/b.rs", b)]), [["a.rs", "b.rs"]], "{b}");
    }
}

#[test]
fn test_code_and_module_names_are_no_imports() {
    let lib = ("netd/src/lib.rs", "mod a; mod b;");
    let a = ("netd/src/a.rs", "use crate::b::B; pub struct A; pub fn f() -> u8 { 1 }");
    for b in [
        "pub struct B; #[cfg(test)] mod tests { use super::*; use crate::a::A; }",
        "pub struct B; #[cfg(test)] use crate::a::A;",
        "pub struct B; #[test] fn f() { crate::a::f(); }",
        "/// See [`crate::a::A`].\npub struct B; // crate::a::A",
        "use crate::a; pub struct B;",
        "pub(in crate::a) struct B;",
        "use std::a::A; pub struct B;",
    ] {
        assert_eq!(circles(&[lib, a, ("netd/src/b.rs", b)]), NONE, "{b}");
    }
}

#[test]
fn a_parent_may_re_export_its_children_but_not_be_imported_by_them() {
    let lib = ("netd/src/lib.rs", "mod a; pub use a::{One, Two};");
    let two = ("netd/src/a/two.rs", "use super::One; pub struct Two(One);");
    let files = |parent, one| [lib, ("netd/src/a/mod.rs", parent), two, ("netd/src/a/one.rs", one)];
    let parent = "mod one; mod two; pub use one::One; pub use self::two::*;";
    assert_eq!(circles(&files(parent, "pub struct One;")), NONE);
    // Through the parent's re-exports it is a circle of the two children.
    assert_eq!(circles(&files(parent, "use crate::Two; pub struct One;")), [["a/one.rs", "a/two.rs"]]);
    // A glob import of the parent needs the parent's file.
    let all = circles(&files(parent, "use super::*; pub struct One;"));
    assert_eq!(all[0], ["a/mod.rs", "a/one.rs"]);
    // An item that the parent defines itself.
    let parent = "mod one; mod two; pub use one::One; pub use two::Two; pub struct Own;";
    let own = circles(&files(parent, "use super::Own; pub struct One;"));
    assert_eq!(own[0], ["a/mod.rs", "a/one.rs"]);
}

#[test]
fn a_circle_may_pass_by_a_binary_or_a_macro() {
    let main = ("netd/src/bin/netd/main.rs", "mod cli; mod run; fn main() { run::run(); }");
    let lib = ("netd/src/lib.rs", "pub struct Netd;");
    let run = ("netd/src/bin/netd/run.rs", "use crate::cli::Cli; use netd::Netd; pub fn run() {}");
    let cli = |text| ("netd/src/bin/netd/cli.rs", text);
    assert_eq!(circles(&[main, lib, run, cli("pub struct Cli;")]), NONE);
    let found = circles(&[main, lib, run, cli("pub struct Cli; fn f() { super::run::run(); }")]);
    assert_eq!(found, [["bin/netd/cli.rs", "bin/netd/run.rs"]]);
    let files = [
        ("netd/src/lib.rs", "#[macro_use] mod a; mod b;"),
        ("netd/src/a.rs", "macro_rules! make { () => {} } use crate::b::B;"),
        ("netd/src/b.rs", "make!(); pub struct B;"),
    ];
    assert_eq!(circles(&files), [["a.rs", "b.rs"]]);
}

#[test]
fn imports_of_everything_of_each_other_end() {
    let files = [
        ("netd/src/lib.rs", "mod a; mod b;"),
        ("netd/src/a.rs", "use super::b::*; use log::log; pub fn f() { log::log(); Gone::new(); }"),
        ("netd/src/b.rs", "use super::a::*; pub fn g() { Gone::new(); f::x(); }"),
    ];
    assert_eq!(circles(&files), [["a.rs", "b.rs"]]);
}

#[test]
fn the_library_uses_no_stdout_environment_or_exit() {
    let lib = |text| [("netd/src/lib.rs", text)];
    for text in [
        "fn f() { println!(); }",
        "fn f() { if true { dbg!(1); } }",
        "macro_rules! m { () => { eprintln!() } }",
        "fn f() { std::env::var_os(\"NETD_TC\"); }",
        "use std::env; fn f() { env::var(\"NETD_TC\"); }",
        "fn f() { std::process::exit(1); }",
        "use std::process; fn f() { process::abort(); }",
        "const HOST: &str = \"/proc/1/ns/net\";",
        "fn f() { open(concat!(\"/proc/self/ns\", \"/net\")); }",
        "use nix::sched::setns;",
        "use clap::Parser;",
        "use rtnetlink as netlink; fn f() { netlink::new(); }",
    ] {
        assert!(!broken(&lib(text)).is_empty(), "{text}");
    }
    for text in [
        "//! println! std::env::var\nfn f() { writeln!(x); }",
        "fn f() { std::process::id(); }",
        "#[cfg(test)] mod tests { fn f() { println!(); } }",
        "const MOUNTS: &str = \"/proc/self/mounts\";",
    ] {
        assert_eq!(broken(&lib(text)), NOWHERE, "{text}");
    }
    let main = "fn main() { std::env::args_os(); open(\"/proc/self/ns/net\"); }";
    assert_eq!(broken(&[("netd/src/bin/netd/main.rs", main)]), NOWHERE);
}

#[test]
fn unsafe_is_allowed_only_in_its_rooms() {
    let files = |text| {
        [
            ("netd-ebpf/src/main.rs", "mod kernel; mod stage;"),
            ("netd-ebpf/src/kernel/mod.rs", "pub unsafe fn read() {} pub fn f() { unsafe { read() } }"),
            ("netd-ebpf/src/stage/mod.rs", text),
        ]
    };
    assert_eq!(places(&files("fn f() { crate::kernel::f(); } #[deny(unsafe_code)] fn g() {}")), NOWHERE);
    for text in [
        "fn f() { unsafe { crate::kernel::read() } }",
        "unsafe fn f() {}",
        "unsafe impl Send for X {}",
        "unsafe extern \"C\" { fn f(); }",
        "#[unsafe(no_mangle)] fn f() {}",
        "macro_rules! m { () => { unsafe { f() } } }",
        "mod inner { impl X { fn f() { g!(unsafe { h() }) } } }",
    ] {
        assert_eq!(places(&files(text)), ["netd-ebpf/src/stage/mod.rs:1"], "{text}");
    }
}

#[test]
fn walls_follow_re_exports() {
    let files = |link, plan| {
        [
            ("netd/src/lib.rs", "mod dataplane; mod link; mod plan;"),
            ("netd/src/dataplane/mod.rs", "mod maps; pub use aya::Ebpf; pub use self::maps::Maps;"),
            ("netd/src/dataplane/maps.rs", "pub struct Maps;"),
            ("netd/src/link/mod.rs", link),
            ("netd/src/plan/mod.rs", plan),
        ]
    };
    assert_eq!(places(&files("", "use std::net::IpAddr;")), NOWHERE);
    let link = "netd/src/link/mod.rs:1";
    assert_eq!(places(&files("use crate::dataplane::Maps;", "")), [link]);
    assert_eq!(places(&files("use crate::dataplane::Ebpf;", "")), [link]);
    assert_eq!(places(&files("fn f() { use crate::*; dataplane::Maps::open(); }", "")), [link]);
    let plan = "netd/src/plan/mod.rs:1";
    for text in [
        "use std::fs::File;",
        "use std::fs;\nfn f() { fs::read(\"x\"); }",
        "use std::{net::{IpAddr, UdpSocket}};",
        "use std::net::*;",
        "fn f() { tokio::spawn(g()); }",
    ] {
        let place = places(&files("", text));
        assert!(place[0].starts_with("netd/src/plan/mod.rs:"), "{text}: {place:?}");
    }
    assert_eq!(places(&files("", "use crate::dataplane::Maps;")), [plan]);
}

#[test]
fn only_a_transaction_uses_the_store() {
    let files = |plan| {
        [
            ("netd/src/lib.rs", "mod apply; mod plan; mod store;"),
            ("netd/src/apply/mod.rs", "use crate::store::Store;"),
            ("netd/src/store/mod.rs", "mod file; pub use file::Store;"),
            ("netd/src/store/file.rs", "pub struct Store;"),
            ("netd/src/plan/mod.rs", plan),
        ]
    };
    assert_eq!(places(&files("")), NOWHERE);
    assert!(places(&files("use crate::store::Store;")).contains(&"netd/src/plan/mod.rs:1".to_owned()));
    let session = [
        ("netd/src/lib.rs", "mod a; mod store;"),
        ("netd/src/a.rs", "fn f() { super::store::Store::open(); }"),
        ("netd/src/store/mod.rs", "pub struct Store;"),
    ];
    assert_eq!(places(&session), ["netd/src/a.rs:1"]);
}

#[test]
fn other_crates_see_only_public_modules() {
    assert_eq!(
        broken(&[
            ("netd/src/lib.rs", "mod a; pub(crate) mod b; pub use a::A;"),
            ("netd/src/a.rs", "pub struct A;"),
            ("netd/src/b.rs", "")
        ]),
        NOWHERE
    );
    assert_eq!(places(&[("netd/src/lib.rs", "pub mod a;"), ("netd/src/a.rs", "")]), ["netd/src/lib.rs:1"]);
}

#[test]
fn rules_need_existing_rooms_and_files_need_a_crate() {
    let sources = tree(&[("netd/src/lib.rs", "mod a;"), ("netd/src/a.rs", ""), ("netd/src/b.rs", "")]);
    assert_eq!(walls::missing_rooms(&sources, &["netd/src/", "netd/src/a.rs"]), NOWHERE);
    assert_eq!(walls::missing_rooms(&sources, &["netd/src/a/", "netd/src/c.rs"]).len(), 2);
    let modules = Modules::of(&sources, &crates_of(&sources)).unwrap();
    assert_eq!(modules.unreached().collect::<Vec<_>>(), ["netd/src/b.rs"]);
}

#[test]
fn files_and_functions_have_a_length_limit() {
    let sources = tree(&[("netd/src/lib.rs", "//! x\nfn f() {\n}\nimpl X {\n    fn g() {\n\n\n    }\n}\n")]);
    assert_eq!(size::too_long(&sources, 9, 4), NOWHERE);
    assert_eq!(size::too_long(&sources, 8, 4).len(), 1);
    assert_eq!(
        size::too_long(&sources, 9, 3),
        ["netd/src/lib.rs:5: fn g has 4 lines; a function has at most 3"]
    );
    assert_eq!(
        size::longest(&sources),
        "longest file netd/src/lib.rs (9 lines), longest function g in netd/src/lib.rs (4 lines)"
    );
}
