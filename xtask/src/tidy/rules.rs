//! The project's rules: which rooms may import which, and what may be used where. Tables only. A room is a folder
//! (`netd/src/link/`) or a file; a rule with a room that does not exist is an error.

/// What only some rooms may use.
pub(crate) struct Only {
    /// What it is.
    pub(crate) what: What,
    /// The rooms that may use it.
    pub(crate) rooms: &'static [&'static str],
    /// The reason, for the error message.
    pub(crate) why: &'static str,
}

/// Something that code can use.
pub(crate) enum What {
    /// Paths of other crates, with everything below them. Re-exports and renames are followed.
    Path(&'static [&'static str]),
    /// Rooms of this project.
    Room(&'static [&'static str]),
    /// Keywords, functions, methods, constants; with `*` at the end, all that start with the text.
    Word(&'static [&'static str]),
    /// Macros.
    Macro(&'static [&'static str]),
    /// Strings that contain this.
    Text(&'static [&'static str]),
}

/// What a room must not import.
pub(crate) struct Wall {
    /// The room.
    pub(crate) room: &'static str,
    /// Rooms, or paths of other crates.
    pub(crate) never: &'static [&'static str],
    /// The reason, for the error message.
    pub(crate) why: &'static str,
}

/// Tests, tasks and build scripts are exempt from these rules, except that circles are forbidden there too.
pub(crate) const OUTSIDE: &[&str] = &["fuzz/", "netd-common/tests/", "netd/build.rs", "tests/", "xtask/"];

/// Everything that does input or output, for rooms that must not.
const IO: &[&str] = &[
    "aya",
    "libc",
    "nix",
    "procfs",
    "rtnetlink",
    "std::env",
    "std::fs",
    "std::io",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "tokio",
];

/// What only some rooms may use.
pub(crate) const ONLY: &[Only] = &[
    Only {
        what: What::Word(&["unsafe"]),
        rooms: &[
            "netd-common/src/plain.rs",
            "netd-ebpf/src/kernel/",
            "netd/src/dataplane/bpf.rs",
            "netd/src/dataplane/wire.rs",
            "netd/src/netns.rs",
        ],
        why: "unsafe code is kept in few files, each with its proofs",
    },
    Only {
        what: What::Macro(&["dbg", "eprint", "eprintln", "print", "println"]),
        rooms: &[],
        why: "results leave by netd/src/bin/netd/output, warnings by tracing",
    },
    Only {
        what: What::Path(&["std::env"]),
        rooms: &["netd/src/bin/"],
        why: "the library gets its settings from its caller, not from the environment",
    },
    Only {
        what: What::Path(&["std::process::abort", "std::process::exit"]),
        rooms: &[],
        why: "destructors must run",
    },
    Only {
        what: What::Text(&["/proc/1", "/proc/self/ns"]),
        rooms: &["netd/src/bin/"],
        why: "the library is given the host's namespace and does not look for it",
    },
    Only {
        what: What::Word(&["setns"]),
        rooms: &["netd/src/netns.rs"],
        why: "only a visiting thread is ever in another namespace",
    },
    Only {
        what: What::Room(&["netd/src/store/"]),
        rooms: &[
            "netd/src/apply/",
            "netd/src/lib.rs",
            "netd/src/serve/",
            "netd/src/session/",
            "netd/src/store/",
        ],
        why: "only a transaction writes the state, a session reads it, a follower holds its mark, and the fuzzer parses it",
    },
    Only {
        what: What::Path(&["aya", "aya_obj"]),
        rooms: &["netd/src/dataplane/"],
        why: "only the dataplane knows the BPF library",
    },
    Only {
        what: What::Path(&[
            "rtnetlink",
            "netlink_packet_core",
            "netlink_packet_route",
            "netlink_packet_sock_diag",
            "netlink_sys",
        ]),
        rooms: &["netd/src/link/"],
        why: "only link knows the netlink library",
    },
    Only {
        what: What::Path(&["clap", "clap_complete", "clap_mangen", "tabwriter", "tracing_subscriber"]),
        rooms: &["netd/src/bin/"],
        why: "the library knows no command line",
    },
    Only {
        what: What::Path(&["schemars", "strsim", "toml"]),
        rooms: &["netd/src/desired/"],
        why: "only the desired state is read from files of people",
    },
    Only {
        what: What::Path(&["http_body_util", "hyper", "hyper_util", "prometheus_client"]),
        rooms: &["netd/src/metrics/"],
        why: "only metrics knows HTTP and OpenMetrics",
    },
    Only {
        what: What::Word(&["to_be_bytes", "from_be_bytes", "to_be", "from_be", "swap_bytes"]),
        rooms: &["netd-common/src/wire/bytes.rs"],
        why: "byte order changes in one file",
    },
    Only {
        what: What::Word(&["TC_ACT_*"]),
        rooms: &["netd-ebpf/src/stage/dispatch.rs"],
        why: "a verdict becomes a TC action in one place",
    },
    Only {
        what: What::Path(&["aya_ebpf::helpers", "aya_ebpf::maps", "aya_ebpf::cty"]),
        rooms: &["netd-ebpf/src/kernel/"],
        why: "helpers and maps are used by way of kernel, which proves that it is safe",
    },
];

/// Which rooms must not import which.
pub(crate) const WALLS: &[Wall] = &[
    Wall {
        room: "netd-common/src/",
        never: &["aya", "aya_ebpf", "std", "alloc"],
        why: "it runs in the kernel as well",
    },
    Wall {
        room: "netd-common/src/wire/",
        never: &["netd-common/src/abi/", "netd-common/src/flow/", "netd-common/src/policy/"],
        why: "headers know nothing of tables, flows or decisions",
    },
    Wall {
        room: "netd-common/src/abi/",
        never: &["netd-common/src/policy/"],
        why: "rows do not know who decides by them",
    },
    Wall {
        room: "netd-common/src/flow/",
        never: &["netd-common/src/policy/"],
        why: "flows do not know who decides about them",
    },
    Wall {
        room: "netd-ebpf/src/kernel/",
        never: &[
            "netd-ebpf/src/cgroup.rs",
            "netd-ebpf/src/flow/",
            "netd-ebpf/src/stage/",
            "netd-ebpf/src/xdp/",
        ],
        why: "kernel is the lowest room and must not import the others",
    },
    Wall {
        room: "netd-ebpf/src/flow/",
        never: &["netd-ebpf/src/stage/", "netd-ebpf/src/xdp/"],
        why: "the flow table does not know its users",
    },
    Wall {
        room: "netd-ebpf/src/xdp/",
        never: &["netd-ebpf/src/stage/"],
        why: "XDP and TC share what is below them, not each other",
    },
    Wall { room: "netd/src/model/", never: IO, why: "records are data" },
    Wall {
        room: "netd/src/model/",
        never: &[
            "netd/src/apply/",
            "netd/src/dataplane/",
            "netd/src/desired/",
            "netd/src/link/",
            "netd/src/observe/",
            "netd/src/plan/",
            "netd/src/store/",
        ],
        why: "records do not know who uses them",
    },
    Wall { room: "netd/src/plan/", never: IO, why: "plans are pure: tests need no root" },
    Wall {
        room: "netd/src/plan/",
        never: &[
            "netd/src/apply/",
            "netd/src/session/",
            "netd/src/dataplane/",
            "netd/src/desired/",
            "netd/src/link/",
            "netd/src/netns.rs",
            "netd/src/store/",
        ],
        why: "plans are pure: tests need no root",
    },
    Wall {
        room: "netd/src/desired/",
        never: &[
            "netd/src/apply/",
            "netd/src/dataplane/",
            "netd/src/serve/",
            "netd/src/session/",
            "netd/src/store/",
        ],
        why: "what files ask for is read and written, and acts on nothing",
    },
    Wall {
        room: "netd/src/metrics/",
        never: &["netd/src/apply/", "netd/src/dataplane/", "netd/src/serve/", "netd/src/store/"],
        why: "a scrape reads a session, and changes nothing",
    },
    Wall {
        room: "netd/src/check/",
        never: &["netd/src/apply/", "netd/src/serve/", "netd/src/session/", "netd/src/store/"],
        why: "a comparison changes nothing",
    },
    Wall {
        room: "netd/src/link/",
        never: &["netd/src/apply/", "netd/src/dataplane/", "netd/src/plan/", "netd/src/store/"],
        why: "link and dataplane do not know each other, nor who uses them",
    },
    Wall {
        room: "netd/src/dataplane/",
        never: &["netd/src/apply/", "netd/src/link/", "netd/src/plan/", "netd/src/store/"],
        why: "link and dataplane do not know each other, nor who uses them",
    },
    Wall {
        room: "netd/src/store/",
        never: &["netd/src/apply/", "netd/src/dataplane/", "netd/src/link/", "netd/src/plan/"],
        why: "the state file is written and read, and acts on nothing",
    },
    Wall {
        room: "netd/src/runs/",
        never: &[
            "netd/src/apply/",
            "netd/src/dataplane/",
            "netd/src/link/",
            "netd/src/netns.rs",
            "netd/src/observe/",
            "netd/src/plan/",
            "netd/src/session/",
            "netd/src/store/",
        ],
        why: "output is kept whatever becomes of its container",
    },
    Wall {
        room: "netd/src/observe/",
        never: &["netd/src/apply/", "netd/src/plan/", "netd/src/session/", "netd/src/store/"],
        why: "an observation does not depend on what is asked for",
    },
];

/// The library's first file, and its public modules. Other crates use everything else by its re-exports.
pub(crate) const DOOR: (&str, &[&str]) = ("netd/src/lib.rs", &["internals", "report"]);

/// The longest file, in lines.
pub(crate) const FILE_LINES: usize = 700;

/// The longest function, in lines.
pub(crate) const FUNCTION_LINES: usize = 100;
