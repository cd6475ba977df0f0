//! The licence that the programs declare to the kernel: some helpers are for GPL programs only.

// SAFETY: the kernel reads the section of this name as the programs' licence; nothing else has it.
#[unsafe(link_section = "license")]
// SAFETY: no other symbol of the object has this name.
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
