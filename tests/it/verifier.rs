//! Every program through the kernel's verifier, with a budget of instructions: speed can be compared only inside one
//! run, but instructions are the same everywhere.

/// The most translated bytes that each program may have (`bpf_prog_info.xlated_prog_len`).
const BUDGET: [(&str, u32); 9] = [
    ("uplink_ingress", 13_500),
    ("container_ingress", 9_000),
    ("connect4", 2_400),
    ("connect6", 2_800),
    ("sendmsg4", 2_400),
    ("recvmsg4", 600),
    ("recvmsg6", 700),
    ("getpeername4", 600),
    ("getpeername6", 700),
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
        println!("{name}: {size} bytes of {most}");
        assert!(size <= *most, "{name} has {size} translated bytes, the budget is {most}");
        seen += 1;
    }
    assert_eq!(seen, BUDGET.len());
}
