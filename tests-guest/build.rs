//! Has the guests linked anew when the linker script changes: cargo does not look into the linker's arguments. A guest
//! that is a process of Linux has an entry of its own.

fn main() {
    println!("cargo::rerun-if-changed=guest.ld");
    println!("cargo::rustc-link-arg-bin=linux=-Wl,--entry=process_entry");
}
