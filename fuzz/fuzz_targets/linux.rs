//! cargo-fuzz's target for input `linux`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    (kvm_memtype::inputs::find("linux").expect("the input").read)(data);
});
