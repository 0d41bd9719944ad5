//! Changes of an input, drawn by a seed: bits, bytes, ranges, numbers and words, of itself and of others.

use crate::corpus::Corpus;
use fastrand::Rng;

/// The most bytes of an input.
const MOST: usize = 64 << 10;
/// Numbers at which something may overflow.
const NUMBERS: [&str; 12] = [
    "0",
    "1",
    "7f",
    "ff",
    "ffff",
    "10000",
    "80000000",
    "ffffffff",
    "7fffffffffffffff",
    "8000000000000000",
    "ffffffffffffffff",
    "18446744073709551616",
];

/// Input `number` of that seed.
pub fn draw(corpus: &Corpus, seed: u64, number: u64, input: &mut Vec<u8>) {
    // Neighbouring seeds draw alike at first, so they are spread.
    let mut rng = Rng::with_seed((seed << 48 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    input.clear();
    input.extend_from_slice(&pick(corpus, &mut rng));
    for _ in 0..1 << rng.u32(0..4) {
        change(corpus, &mut rng, input);
    }
    input.truncate(MOST);
}

fn pick<'a>(corpus: &'a Corpus, rng: &mut Rng) -> std::borrow::Cow<'a, [u8]> {
    (&corpus.inputs[rng.usize(0..corpus.inputs.len())].1[..]).into()
}

/// A range of up to `most` of so many bytes.
fn range(rng: &mut Rng, len: usize, most: usize) -> std::ops::Range<usize> {
    let start = rng.usize(0..=len);
    start..start + rng.usize(0..=most.min(len - start))
}

fn change(corpus: &Corpus, rng: &mut Rng, input: &mut Vec<u8>) {
    let len = input.len();
    match rng.u32(0..12) {
        0 | 1 if len > 0 => input[rng.usize(0..len)] ^= 1 << rng.u32(0..8),
        2 if len > 0 => input[rng.usize(0..len)] = rng.u8(..),
        3 => drop(input.drain(range(rng, len, 64))),
        4 if len < MOST => {
            let (at, copy) = (rng.usize(0..=len), input[range(rng, len, 256)].to_vec());
            input.splice(at..at, copy);
        }
        5 => {
            let other = pick(corpus, rng);
            let (at, part) = (range(rng, len, 256), range(rng, other.len(), 256));
            input.splice(at, other[part].iter().copied());
        }
        6 | 7 => {
            let number = NUMBERS[rng.usize(0..NUMBERS.len())];
            input.splice(digits(rng, input), number.bytes());
        }
        8 | 9 if !corpus.words.is_empty() => {
            let word = &corpus.words[rng.usize(0..corpus.words.len())];
            input.splice(digits(rng, input), word.iter().copied());
        }
        // Lines, which most inputs are made of: one goes, or comes again.
        10 => {
            let line = line(rng, input);
            input.drain(line);
        }
        _ if len < MOST => {
            let (line, at) = (line(rng, input), line(rng, input).start);
            let copy = input[line].to_vec();
            input.splice(at..at, copy);
        }
        _ => input.truncate(rng.usize(0..=len)),
    }
}

/// The word around some place, which may be empty.
fn digits(rng: &mut Rng, input: &[u8]) -> std::ops::Range<usize> {
    let at = rng.usize(0..=input.len());
    let start = input[..at].iter().rposition(|byte| !byte.is_ascii_alphanumeric()).map_or(0, |before| before + 1);
    let end = input[at..].iter().position(|byte| !byte.is_ascii_alphanumeric()).map_or(input.len(), |len| at + len);
    start..end
}

/// The line around some place, with its line feed.
fn line(rng: &mut Rng, input: &[u8]) -> std::ops::Range<usize> {
    let at = rng.usize(0..=input.len());
    let start = input[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |before| before + 1);
    let end = input[at..].iter().position(|&byte| byte == b'\n').map_or(input.len(), |len| at + len + 1);
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_number_draws_the_same_input_and_others_others() {
        let inputs = vec![("a".to_owned(), b"w 2ff 806 .\nr 277 1=0\n".to_vec()), ("b".to_owned(), Vec::new())];
        let corpus = Corpus { inputs, slow: Vec::new(), words: vec![b"w".to_vec()] };
        let draw = |seed, number| {
            let mut input = Vec::new();
            draw(&corpus, seed, number, &mut input);
            input
        };
        let all: std::collections::HashSet<Vec<u8>> = (0..1000).map(|number| draw(1, number)).collect();
        assert!(all.len() > 500, "{} different inputs of 1000", all.len());
        assert!((0..1000).all(|number| draw(1, number) == draw(1, number)));
        assert!((0..1000).any(|number| draw(1, number) != draw(2, number)));
    }
}
