//! Has the ROM linked anew when the linker script changes: cargo does not look into the linker's arguments.

fn main() {
    println!("cargo::rerun-if-changed=rom.ld");
}
