//! cargo-fuzz's target for input `kernel-log`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    (kvm_memtype::inputs::find("kernel-log").expect("the input").read)(data);
});
