//! Every program through the kernel's verifier, with a budget of instructions: speed can be compared only inside one
//! run, but instructions are the same everywhere.

/// The most instructions that the verifier may walk through for one program: far below the million that the kernel allows,
/// because the first command waits for it.
const WALKED: u32 = 100_000;
/// The most translated bytes that each program may have (`bpf_prog_info.xlated_prog_len`).
const BUDGET: [(&str, u32); 47] = [
    ("uplink_xdp", 40_000),
    ("uplink_ingress", 8_000),
    ("container_ingress", 11_000),
    ("conntrack", 20_000),
    ("conntrack6", 26_000),
    ("conntrack_new", 20_000),
    ("conntrack_new6", 26_000),
    ("uplink_new", 24_000),
    ("uplink_new6", 38_000),
    ("container_new", 4_000),
    ("container_new6", 8_000),
    ("forward", 22_000),
    ("forward6", 36_000),
    ("icmp_error", 9_000),
    ("icmp_error6", 19_000),
    ("answer", 5_000),
    ("answer6", 10_000),
    ("report", 10_000),
    ("hairpin", 26_000),
    ("hairpin6", 40_000),
    ("masquerade", 26_000),
    ("masquerade6", 40_000),
    ("fragment_queue", 9_000),
    ("fragment_queue6", 18_000),
    ("fragment_first", 12_000),
    ("fragment_first6", 20_000),
    ("nat64", 12_000),
    ("nat46_track", 20_000),
    ("nat46_track_new", 20_000),
    ("nat46", 12_000),
    ("direct", 24_000),
    ("direct6", 40_000),
    ("enlist", 12_000),
    ("enlist6", 14_000),
    ("move_flow", 26_000),
    ("move_flow6", 30_000),
    ("reclaim", 12_000),
    ("reclaim6", 14_000),
    ("connect4", 2_800),
    ("connect6", 6_000),
    ("sendmsg4", 2_800),
    ("sendmsg6", 6_000),
    ("recvmsg4", 600),
    ("recvmsg6", 600),
    ("getpeername4", 600),
    ("getpeername6", 600),
    ("sock_release", 800),
];

#[test]
fn every_program_loads_within_its_budget() {
    netd_tests::need_root();
    let object = netd::internals::load(1, netd_common::abi::capacity::CONNECTIONS)
        .unwrap_or_else(|error| panic!("{}", error.chain()));
    let mut seen = 0;
    for (name, program) in object.programs() {
        let size = program.info().unwrap().size_translated().unwrap();
        let budget = BUDGET.iter().find(|(known, _)| *known == name);
        let (_, most) = budget.unwrap_or_else(|| panic!("{name} has no budget"));
        let walked = program.info().unwrap().verified_instruction_count().unwrap();
        println!("{name}: {size} bytes of {most}, {walked} walked");
        assert!(walked <= WALKED, "the verifier walked through {walked} instructions of {name}");
        assert!(size <= *most, "{name} has {size} translated bytes, the budget is {most}");
        seen += 1;
    }
    assert_eq!(seen, BUDGET.len());
}
