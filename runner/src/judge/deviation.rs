//! Deviations: known differences from the policy, each with an id and a reason, that turn fail into xfail.

use super::ending::{EndKind, Suberror};
use crate::config::{self, ConfigError, Source};
use crate::host::facts::{Fact, Facts};
use crate::machine::End;
use crate::model::leaf::LeafType;
use crate::model::memtype::LookupFault;
use crate::model::policy::{BitRange, MsrRange, When};
use crate::model::{Action, Class, Decision, Effect, Rule};
use crate::plan::pattern::{Patterns, fits, matches};
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;
use wire::memtype::EptType;
use wire::register::Register;

/// A register of which a deviation speaks: `"cr0"`, or MSRs such as `"0x200-0x20f"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
enum Registers {
    Cr0,
    Msrs(MsrRange),
}

impl TryFrom<String> for Registers {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "cr0" { Ok(Registers::Cr0) } else { MsrRange::try_from(text).map(Registers::Msrs) }
    }
}

impl Registers {
    fn has(self, register: Register) -> bool {
        match (self, register) {
            (Registers::Cr0, Register::Cr0) => true,
            (Registers::Msrs(msrs), Register::Msr(index)) => msrs.has(index),
            _ => false,
        }
    }
}

/// Points that a deviation excuses.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct PointExcuse {
    /// The registers; without any, points that touch no register.
    #[serde(default)]
    registers: Vec<Registers>,
    /// What is predicted.
    expected: Class,
    /// What is seen.
    seen: Class,
    /// Of two values, the bits in which they may differ; all of them where there is no such word. Where a write should
    /// be refused, the values are the one written and the one that the register then holds.
    bits: Option<BitRange>,
}

impl PointExcuse {
    /// Whether it excuses a point of this register, if it is of one.
    fn excuses(&self, action: Action, expected: Effect, seen: Effect) -> bool {
        let registers = match action.register() {
            Some(register) => self.registers.iter().any(|registers| registers.has(register)),
            None => self.registers.is_empty(),
        };
        let wanted = match action {
            Action::Write(_, written) if self.expected == Class::Refused => Some(written),
            _ => expected.value(),
        };
        let bits = match (self.bits.and_then(|bits| bits.mask(None)), wanted, seen.value()) {
            (Some(bits), Some(wanted), Some(seen)) => (wanted ^ seen) & !bits == 0,
            (bits, ..) => bits.is_none(),
        };
        registers && bits && (expected.class(action), seen.class(action)) == (self.expected, self.seen)
    }
}

/// Whether it excuses a leaf of the type that KVM's own lookup in the guest's MTRRs gives, where `fault` makes that another
/// one than the SDM's.
fn excuses_leaf(fault: LookupFault, rule: Rule, seen: Effect) -> bool {
    match rule {
        Rule::GuestMtrr { kvm: Some((memtype, found)), .. } => {
            found == fault && seen == Effect::Leaf(LeafType::Ept(EptType { memtype, ignore_pat: false }))
        }
        _ => false,
    }
}

/// An ending that a deviation excuses.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct EndExcuse {
    /// Its kind.
    end: EndKind,
    /// Of an internal error, why KVM gave up.
    suberror: Option<Suberror>,
    /// Of an internal error, the first instruction bytes, as two hexadecimal digits each: `"66 0f ae"`.
    #[serde(default)]
    bytes: String,
}

impl EndExcuse {
    fn excuses(&self, kind: EndKind, end: &End) -> bool {
        let details = match end {
            End::InternalError { suberror, bytes, .. } => {
                let wanted = self.bytes.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).ok());
                let found = bytes.iter().map(|&byte| Some(byte)).chain(std::iter::repeat(None));
                self.suberror.is_some_and(|wanted| wanted as u32 == *suberror)
                    && wanted.zip(found).all(|(wanted, found)| wanted == found)
            }
            _ => true,
        };
        self.end == kind && details
    }
}

/// One known difference.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Deviation {
    id: Spanned<String>,
    /// Why it is so.
    pub reason: String,
    /// How it is known.
    pub source: String,
    /// It is there where one of these holds.
    when: Spanned<Vec<When>>,
    /// The tests that show it, as `family/test` with `*` for any text.
    tests: Patterns,
    /// The points that it excuses.
    #[serde(default)]
    points: Vec<PointExcuse>,
    /// Tests whose histories are drawn at random: it may show there or not.
    sometimes: Option<Patterns>,
    /// The leaf SPTEs that it excuses: those for which KVM's own lookup in the guest's MTRRs errs in this way.
    leaves: Option<LookupFault>,
    /// The endings that it excuses.
    #[serde(default)]
    ends: Vec<EndExcuse>,
    /// The lines of the kernel's log that it excuses, each by a part of it with `*` for any text.
    #[serde(default)]
    kernel_log: Vec<String>,
    /// It shows once a boot of the host at most, as a WARN_ON_ONCE does: that it does not show is no news.
    #[serde(default)]
    once_a_boot: bool,
}

impl Deviation {
    /// Its id.
    pub fn id(&self) -> &str {
        self.id.get_ref()
    }

    /// Whether it may show in a test.
    pub fn applies(&self, test: &str, facts: &Facts) -> bool {
        let holds = |facts: &Facts| self.when.get_ref().iter().any(|when| when.holds(facts));
        let names = |patterns: &Patterns| patterns.get_ref().iter().any(|pattern| fits(pattern.get_ref(), test));
        match &self.sometimes {
            // Whether a device is there from the start says nothing of a history, which may plug it in.
            Some(sometimes) if names(sometimes) => [false, true].into_iter().any(|dma| {
                let mut facts = facts.clone();
                facts.set("non-coherent-dma", Fact::Bool(dma));
                holds(&facts)
            }),
            _ => names(&self.tests) && holds(facts),
        }
    }

    /// Whether it excuses a point.
    pub fn excuses(&self, decision: &Decision<'_>) -> bool {
        let Ok(prediction) = decision.predicted else { return false };
        let Decision { action, seen, .. } = *decision;
        match action {
            Action::Leaf { .. } => self.leaves.is_some_and(|fault| excuses_leaf(fault, prediction.rule, seen)),
            _ => self.points.iter().any(|excuse| excuse.excuses(action, prediction.expected, seen)),
        }
    }

    /// Whether it excuses an ending of that kind.
    pub fn excuses_end(&self, kind: EndKind, end: &End) -> bool {
        self.ends.iter().any(|excuse| excuse.excuses(kind, end))
    }

    /// Whether it excuses a line of the kernel's log.
    pub fn excuses_kernel_log(&self, line: &str) -> bool {
        self.kernel_log.iter().any(|part| fits(&format!("*{part}*"), line))
    }

    /// Whether it must show in a test to which it applies, with the kernel's log watched or not.
    pub fn must_show(&self, test: &str, log_watched: bool) -> bool {
        if !self.tests.get_ref().iter().any(|pattern| fits(pattern.get_ref(), test)) {
            return false;
        }
        let by_log_alone = self.points.is_empty() && self.leaves.is_none() && self.ends.is_empty();
        !self.once_a_boot && (log_watched || !by_log_alone)
    }
}

/// All known differences.
#[derive(Debug, Clone, Default)]
pub struct Deviations(Vec<Deviation>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    deviation: Vec<Deviation>,
}

impl Deviations {
    /// Reads deviations, any number in a file. `tests` are the names of all tests, as `family/test`.
    ///
    /// # Errors
    /// The first mistake, with its place: among them an id that is given twice, or a deviation that excuses nothing or
    /// shows nowhere.
    pub fn load<'a>(
        sources: impl IntoIterator<Item = &'a Source>,
        tests: &[String],
    ) -> Result<Deviations, ConfigError> {
        let (mut all, mut ids) = (Vec::new(), BTreeMap::new());
        for source in sources {
            for deviation in config::parse::<File>(source)?.deviation {
                check(source, &deviation, tests)?;
                if let Some(other) = ids.insert(deviation.id().to_owned(), source.name.clone()) {
                    let message = format!("deviation `{}` is in {other} already", deviation.id());
                    return Err(ConfigError::at(source, deviation.id.span(), message));
                }
                all.push(deviation);
            }
        }
        Ok(Deviations(all))
    }

    /// No known differences: what is not as predicted fails.
    pub fn none() -> Deviations {
        Deviations::default()
    }

    /// All of them, in the order of the files.
    pub fn iter(&self) -> impl Iterator<Item = &Deviation> {
        self.0.iter()
    }
}

/// What the fields' types do not say.
fn check(source: &Source, deviation: &Deviation, tests: &[String]) -> Result<(), ConfigError> {
    matches(source, &deviation.tests, "test", tests)?;
    deviation.sometimes.iter().try_for_each(|patterns| matches(source, patterns, "test", tests).map(drop))?;
    if deviation.when.get_ref().is_empty() {
        return Err(ConfigError::at(source, deviation.when.span(), "no condition is named here, so it never applies"));
    }
    let bad = |what: &str| {
        let message = format!("deviation `{}`: {what}", deviation.id());
        Err(ConfigError::at(source, deviation.id.span(), message))
    };
    let mut bytes = deviation.ends.iter().flat_map(|end| end.bytes.split_whitespace());
    let Deviation { points, leaves, ends, kernel_log, .. } = deviation;
    if points.is_empty() && leaves.is_none() && ends.is_empty() && kernel_log.is_empty() {
        return bad("it excuses no `points`, no `leaves`, no `ends` and no `kernel-log`");
    }
    if deviation.kernel_log.iter().any(|part| part.trim_matches(['*', ' ']).is_empty()) {
        return bad("a part of a line in `kernel-log` is empty, so it fits every line");
    }
    if bytes.any(|byte| byte.len() != 2 || u8::from_str_radix(byte, 16).is_err()) {
        return bad("`bytes` are two hexadecimal digits each, with spaces between them");
    }
    for end in &deviation.ends {
        match (end.end == EndKind::InternalError, end.suberror.is_some(), !end.bytes.trim().is_empty()) {
            (true, true, true) | (false, false, false) => {}
            (true, ..) => return bad("an internal error needs a `suberror` and `bytes`, or it could be any"),
            (false, ..) => return bad("only an internal error has a `suberror` and `bytes`"),
        }
    }
    let same = |excuse: &PointExcuse| excuse.expected == excuse.seen && excuse.seen != Class::Value;
    if deviation.points.iter().any(same) {
        return bad("what is expected and what is seen are the same");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::memtype::MemType;

    fn load(text: &str) -> Result<Deviations, ConfigError> {
        Deviations::load(
            [&Source { name: "configs/deviations/x.toml".into(), text: text.into() }],
            &["family/test".into()],
        )
    }

    #[test]
    fn a_mistake_is_placed() {
        let said = |text: &str| load(text).unwrap_err().to_string();
        let deviation = |extra: &str| {
            format!(
                "[[deviation]]\nid = \"a\"\nreason = \"r\"\nsource = \"s\"\n\
                 when = [{{ machine = \"kvm\" }}]\ntests = [\"family/*\"]\n{extra}"
            )
        };
        assert!(
            said(&deviation("")).starts_with("configs/deviations/x.toml:2:6: deviation `a`: it excuses no `points`")
        );
        let ends = deviation("ends = [{ end = \"halt\" }]\n");
        assert!(said(&format!("{ends}{ends}")).contains(":9:6: deviation `a` is in configs/deviations/x.toml already"));
        let every = deviation("kernel-log = [\"* *\"]\n");
        assert!(said(&every).contains("it fits every line"), "{}", said(&every));
        let odd = deviation("ends = [{ end = \"internal-error\", bytes = \"66f\" }]\n");
        assert!(said(&odd).contains("two hexadecimal digits"));
        let any = deviation("ends = [{ end = \"internal-error\", bytes = \"66\" }]\n");
        assert!(said(&any).contains("needs a `suberror` and `bytes`"));
        let more = deviation("ends = [{ end = \"halt\", suberror = \"emulation\" }]\n");
        assert!(said(&more).contains("only an internal error has"));
        let typo = deviation("ends = [{ end = \"hlt\" }]\n");
        assert!(said(&typo).contains("did you mean `halt`"), "{}", said(&typo));
        let changed = |from: &str, to: &str| {
            let text = ends.replace(from, to);
            assert_ne!(text, ends);
            said(&text)
        };
        let leaf = deviation("leaves = 'uc-abvoe'\n");
        assert!(said(&leaf).contains("did you mean `uc-above`"), "{}", said(&leaf));
        let same = deviation("points = [{ expected = 'accepted', seen = 'accepted' }]\n");
        assert!(said(&same).contains("what is expected and what is seen are the same"));
        let fact = changed("machine", "machin");
        assert!(fact.contains(":5:11: unknown fact `machin`, did you mean `machine`?"), "{fact}");
        let never = changed("[{ machine = \"kvm\" }]", "[]");
        assert!(never.contains(":5:8: no condition is named here"), "{never}");
        let nowhere = changed("\"family/*\"", "\"family/*\", \"family/tset\"");
        assert!(nowhere.contains(":6:22: unknown test `family/tset`, did you mean `family/test`?"), "{nowhere}");
        assert!(changed("\"family/*\"", "").contains(":6:9: no test is named here"));
    }

    /// Of a test, only the pages for which KVM's lookup errs in the way that it does are excused.
    #[test]
    fn a_leaf_is_excused_by_the_lookup_of_kvm_alone() {
        let leaf = |memtype| Effect::Leaf(LeafType::Ept(EptType { memtype, ignore_pat: false }));
        let excuses =
            |kvm, seen| excuses_leaf(LookupFault::UcAbove, Rule::GuestMtrr { memtype: MemType::Wb, kvm }, seen);
        assert!(excuses(Some((MemType::Uc, LookupFault::UcAbove)), leaf(MemType::Uc)));
        assert!(!excuses(Some((MemType::Uc, LookupFault::UcAbove)), leaf(MemType::Wc)));
        assert!(!excuses(Some((MemType::Uc, LookupFault::ShortMask)), leaf(MemType::Uc)));
        assert!(!excuses(None, leaf(MemType::Uc)));
        assert!(!excuses_leaf(LookupFault::UcAbove, Rule::LeafAlways, leaf(MemType::Uc)));
    }

    /// In a history it may show or not, and whether the device is there from the start does not matter.
    #[test]
    fn a_deviation_may_show_in_a_history() {
        let text = "[[deviation]]\nid = 'a'\nreason = 'r'\nsource = 's'\nwhen = [{ non-coherent-dma = true }]\n\
                    tests = ['family/test']\nsometimes = ['other/*']\nleaves = 'uc-above'\n";
        let source = Source { name: "configs/deviations/x.toml".into(), text: text.into() };
        let all = Deviations::load([&source], &["family/test".into(), "other/test".into()]).unwrap();
        let (deviation, facts) = (all.iter().next().unwrap(), Facts::default());
        assert!(!deviation.applies("family/test", &facts) && deviation.applies("other/test", &facts));
        assert!(deviation.must_show("family/test", true) && !deviation.must_show("other/test", true));
    }
}
