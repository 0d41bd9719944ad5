//! cargo-fuzz's target for input `serial`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    (kvm_memtype::inputs::find("serial").expect("the input").read)(data);
});
