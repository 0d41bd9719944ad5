//! The lines of a trace, as `trace_pipe` prints them: who did it, which event, and the words after it.

/// A line of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    /// An event.
    Event(Event<'a>),
    /// The ring buffer of a CPU overflowed: events are missing here, this many where the kernel knows.
    Lost(Option<u64>),
    /// Anything else: a heading, or a line that is none.
    Other,
}

/// An event in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// The thread in whose context it happened.
    pub tid: i32,
    /// When, by the instance's clock.
    pub time: &'a str,
    /// The event's name.
    pub name: &'a str,
    /// What it says, as its print format has it.
    pub text: &'a str,
}

impl<'a> Line<'a> {
    /// Reads a line such as `  kvm-memtype-137  [000] ...1.  24.455467: kvm_mmu_set_spte: gfn 1 ...`
    /// (`kernel/trace/trace_output.c`, `trace_print_context`), or `CPU:0 [LOST 123 EVENTS]` (`kernel/trace/trace.c`,
    /// `print_trace_line`).
    pub fn parse(line: &'a str) -> Line<'a> {
        if let Some((_, lost)) = line.split_once("[LOST ").filter(|_| line.starts_with("CPU:")) {
            return Line::Lost(lost.split(' ').next().and_then(|count| count.parse().ok()));
        }
        Line::event(line).map_or(Line::Other, Line::Event)
    }

    /// A thread's name may hold anything, so what follows it is looked for: ` [CPU]`, at most one word of flags, the time
    /// and the event's name.
    fn event(line: &'a str) -> Option<Event<'a>> {
        line.match_indices(" [").find_map(|(at, _)| {
            let (cpu, rest) = line[at + 2..].split_once(']')?;
            let is_cpu = !cpu.is_empty() && cpu.bytes().all(|byte| byte.is_ascii_digit());
            let (flags_and_time, event) = rest.split_once(": ").filter(|_| is_cpu)?;
            let mut words = flags_and_time.split_whitespace();
            let (time, flags) = (words.next_back()?, words.count());
            let is_time = flags <= 1 && time.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            let (name, text) = event.split_once(':').filter(|_| is_time)?;
            // With the option record-tgid, `(  123)` follows the thread.
            let thread = line[..at].trim_end();
            let thread = thread.strip_suffix(')').and_then(|it| it.rsplit_once('(')).map_or(thread, |(it, _)| it);
            let tid = thread.trim_end().rsplit('-').next()?.parse().ok()?;
            Some(Event { tid, time, name, text: text.trim() })
        })
    }
}

impl Event<'_> {
    /// The number, in this radix, after a word in the event's text: `gfn 1a0 level 1`.
    pub fn number(&self, word: &str, radix: u32) -> Option<u64> {
        let mut words = self.text.split_whitespace();
        words.find(|&it| it == word)?;
        u64::from_str_radix(words.next()?, radix).ok()
    }

    /// The hexadecimal number of a field, as kprobes print them: `start=0x1a0`.
    pub fn field(&self, name: &str) -> Option<u64> {
        let value = |word: &str| Some(word.strip_prefix(name)?.strip_prefix("=0x")?.to_owned());
        u64::from_str_radix(&self.text.split_whitespace().find_map(value)?, 16).ok()
    }

    /// The time in ticks of the time-stamp counter, where that is the instance's clock.
    pub fn ticks(&self) -> Option<u64> {
        self.time.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn events_of_stock_kernels_are_read() {
        // Linux 6.12 and 6.1 on Bochs, and names of threads as other VMMs have them.
        let changed = "     kvm-memtype-137     [000] .B.1.    24.455467: kvm_tdp_mmu_spte_changed: as id 0 gfn 1a level 1 \
                       old_spte 8600000003700b77 new_spte 8000000000000000";
        let Line::Event(event) = Line::parse(changed) else { panic!("{changed}") };
        assert_eq!((event.tid, event.name), (137, "kvm_tdp_mmu_spte_changed"));
        assert_eq!((event.number("gfn", 16), event.number("level", 10)), (Some(0x1a), Some(1)));
        assert_eq!(event.number("old_spte", 16), Some(0x8600_0000_0370_0b77));
        assert_eq!(event.number("new_spte", 16), Some(1 << 63));
        assert_eq!((event.number("nothing", 16), event.number("1", 16)), (None, None));
        for (line, tid) in [
            ("           <...>-103     [000] ...1.    16.881121: kvm_mmu_set_spte: gfn 1", 103),
            ("  CPU 0/KVM [x]-7 [1]-4711    [127] d..1. 1216.881121: kvm_mmu_set_spte: gfn 1", 4711),
            ("    kvm-memtype-97      (     97) [000] ...1.    16.614889: kvm_mmu_set_spte: gfn 1", 97),
            ("    kvm-memtype-97      (-------) [000] ...1.    16.614889: kvm_mmu_set_spte: gfn 1", 97),
        ] {
            let Line::Event(event) = Line::parse(line) else { panic!("{line}") };
            assert_eq!((event.tid, event.name, event.text), (tid, "kvm_mmu_set_spte", "gfn 1"), "{line}");
            assert_eq!(event.ticks(), None);
        }
    }

    #[test]
    fn lost_events_are_not_silent() {
        assert_eq!(Line::parse("CPU:3 [LOST 388985 EVENTS]"), Line::Lost(Some(388_985)));
        assert_eq!(Line::parse("CPU:0 [LOST EVENTS]"), Line::Lost(None));
        assert_eq!(Line::parse("# tracer: nop"), Line::Other);
        assert_eq!(Line::parse("##### CPU 1 buffer started ####"), Line::Other);
        assert_eq!(Line::parse("  kvm-memtype-1 [000] ...1. x: kvm_mmu_set_spte: gfn 1"), Line::Other);
    }

    proptest! {
        #[test]
        fn any_text_is_a_line(text in "\\PC*", word in "\\PC*") {
            if let Line::Event(event) = Line::parse(&text) {
                event.number(&word, 16);
                event.field(&word);
                event.ticks();
            }
        }

        #[test]
        fn a_line_reads_whatever_the_thread_is_called(comm in "[a-z \\[\\]:.()/-]{0,15}", tid in 1..4_194_304, cpu in 0..8192u32) {
            let line = format!("{comm:>16}-{tid:<7} [{cpu:03}] d..1.  1216.881121: kvm_cr: cr_write 0 = 0x80000033");
            let (time, name) = ("1216.881121", "kvm_cr");
            prop_assert_eq!(Line::parse(&line), Line::Event(Event { tid, time, name, text: "cr_write 0 = 0x80000033" }));
        }
    }
}
