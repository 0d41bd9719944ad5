//! cargo-fuzz's target for input `history`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    (kvm_memtype::inputs::find("history").expect("the input").read)(data);
});
