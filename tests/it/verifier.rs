//! Loads every program and compares its verified instructions with a budget. Unlike times, these numbers are the same
//! on every machine.

/// The most instructions that the verifier may process for one program: far below the kernel's limit of a million,
/// because the first command waits for it. 6.1 walks several times as many as later kernels.
const WALKED: u32 = 130_000;
/// The most translated bytes that each program may have (`bpf_prog_info.xlated_prog_len`).
const BUDGET: [(&str, u32); 55] = [
    ("uplink_xdp", 14_500),
    ("early_drop", 15_000),
    ("early_drop6", 18_500),
    ("uplink_ingress", 9000),
    ("tunnel_ingress", 9_500),
    ("container_ingress", 13_500),
    ("bridge_egress", 1_600),
    ("conntrack", 21_000),
    ("conntrack6", 30_000),
    ("hold", 900),
    ("conntrack_new", 21_000),
    ("conntrack_new6", 30_000),
    ("uplink_new", 32_000),
    ("uplink_new6", 47_000),
    ("container_new", 9_000),
    ("container_new6", 18_000),
    ("forward", 27_000),
    ("forward6", 39_000),
    ("icmp_error", 9_000),
    ("icmp_error6", 19_400),
    ("answer", 5_000),
    ("answer6", 10_000),
    ("report", 10_000),
    ("hairpin", 31_000),
    ("hairpin6", 48_000),
    ("masquerade", 29_000),
    ("masquerade6", 40_000),
    ("fragment_queue", 9_000),
    ("fragment_queue6", 18_000),
    ("fragment_first", 12_000),
    ("fragment_first6", 20_000),
    ("broadcast", 8_000),
    ("nat64", 12_000),
    ("nat46_track", 22_000),
    ("nat46_track_new", 23_000),
    ("nat46", 12_000),
    ("direct", 24_000),
    ("direct6", 40_000),
    ("enlist", 7_200),
    ("enlist6", 7_600),
    ("move_flow", 22_500),
    ("move_flow6", 23_000),
    ("reclaim", 5_000),
    ("reclaim6", 5_500),
    ("connect4", 2_800),
    ("connect6", 6_000),
    ("sendmsg4", 3_600),
    ("sendmsg6", 6_000),
    ("recvmsg4", 600),
    ("recvmsg6", 600),
    ("getpeername4", 600),
    ("getpeername6", 600),
    ("sock_release", 800),
    ("bind4", 2_800),
    ("bind6", 8_400),
];

#[test]
fn every_program_loads_within_its_budget() {
    netd_tests::need_root();
    let object = netd::internals::load(1, netd_common::abi::capacity::CONNECTIONS)
        .unwrap_or_else(|error| panic!("{}", error.chain()));
    let (mut seen, mut beyond) = (0, Vec::new());
    for (name, program) in object.programs() {
        let size = program.info().unwrap().size_translated().unwrap();
        let budget = BUDGET.iter().find(|(known, _)| *known == name);
        let (_, most) = budget.unwrap_or_else(|| panic!("{name} has no budget"));
        let walked = program.info().unwrap().verified_instruction_count().unwrap();
        println!("{name}: {size} bytes of {most}, {walked} walked");
        if walked > WALKED || size > *most {
            beyond.push(format!("{name}: {size} bytes of {most}, {walked} instructions walked of {WALKED}"));
        }
        seen += 1;
    }
    assert!(beyond.is_empty(), "beyond the budget: {}", beyond.join("; "));
    assert_eq!(seen, BUDGET.len());
}
