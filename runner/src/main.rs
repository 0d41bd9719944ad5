//! The command line of kvm-memtype.

fn main() {}
