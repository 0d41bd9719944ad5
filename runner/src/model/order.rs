//! Message passing between two vCPUs: whether stores are seen in the order of the program.

use super::coherence::Promise;
use super::point::{Action, Effect, Prediction, Why};
use super::replay::{Decide, Replay};
use wire::coherence::Ordered;
use wire::memtype::MemType::Wc;

/// So often the reader must have seen the flag move, or else the vCPUs hardly ran at the same time and the right order
/// proves nothing. A vCPU that runs in turn with the other shows once in a time slice of the host, a few in a second.
const INTERLEAVED: u32 = 256;

impl<'p> Replay<'p> {
    /// Decides what a reader saw. A wrong order is one however seldom the flag moved.
    pub(super) fn ordered(&mut self, it: Ordered, decide: &mut impl Decide<'p>) {
        let Ordered { samples, moved, reordered, .. } = it;
        let predicted = if reordered == 0 && moved < INTERLEAVED {
            Err(Why::NotInterleaved { moved, samples })
        } else {
            self.order(&it)
        };
        decide(Action::Ordered(it), Effect::Passed { moved, reordered }, predicted);
    }

    fn order(&mut self, it: &Ordered) -> Result<Prediction<'p>, Why> {
        if it.fenced {
            return Ok(Promise::Fenced.predicts("order"));
        }
        let writer = self.mapping(it.writer, it.gpa, it.pat_entry)?.memtype;
        let reader = self.mapping(it.reader, it.gpa, it.pat_entry)?.memtype;
        let promise = match [writer, reader].into_iter().find(|&memtype| memtype == Wc) {
            Some(memtype) => Promise::WeakOrder { memtype },
            None => Promise::StrongOrder { memtype: writer },
        };
        Ok(promise.predicts("order"))
    }
}
