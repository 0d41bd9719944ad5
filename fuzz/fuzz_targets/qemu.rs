//! cargo-fuzz's target for input `qemu`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    (kvm_memtype::inputs::find("qemu").expect("the input").read)(data);
});
