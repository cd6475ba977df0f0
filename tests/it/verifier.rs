//! Every program through the kernel's verifier, with a budget of instructions: speed can be compared only inside one
//! run, but instructions are the same everywhere.

/// The most translated bytes that each program may have (`bpf_prog_info.xlated_prog_len`).
const BUDGET: [(&str, u32); 23] = [
    ("uplink_ingress", 13_500),
    ("container_ingress", 13_500),
    ("follow", 30_000),
    ("follow6", 30_000),
    ("young", 30_000),
    ("young6", 30_000),
    ("uplink_first", 30_000),
    ("uplink_first6", 30_000),
    ("container_first", 60_000),
    ("container_first6", 60_000),
    ("icmp_error", 30_000),
    ("icmp_error6", 30_000),
    ("answer", 30_000),
    ("answer6", 30_000),
    ("report", 10_000),
    ("connect4", 3_400),
    ("connect6", 6_800),
    ("sendmsg4", 3_400),
    ("sendmsg6", 6_800),
    ("recvmsg4", 800),
    ("recvmsg6", 900),
    ("getpeername4", 800),
    ("getpeername6", 900),
];

#[test]
fn every_program_loads_within_its_budget() {
    netd_tests::need_root();
    let object = netd::dataplane::load(1).unwrap_or_else(|error| panic!("{}", error.chain()));
    let mut seen = 0;
    for (name, program) in object.programs() {
        let size = program.info().unwrap().size_translated().unwrap();
        let budget = BUDGET.iter().find(|(known, _)| *known == name);
        let (_, most) = budget.unwrap_or_else(|| panic!("{name} has no budget"));
        let walked = program.info().unwrap().verified_instruction_count().unwrap();
        println!("{name}: {size} bytes of {most}, {walked} walked");
        assert!(size <= *most, "{name} has {size} translated bytes, the budget is {most}");
        seen += 1;
    }
    assert_eq!(seen, BUDGET.len());
}
