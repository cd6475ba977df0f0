//! Packets through the programs one at a time (BPF_PROG_TEST_RUN): what comes out, what verdict, and which counters moved.
