//! cargo-fuzz's target for input `suite`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    (kvm_memtype::inputs::find("suite").expect("the input").read)(data);
});
