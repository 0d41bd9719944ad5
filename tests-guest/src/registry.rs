//! The guest's tests: one static entry each in a section of its own, which the runner reads without booting.

use crate::report::Out;
use wire::entry::TestEntry;

/// A test: it writes what it does and sees to its [`Out`].
pub type Test = fn(&mut Out);

unsafe extern "C" {
    static __kmt_tests_start: u8;
    static __kmt_tests_end: u8;
}

/// The test of that name; the first one if no name is given.
pub(crate) fn find(name: Option<&[u8]>) -> Option<&'static TestEntry<Test>> {
    let (start, end) = (&raw const __kmt_tests_start, &raw const __kmt_tests_end);
    let count = (end.addr() - start.addr()) / size_of::<TestEntry<Test>>();
    // SAFETY: the linker script puts the entries, and nothing else, between the two symbols.
    let tests: &'static [TestEntry<Test>] = unsafe { core::slice::from_raw_parts(start.cast(), count) };
    tests.iter().find(|test| name.is_none_or(|name| self::name(test).as_bytes() == name))
}

/// The test's name.
pub(crate) fn name(test: &TestEntry<Test>) -> &str {
    let len = test.name.iter().position(|&byte| byte == 0).unwrap_or(test.name.len());
    // SAFETY: `TestEntry::new` copied it from a str and padded it with zeros.
    unsafe { core::str::from_utf8_unchecked(&test.name[..len]) }
}

/// Makes the binary a guest: the entry, with the binary's name as the family's.
#[macro_export]
macro_rules! family {
    () => {
        /// Called by the entry with the GPA of `hvm_start_info` and whether it was PVH's.
        #[unsafe(no_mangle)]
        extern "C" fn guest_start(start_info: u64, pvh: u32) -> ! {
            $crate::boot::start(start_info, pvh, env!("CARGO_BIN_NAME"))
        }
    };
}

/// A test: name, summary, needs, the least number of points that it makes (see [`wire::entry::TestEntry`]), and what it
/// does.
#[macro_export]
macro_rules! test {
    ($name:literal, $summary:literal, $needs:expr, points = $points:literal, $run:expr) => {
        const _: () = {
            #[used]
            // The linker script sorts by the number, so that tests are listed in the order of the source.
            #[unsafe(link_section = concat!(".kmt_tests.", line!()))]
            static ENTRY: wire::entry::TestEntry<$crate::registry::Test> =
                wire::entry::TestEntry::new($name, $summary, $needs, $points, $run);
        };
    };
}
